"""`--json`: every line is one valid, versioned object, and the last one sums up."""

from __future__ import annotations

import io
import json
import os
from datetime import datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from orchestrator.core.events import (
    DeadlinePassed,
    Event,
    MountFound,
    MountLeft,
    RunFinished,
    RunHalted,
    RunNoted,
    ServerGivenUp,
    ServerMeasured,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    StopRequested,
    TaskObserved,
    TaskSucceeded,
    UnmountStarted,
)
from orchestrator.core.model import (
    Href,
    MountState,
    Result,
    ServerName,
    SessionId,
    TaskId,
    TaskState,
)
from orchestrator.views.json_events import JsonEvents, events_json_schema
from tests.views.story import (
    HOSTILE,
    accepted,
    concluded,
    failed,
    finished,
    key,
    planned,
    started,
    submitted,
    tell,
    verified,
    wave,
)

HQ, SESSION, MOUNT = ServerName("hq"), SessionId("s"), Href("/m/d")
SERVER_TROUBLE: list[Event] = [
    SessionOpened(at=1, server=HQ, session=SESSION, user="svc", api_version="v1_7"),
    ServerParked(at=2, server=HQ, reason="503"),
    ServerResumed(at=3, server=HQ, waited_s=1),
    SessionEnded(at=4, server=HQ, session=SESSION, lost=True, reason="401"),
    ServerGivenUp(at=5, server=HQ, reason="401", refused=True),
    ServerMeasured(at=6, server=HQ, requests=9, retries=1, peak_mounts=2, sessions=1),
]
LEFT: list[Event] = [
    submitted("d", 30),
    accepted("d", 31),
    TaskObserved(at=32, key=key("d"), task=TaskId("task-d"), state=TaskState.RUNNING),
    DeadlinePassed(at=32, key=key("d"), phase="mount", allowed_s=1),
    TaskSucceeded(at=33, key=key("d"), task=TaskId("task-d"), mount=MOUNT),
    MountFound(at=34, key=key("d"), mount=MOUNT, roots=("C:",)),
    UnmountStarted(at=35, key=key("d"), mount=MOUNT),
    MountLeft(at=36, key=key("d"), mount=MOUNT, reason="refused"),
    concluded("d", 37, Result.FAILED, MountState.LEFT, message="refused"),
]
STORY: list[Event] = [
    started(),
    *map(planned, ("a", "b", "c", "d")),
    *SERVER_TROUBLE,
    wave(7),
    *verified("a", 8),
    *failed("b", 20, HOSTILE),
    concluded("c", 29, Result.SKIPPED, message=HOSTILE),
    *LEFT,
    RunNoted(at=38, message=HOSTILE),
    RunHalted(at=38, reason="budget", detail="2 of 4 failed"),
    StopRequested(at=39, signal="SIGINT", forced=False),
    wave(40, over=True),
    finished(41, 3),
]


def rows(text: str) -> list[dict[str, Any]]:
    """Return the objects of a stream, one per line, each line on its own."""
    assert text.endswith("\n")
    return [json.loads(line) for line in text[:-1].split("\n")]


def written(*events: Event) -> list[dict[str, Any]]:
    """Return the objects that a story makes."""
    stream = io.StringIO()
    view = JsonEvents(stream)
    tell(view, *events)
    if any(isinstance(event, RunFinished) for event in events):
        view.sum_up(3)
    return rows(stream.getvalue())


def test_the_published_schema_is_a_schema() -> None:
    """Any validator of draft 2020-12 takes it."""
    Draft202012Validator.check_schema(events_json_schema())


@pytest.mark.parametrize("cut", [*range(1, len(STORY) + 1, 5), len(STORY)])
def test_every_line_is_valid_wherever_the_run_stops(cut: int) -> None:
    """Each line is one object of the schema, with a progress and an error among them."""
    stream = io.StringIO()
    view = JsonEvents(stream)
    tell(view, *STORY[:cut])
    view.draw(99.0)
    view.error(f"plan.yaml:3: {HOSTILE}")
    view.close()

    lines = rows(stream.getvalue())

    validator = Draft202012Validator(events_json_schema())
    for line in lines:
        validator.validate(line)
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["run"] for line in lines} == {"r-1"}
    assert {line["v"] for line in lines} == {1}


def test_an_error_before_the_run_began_is_valid_too() -> None:
    """There is no run and no run clock yet, and the line says so by nulls."""
    stream = io.StringIO()

    JsonEvents(stream).error("cannot reach hq")

    (line,) = rows(stream.getvalue())
    Draft202012Validator(events_json_schema()).validate(line)
    assert (line["type"], line["message"]) == ("error", "cannot reach hq")
    assert (line["ts"], line["run"], line["seq"]) == (None, None, 1)


