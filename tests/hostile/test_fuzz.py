"""Whatever comes in, each reader answers with a value or with its own error, and no other.

Seeded, so that a failure repeats: samples of the server and shipped plans are damaged by
`random.Random`, which reaches what no generator of valid things would.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from yarl import URL

from orchestrator.core.errors import ForbiddenAction, MalformedResponse, PlanError
from orchestrator.core.model import RunId
from orchestrator.em.elements import Reading
from orchestrator.em.error_bodies import words_of
from orchestrator.em.links import MOUNT_PATH, guard, mount_href, rerooted
from orchestrator.em.logon import clock_offset
from orchestrator.em.masking import Masked, Masks
from orchestrator.em.meanings import retry_after
from orchestrator.em.transport import Answer, Transport
from orchestrator.journal import State
from orchestrator.plan.choose.locked import load_any
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.plan.file.problems import Problem
from tests.em.documents import MOUNT, POINT, SAMPLES, read, sample
from tests.em.test_hostile_answers import READINGS
from tests.em.test_json_samples import JSON as JSON_CODEC
from tests.em.test_json_samples import READINGS as OF_EITHER

PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.yaml"))
BASE = "https://em01.dr.example:9398"
NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)

TOKENS = [
    *(b"<", b">", b"</", b"/>", b'"', b"'", b"&", b"&#x0;", b"&#xD800;", b"]]>", b"<![CDATA["),
    *(b"<!DOCTYPE t>", b"<?x y?>", b"<!--", b"-->", b"xmlns:a='b'", b"\x00", b"\xff", b"\xfe\xff"),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"\\u",
        b"\\ud800",
        b"null",
        b"1e999",
        b"-0",
        b"NaN",
        b"9" * 40,
    ),
    *(b"\xe2\x80\xae", b"\xc2\x9b", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\n", b"\t", b"\r\n"),
    *(b"- ", b": ", b"? ", b"| ", b"> ", b"!!python/object", b"*a", b"&a ", b"<<: ", b"---\n"),
    *(
        b"%YAML 9.9\n",
        b"${",
        b"}",
        b"${x:-}",
        b"~",
        b"0x1F",
        b"0o7",
        b"1:2:3",
        b"2026-13-45",
        b"yes",
    ),
    *(b"true", b"false", b"-1", b"1e5", b".inf", b"24h", b"999999999999h", b"0s", b"@", b"`", b"#"),
    *(b"https://evil.example/api/", b"?action=failover", b"..", b"%2e%2e%2f", b"1753-01-01", b""),
]


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return data with a few places overwritten, doubled, swapped, cut or spiked."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        until = min(len(data), at + rng.choice([0, 1, 2, 8, 40, 400]))
        piece = data[at:until]
        match rng.randrange(6):
            case 0:
                data = data[:at] + rng.choice(TOKENS) + data[until:]
            case 1:
                data = data[:at] + rng.choice(TOKENS) + data[at:]
            case 2:
                data = data[:until] + piece * rng.randint(1, 3) + data[until:]
            case 3:
                data = data[:at] + data[until:]
            case 4:
                data = data[:at] + rng.randbytes(rng.randint(1, 4)) + data[until:]
            case _:
                other = rng.randrange(len(data) + 1)
                data = data[:other] + piece + data[other:]
    return data


def rounds(seed: str, count: int) -> Iterator[random.Random]:
    """Yield as many generators, each of which repeats by its own seed."""
    for number in range(count):
        yield random.Random(f"{seed}-{number}")


# --- plans ------------------------------------------------------------------------------------


def problems_of(data: bytes, path: Path) -> tuple[object, ...]:
    """Return what is wrong with a plan: nothing, or at least one problem."""
    try:
        load_plan_text(data, path)
    except PlanError as exc:
        return exc.problems or ("refused without a reason",)
    return ()


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_damaged_plan_is_a_plan_or_problems_with_places(path: Path) -> None:
    """PlanError, with file, line and column within the file, is all that the loader raises."""
    whole = path.read_bytes()
    refused = 0
    for rng in rounds(path.stem, 60):
        data = damaged(rng, whole)
        problems = problems_of(data, path)
        refused += bool(problems)
        for problem in problems:
            assert isinstance(problem, Problem)
            assert 1 <= problem.position.line <= data.count(b"\n") + data.count(b"\r") + 2
            assert problem.position.column >= 1
            assert problem.message.strip()
            # a damaged name may be missed by a row of the plan's inventory file
            assert problem.file in {str(path), str(path.parent / "inventory/branch-vms.csv")}
            assert problem.file in str(problem)
    assert refused > 20


def test_any_bytes_are_no_plan(tmp_path: Path) -> None:
    """Neither as a plan nor as a locked one; a locked plan that was changed is refused."""
    path = tmp_path / "plan"
    heads = [b"", b'{"format": "bulk-restore-locked-plan", ', b"version: 1\n", b"\xef\xbb\xbf"]
    for rng in rounds("bytes", 150):
        pieces = [rng.choice([*TOKENS, rng.randbytes(3)]) for _ in range(rng.randint(0, 30))]
        path.write_bytes(rng.choice(heads) + b"".join(pieces))
        with pytest.raises(PlanError) as refusal:
            load_any(path)
        assert all(isinstance(problem, Problem) for problem in refusal.value.problems)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "&a [", "!!set {", "'"])
def test_a_plan_as_deep_as_it_is_long_is_refused(opening: str, tmp_path: Path) -> None:
    """No depth of nesting ends the program."""
    with pytest.raises(PlanError):
        load_plan_text(opening.encode() * 100_000, tmp_path / "plan.yaml")


# --- XML and JSON --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.xml")))
def test_a_damaged_answer_is_a_value_or_malformed(name: str) -> None:
    """MalformedResponse is all that the readers raise, whatever was asked for."""
    whole, longest = sample(name), 0
    for rng in rounds(name, 25):
        data = damaged(rng, whole)
        for reading in READINGS.values():
            try:
                read(reading(), data, rng.choice([7, 100, 1 << 20]))
            except MalformedResponse as exc:
                longest = max(longest, len(str(exc)))
        words = words_of(data)
        assert words is None or 0 < len(words) <= 300
    assert longest < 500


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.xml")))
def test_a_damaged_answer_means_the_same_in_one_piece_and_in_many(name: str) -> None:
    """A body that comes in one piece is read at once: the same value, or refused as well."""
    masks = Masks([POINT, "Incremental", "example"])
    original = sample(name)
    for rng in rounds(name, 8):
        data = damaged(rng, original)
        size = rng.choice([1, 7, 100])
        for reading in READINGS.values():
            assert _at_once(reading(), data) == _in_pieces(reading(), data, size)
            at_once, in_pieces = Masked(reading(), masks), Masked(reading(), masks)
            assert _at_once(at_once, data) == _in_pieces(in_pieces, data, size)


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.json")))
def test_a_damaged_answer_in_json_is_a_value_or_malformed(name: str) -> None:
    """MalformedResponse is all that the readers raise, and in pieces they give the same."""
    whole, longest = (SAMPLES / f"{name}.json").read_bytes(), 0
    for rng in rounds(name, 25):
        data, size = damaged(rng, whole), rng.choice([1, 7, 100])
        for reading in OF_EITHER.values():
            try:
                read(reading(JSON_CODEC), data, rng.choice([7, 100, 1 << 20]))
            except MalformedResponse as exc:
                longest = max(longest, len(str(exc)))
            at_once = _at_once(reading(JSON_CODEC), data)
            assert at_once == _in_pieces(reading(JSON_CODEC), data, size)
        words = words_of(data)
        assert words is None or 0 < len(words) <= 300
    assert longest < 500


def _at_once(reading: Reading[object], data: bytes) -> object:
    try:
        return reading.whole(data)
    except MalformedResponse as exc:
        return type(exc)


def _in_pieces(reading: Reading[object], data: bytes, size: int) -> object:
    try:
        return read(reading, data, size)
    except MalformedResponse as exc:
        return type(exc)


JSON = [
    b'{"Message": "There is no backup task with id [task-297]", "StatusCode": 500}',
    b'{"message": null, "Message": ["a", {"b": 1.5e300}], "statusCode": -1}',
    b'[{"Rel": "Related", "Href": "https://em/api/tasks"}, null, true, "\\ud83d\\ude00"]',
]


def test_a_damaged_error_in_json_has_words_or_none(tmp_path: Path) -> None:
    """No JSON, however broken or deep, raises; nor does a side file of sessions that is broken."""
    state = State(tmp_path)
    state.save_sessions(RunId("r"), {})
    (side,) = tmp_path.glob("sessions-*")
    for rng in rounds("json", 300):
        data = damaged(rng, rng.choice(JSON))
        words = words_of(data)
        assert words is None or 0 < len(words) <= 300
        side.write_bytes(data)
        kept = state.load_sessions(RunId("r"))
        sessions = [facts for each in kept.values() for facts in each]
        assert all(isinstance(fact, str) for facts in sessions for fact in facts.values())


# --- links --------------------------------------------------------------------------------------

ORIGINS = [
    "",
    BASE,
    "https://evil.example",
    "HTTP://[::1]:1",
    "//evil.example",
    "javascript:",
    "x://",
]
STARTS = ["", "/api/", f"/api/vmReplicaPoints/{POINT}", MOUNT]
PIECES = [
    *("/api/", "/API/", "/", "//", "\\", "..", "%2e%2e", "%252e", "@evil.example", ":9", "?", "&"),
    *(
        "#",
        ";",
        "=",
        "action",
        "failover",
        "restore",
        "%66ailover",
        "mounts",
        "/1",
        " ",
        "\t",
        "\n",
    ),
    *("\r\nHost: evil.example", "\x00", "\x7f", "\x85", "\u2028", "\u202e", "ü", "😀", "\ud800"),
    *("http://evil.example/", "vmReplicaPoints/", POINT, MOUNT, "a.b", "%", "%2", "%0d%0a", "|^{}"),
]


def test_no_link_leads_outside_of_the_servers_own_api() -> None:
    """A Href is a path below /api/ of the configured server, or nothing at all; what the
    allow-list lets pass stays there too, for whoever resolves it.
    """
    taken = passed = 0
    for rng in rounds("links", 4000):
        tail = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 7)))
        href = rng.choice(ORIGINS) + rng.choice(STARTS) + tail
        path = rerooted(href)
        if path is None:
            assert mount_href(href) is None
            continue
        taken += 1
        assert re.fullmatch(r"[!-~]+", path)
        for address in (URL(BASE + path, encoded=True), URL(BASE).join(URL(path, encoded=True))):
            assert (address.scheme, address.host, address.port) == (
                *("https", "em01.dr.example"),
                9398,
            )
        assert urlsplit(BASE + path).netloc == "em01.dr.example:9398"
        mount = mount_href(href)
        assert mount is None or MOUNT_PATH.fullmatch(mount)
        for method in ("GET", "POST", "DELETE"):
            try:
                guard(method, path)
            except ForbiddenAction:
                continue
            passed += 1
            resolved = URL(BASE).join(URL(path)).raw_path.lower()
            assert resolved.startswith("/api/")
            assert "failover" not in path.partition("?")[2].lower() or method == "GET"
    assert min(taken, passed) > 500


# --- headers ------------------------------------------------------------------------------------

HEADERS = [
    *(
        "120",
        "0",
        "300",
        "31536000000",
        "-1",
        "1.5",
        "1e3",
        "0x10",
        "٣",
        "²",
        "inf",
        "nan",
        "9" * 400,
    ),
    format_datetime(NOW, usegmt=True),
    "Mon, 23 Nov 2026 06:00:20 +9999",
    "Mon, 23 Nov 99999999999999999999 06:00:20 GMT",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Sat, 01 Jan 0001 00:00:00 +2359",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
]


def test_a_damaged_retry_after_or_date_is_nothing_or_within_its_bounds() -> None:
    """A pause is between none and five minutes; a clock's offset is a number; nothing raises."""
    clock = Clock()
    pauses = 0
    for rng in rounds("headers", 4000):
        value = rng.choice(HEADERS)
        if rng.random() < 0.9:
            value = damaged(rng, value.encode()).decode("utf-8", errors="surrogateescape")
        pause = retry_after(value, NOW)
        pauses += pause is not None
        assert pause is None or 0.0 <= pause <= 300.0
        offset = clock_offset(Answer(200, {"Date": value}), clock)
        assert offset is None or abs(offset) < 1e12
        json.dumps([pause, offset], allow_nan=False)
    assert pauses > 100


class Clock(Transport):
    """Only the clock of a transport."""

    def __init__(self) -> None:
        self.wall_clock = lambda: NOW


def test_leading_zeros_are_a_number_as_well() -> None:
    """A pause of twenty seconds is twenty seconds, however long it is written."""
    assert retry_after("0" * 40 + "20", NOW) == 20.0
