"""What the views say of held mounts and of other restore points: until when, and what ends it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from orchestrator.core.events import (
    CheckMade,
    Event,
    MountFound,
    MountKept,
    PointChosen,
    RunResumed,
    TaskSucceeded,
    VerdictReached,
)
from orchestrator.core.model import Href, RestorePoint, RestorePointId, Result, TaskId
from orchestrator.views.json_events import JsonEvents, events_json_schema
from orchestrator.views.lines import LineView
from orchestrator.views.live import LiveView
from orchestrator.views.picture import picture
from orchestrator.views.statistics import RunStatistics
from tests.views.story import (
    BOOTS,
    HOSTILE,
    STARTED_AT,
    accepted,
    failed,
    key,
    planned,
    started,
    submitted,
    tell,
    told,
    verified,
    wave,
)


def held(until: float | None) -> list[Event]:
    """Return the story of a run whose one mount is held until then."""
    name, mount = key("a"), Href("/m/a")
    return [
        started(),
        replace(planned("a"), checks=()),
        wave(1),
        submitted("a", 2),
        accepted("a", 3),
        TaskSucceeded(at=4, key=name, task=TaskId("task-a"), mount=mount),
        MountFound(at=5, key=name, mount=mount, roots=("C:",)),
        VerdictReached(at=6, key=name, result=Result.MOUNTED),
        MountKept(at=6, key=name, reason="--hold", until=until),
    ]


def another() -> list[Event]:
    """Return the story of a run that tries another point after a failed mount."""
    begun = failed("a", 2)[:-1]
    point = RestorePoint(
        id=RestorePointId("p2"), name=f"a@yesterday{HOSTILE}", vm="a", created_at=STARTED_AT
    )
    return [
        started(),
        replace(planned("a"), checks=()),
        wave(1),
        *begun,
        PointChosen(at=9, key=key("a"), point=point, why="latest, fallback: 1 newer point"),
    ]


@pytest.mark.parametrize(
    ("until", "words"),
    [
        (3606.0, "HELD OPEN until 23:00:06 UTC "),
        (7206.0, "HELD OPEN until 2026-03-02 00:00:06 UTC "),
        (None, "until somebody ends it"),
    ],
)
def test_a_line_says_until_when_and_how_to_end_it(until: float | None, words: str) -> None:
    """So that a run in CI that waits for a person says so; the end is a time of the day."""
    stream = io.StringIO()

    tell(LineView(stream), *held(until))

    last = stream.getvalue().splitlines()[-1]
    assert words in last
    assert last.endswith("end it: bulk-restore unmount r-1")
    assert "w/hq/a: mounted, " in last


def test_a_day_of_holding_is_not_a_day_of_summary_lines() -> None:
    """Once all that remains is held, the line that said so is the last one."""
    stream = io.StringIO()
    view = LineView(stream)
    tell(view, *held(90_000.0))
    before = stream.getvalue()

    for minute in range(100):
        view.draw(60.0 * minute)

    assert stream.getvalue() == before


def test_the_live_view_says_it_too() -> None:
    """The number of mounts, until when, and the command that ends it."""
    stream = io.StringIO()
    view = LiveView(stream, color=False)

    tell(view, *held(3606.0))
    view.draw(10.0)

    assert "1 held open until 23:00:06 UTC" in stream.getvalue()
    assert "end it: bulk-restore unmount r-1" in stream.getvalue()


def both() -> list[Event]:
    """Return the story of a run that has done nothing yet: one verified, one failed, both held."""
    story: list[Event] = [started(), planned("a"), planned("b"), wave(0)]
    for vm, fine in (("a", True), ("b", False)):
        *to_its_mount, _check, _verdict, _unmount, _released, _concluded = verified(vm, 1)
        outcome = BOOTS if fine else replace(BOOTS, observed="nothing", passed=False)
        result = Result.VERIFIED if fine else Result.FAILED
        story += [
            *to_its_mount,
            CheckMade(at=5, key=key(vm), outcome=outcome),
            VerdictReached(at=5, key=key(vm), result=result),
            MountKept(at=6, key=key(vm), reason="--hold", until=3606.0),
        ]
    return story


def test_the_verdicts_of_held_mounts_are_told_and_nothing_of_them_is_done() -> None:
    """Whoever holds mounts to look at them sees at once which failed; in 80 columns, too."""
    stats = RunStatistics()
    for event, record in told(both()):
        stats.observe(event, record)

    rows = ["".join(span.text for span in row) for row in picture(stats, 80, 20)]

    assert any(row.startswith("0/2 done  2 open") for row in rows)
    assert any(row.startswith("2 held open until 23:00:06 UTC") for row in rows)
    assert any(row.endswith(": 1 verified, 1 failed") for row in rows)
    assert stats.counts().endswith("2 held open (1 verified, 1 failed)")


def test_a_resumed_run_shows_what_it_goes_on_to_hold() -> None:
    """The earlier process's holds, their verdicts and their end."""
    stats = RunStatistics()
    for event, record in told([*both(), RunResumed(at=8, resumed_at=STARTED_AT, version="1")]):
        stats.observe(event, record)

    rows = ["".join(span.text for span in row) for row in picture(stats, 80, 20)]

    assert any(row.startswith("2 held open until 23:00:06 UTC") for row in rows)


def test_programs_are_told_the_verdicts_so_far() -> None:
    """Each progress event counts them, as the schema says."""
    stream = io.StringIO()
    view = JsonEvents(stream)
    tell(view, *both())
    view.draw(10.0)

    last = json.loads(stream.getvalue().splitlines()[-1])

    Draft202012Validator(events_json_schema()).validate(last)
    assert (last["type"], last["done"], last["held"]) == ("progress", 0, 2)
    assert last["held_verdicts"] == {"verified": 1, "failed": 1}
    assert "held_verdicts" in events_json_schema()["properties"]


def _events(*story: Event) -> list[dict[str, Any]]:
    stream = io.StringIO()
    tell(JsonEvents(stream), *story)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_programs_are_told_the_verdict_and_until_when() -> None:
    """There is no result yet: that comes with the release."""
    last = _events(*held(3606.0))[-1]

    assert (last["phase"], last["result"], last["mount"]) == ("held", None, "kept")
    assert (last["verdict"], last["until"]) == ("mounted", "2026-03-01T23:00:06.000Z")
    assert _events(*held(None))[-1]["until"] is None


def test_another_point_is_told_to_people_and_programs() -> None:
    """By its name and why; a server's words stay in their line."""
    stream = io.StringIO()
    tell(LineView(stream), *another())

    last = stream.getvalue().splitlines()[-1]
    assert "w/hq/a: now restore point a@yesterday" in last
    assert "\x1b" not in last
    assert "latest, fallback" in last
    told = _events(*another())[-1]
    assert (told["phase"], told["point"]) == ("queued", "p2")