def test_the_schema_refuses_what_is_not_an_event() -> None:
    """It says something: unknown types, other versions and missing fields do not pass."""
    validator = Draft202012Validator(events_json_schema())
    (good, *_) = written(started())

    assert validator.is_valid(good)
    for wrong in ({"type": "gossip"}, {"v": 2}, {"seq": 0}, {"ts": 5}, {"result": "fine"}):
        assert not validator.is_valid(good | wrong)
    for name in ("v", "type", "ts", "run", "seq"):
        assert not validator.is_valid({k: value for k, value in good.items() if k != name})


def test_every_type_of_the_contract_is_told() -> None:
    """run, wave, target, server and summary come of their own; the summary comes last."""
    lines = written(*STORY)

    told = {"run", "wave", "target", "check", "server", "summary"}
    assert {line["type"] for line in lines} == told
    assert [line["type"] for line in lines].index("summary") == len(lines) - 1


def test_every_change_of_phase_or_result_is_one_line() -> None:
    """None is left out, and what changes neither is not told twice."""
    lines = [line for line in written(*STORY) if line.get("key") == key("d")]

    assert [(line["phase"], line["result"], line["mount"]) for line in lines] == [
        ("queued", None, "none"),
        ("submitting", None, "unknown"),
        ("running", None, "unknown"),
        ("collecting", None, "left"),
        ("verifying", None, "left"),
        ("unmounting", None, "left"),
        ("out_of_reach", None, "left"),
        ("done", "failed", "left"),
    ]
    assert {line["server"] for line in lines} == {"hq"}
    assert {line["wave"] for line in lines} == {"w"}
    assert [line["attempt"] for line in lines] == [0, *[1] * 7]


def test_a_servers_changes_are_told_with_their_reason() -> None:
    """In order, one line each."""
    lines = [line for line in written(started(), *SERVER_TROUBLE) if line["type"] == "server"]

    assert [(line["server"], line["state"], line["reason"]) for line in lines] == [
        ("hq", "session_opened", None),
        ("hq", "parked", "503"),
        ("hq", "resumed", None),
        ("hq", "session_ended", "401"),
        ("hq", "given_up", "401"),
        ("hq", "measured", None),
    ]


def test_the_summary_has_the_totals_and_the_exit_code() -> None:
    """Every result is named, also those that nobody had; so is what was left mounted."""
    summary = written(*STORY)[-1]

    assert summary["exit_code"] == 3
    assert summary["totals"] == {
        "targets": 4,
        "verified": 1,
        "mounted": 0,
        "failed": 2,
        "unknown": 0,
        "skipped": 1,
        "cancelled": 0,
        "left": 1,
        "may_be_mounted": 0,
    }


def test_nothing_comes_after_the_summary() -> None:
    """A last draw on the way out must not push the summary off the last line."""
    stream = io.StringIO()
    view = JsonEvents(stream)
    tell(view, *STORY)

    view.draw(60.0)
    view.error("the reports cannot be written")
    view.sum_up(74)
    view.close()

    *_, error, summary = rows(stream.getvalue())
    assert (error["type"], summary["type"], summary["exit_code"]) == ("error", "summary", 74)


def test_times_are_rfc_3339_in_utc_and_never_run_back() -> None:
    """They are the run's own clock, counted from its beginning."""
    stamps = [line["ts"] for line in written(*STORY)]

    assert all(stamp.endswith("Z") for stamp in stamps)
    assert stamps == sorted(stamps)
    assert (stamps[0], stamps[-1]) == ("2026-03-01T22:00:00.000Z", "2026-03-01T22:00:41.000Z")
    assert all(datetime.fromisoformat(stamp).tzinfo is not None for stamp in stamps)


def test_a_servers_words_survive_and_control_nothing() -> None:
    """The stream is plain ASCII without control characters; a parser gets the exact words."""
    stream = io.StringIO()
    tell(JsonEvents(stream), started(), planned("a"), *failed("a", 1, HOSTILE))

    text = stream.getvalue()

    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert rows(text)[-1]["message"] == HOSTILE


def test_progress_says_how_far_it_is() -> None:
    """Targets, done, open and the expected rest, as of the moment it is drawn."""
    stream = io.StringIO()
    view = JsonEvents(stream)
    view.draw(0.0)
    tell(view, started())
    view.draw(1.0)
    assert [row["type"] for row in rows(stream.getvalue())] == ["run"]

    tell(view, *map(planned, "abcde"), submitted("a", 1))
    view.draw(5.0)

    row = rows(stream.getvalue())[-1]
    assert {name: row[name] for name in ("type", "targets", "done", "open", "remaining_s")} == {
        "type": "progress",
        "targets": 5,
        "done": 0,
        "open": 1,
        "remaining_s": None,
    }
    assert row["ts"] == "2026-03-01T22:00:05.000Z"


def test_a_closed_pipe_hurts_nobody() -> None:
    """The program that read the events may go; the run never notices."""
    read, write = os.pipe()
    with os.fdopen(write, "w", buffering=1) as stream:
        view = JsonEvents(stream)
        tell(view, started(), planned("a"))
        os.close(read)

        tell(view, *STORY)
        view.draw(30.0)
        view.error("gone")
        view.close()

        # What the stream could not get rid of must not raise when it is closed either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)
