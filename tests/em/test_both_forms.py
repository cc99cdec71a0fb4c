"""Laws of the two forms: the same answer in XML and JSON is one value, however it is written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.errors import MalformedResponse
from orchestrator.em.elements import Reading
from orchestrator.em.masking import Masked, Masks
from tests.em.both_forms import WAYS, Thing, Way, answers, in_json, in_xml
from tests.em.documents import POINT, SAMPLES, read
from tests.em.test_json_samples import JSON, READINGS, XML


def outcome(reading: Reading[Any], data: bytes) -> Any:
    """Return the value, or that there is none."""
    try:
        return reading.whole(data)
    except MalformedResponse:
        return "refused"


@settings(deadline=None)
@given(answers(), WAYS)
def test_an_answer_is_one_value_in_either_form(answer: Thing, way: Way) -> None:
    """Whatever is asked for; in every case of names, with nulls or without, in any order."""
    document, text = in_xml(answer), in_json(answer, way)

    for kind, reading in READINGS.items():
        assert outcome(reading(JSON), text) == outcome(reading(XML), document), kind


@settings(deadline=None)
@given(answers(), WAYS, st.integers(1, 40))
def test_an_answer_in_pieces_is_the_same_value(answer: Thing, way: Way, size: int) -> None:
    """However small they are, and with secrets masked or without."""
    data = in_json(answer, way)
    masks = Masks([POINT, "Finished"])

    for reading in READINGS.values():
        assert in_pieces(reading(JSON), data, size) == outcome(reading(JSON), data)
        masked = in_pieces(Masked(reading(JSON), masks), data, size)
        assert masked == outcome(Masked(reading(JSON), masks), data)


def in_pieces(reading: Reading[Any], data: bytes, size: int) -> Any:
    """Return the value of what comes piece by piece, or that there is none."""
    try:
        return read(reading, data, size)
    except MalformedResponse:
        return "refused"


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(SAMPLES.glob("*.json"))))
def test_any_damage_is_read_alike_in_one_piece_and_in_many(data: st.DataObject, path: Any) -> None:
    """A byte more, less or another one gives the same value or a refusal of the same class."""
    body = path.read_bytes()
    at = data.draw(st.integers(0, len(body)))
    inserted = data.draw(
        st.sampled_from([b"", b"{", b"}", b"[", b"]", b",", b'"', b"\\", b"\x00", b"\xff", b"NaN,"])
    )
    damaged = body[:at] + inserted + body[at + data.draw(st.integers(0, 2)) :]

    for reading in READINGS.values():
        assert in_pieces(reading(JSON), damaged, 7) == outcome(reading(JSON), damaged)


@pytest.mark.parametrize("kind", READINGS)
@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_refused(kind: str, data: bytes) -> None:
    """MalformedResponse is all that the readers raise."""
    outcome(READINGS[kind](JSON), data)
    outcome(READINGS[kind](JSON), b'{"TaskId":' + data + b"}")
