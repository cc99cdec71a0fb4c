"""Events: what is written is what is read, for every class, also by later versions."""

from __future__ import annotations

import json
import types
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from orchestrator.core import events
from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import (
    EVENT_TYPES,
    Event,
    RunNoted,
    ServerEvent,
    SessionEvent,
    TargetEvent,
    from_json,
    to_json,
)
from orchestrator.core.model import session_id
from orchestrator.core.proof import Check, CheckSets

RECORDED = Path(__file__).with_name("events.jsonl")
"""Records of version 1 as they lie in journals, every field set. Lines are only ever added."""

PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    bool: st.booleans(),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(timezones=st.just(UTC)),
    type(None): st.none(),
}


@cache
def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return every value that a field of this type may have; fails for a type it does not know."""
    hint = getattr(hint, "__supertype__", hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and issubclass(hint, Struct):
        hints = get_type_hints(hint)
        return st.builds(hint, **{each.name: values(hints[each.name]) for each in fields(hint)})
    if hint is CheckSets:
        return values(dict[str, tuple[Check, ...]]).map(CheckSets)
    inner = get_args(hint)
    if get_origin(hint) in {types.UnionType, Union}:
        return st.one_of([values(each) for each in inner])
    if get_origin(hint) is tuple and inner[1:] == (...,):
        return st.lists(values(inner[0]), max_size=3).map(tuple)
    if get_origin(hint) is tuple:
        return st.tuples(*map(values, inner))
    if get_origin(hint) is dict:
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=3)
    raise NotImplementedError(f"say how to draw a {hint}")


@cache
def recorded() -> list[tuple[str, dict[str, Any]]]:
    """Return type and fields of every recorded line."""
    lines = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
    return [(line["type"], line["body"]) for line in lines]


@pytest.mark.parametrize("kind", EVENT_TYPES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_event_survives_the_journal(kind: str, data: st.DataObject) -> None:
    """Whatever is in an event, what comes back from JSON is equal and of the same class."""
    wanted: Any = EVENT_TYPES[kind]
    event: Event = data.draw(values(wanted))

    back = from_json(kind, to_json(event))

    assert back == event
    assert type(back) is EVENT_TYPES[kind]


def test_every_event_class_is_known_to_the_journal() -> None:
    """No class can be recorded that cannot be read again."""
    made = {
        name: found
        for name, found in vars(events).items()
        if isinstance(found, type)
        and issubclass(found, Event)
        and found not in {Event, TargetEvent, ServerEvent, SessionEvent}
    }

    assert made == EVENT_TYPES


@pytest.mark.parametrize(("kind", "body"), recorded(), ids=lambda value: str(value)[:20])
def test_what_version_1_wrote_is_read_in_full(kind: str, body: dict[str, Any]) -> None:
    """No field of an old journal is lost or read as something else."""
    event = from_json(kind, json.dumps(body))

    assert json.loads(to_json(event)) == body


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_field_of_every_class_is_among_the_recorded_ones(kind: str) -> None:
    """A new class or field needs a recorded line, or nobody would notice its loss."""
    seen = {field for name, body in recorded() if name == kind for field in body}

    assert seen == {each.name for each in fields(EVENT_TYPES[kind])}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_only_needed_fields_are_needed(kind: str) -> None:
    """A record from before a field existed reads as if it had its default."""
    for name, body in recorded():
        if name == kind:
            needed = {
                each.name
                for each in fields(EVENT_TYPES[kind])
                if each.default is NODEFAULT and each.default_factory is NODEFAULT
            }
            short = {field: body[field] for field in needed}

            assert json.loads(to_json(from_json(kind, json.dumps(short)))) == short


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Event", b'{"at":0}'),
        ("TargetEvent", b'{"at":0,"key":"k"}'),
        ("RunNoted2", b"{}"),
        ("", b""),
        ("RunNoted", b""),
        ("RunNoted", b"[]"),
        ("RunNoted", b'{"at":0}'),
        ("RunNoted", b'{"at":"noon","message":"m"}'),
        ("RunNoted", b'{"at":0,"message":5}'),
        ("RunNoted", b'{"at":0,"message":"\xff"}'),
        ("TaskObserved", b'{"at":0,"key":"k","task":"t","state":"Resting"}'),
    ],
)
def test_what_is_no_event_is_damage(kind: str, text: bytes) -> None:
    """A record that fits no class is never read as another one."""
    with pytest.raises(JournalDamaged):
        from_json(kind, text)


def test_events_are_facts() -> None:
    """Nobody can change an event after it happened."""
    event = RunNoted(at=1.0, message="m")

    with pytest.raises(AttributeError, match="immutable"):
        event.message = "n"  # type: ignore[misc]  # that it is refused is the point


def test_the_guid_of_a_session_in_an_old_journal_is_read_as_its_name() -> None:
    """A public client makes its token of the GUID: nothing that is shown may hold it."""
    guid = "6FC27D4E-1f0e-4c1b-8b2a-0d6a5b1f9c11"
    text = f'{{"at": 1, "server": "hq", "session": "{guid}"}}'

    event = from_json("SessionTakenUp", text)

    assert isinstance(event, events.SessionTakenUp)
    assert event.session == session_id(guid.lower())
    assert from_json("SessionTakenUp", to_json(event)) == event
    assert guid[:8].lower() not in to_json(event).decode().lower()
