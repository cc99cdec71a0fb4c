"""What the views say of held mounts and of other restore points: until when, and what ends it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.events import (
    Event,
    MountFound,
    MountKept,
    PointChosen,
    TaskSucceeded,
    VerdictReached,
)
from orchestrator.model import Href, RestorePoint, RestorePointId, Result, TaskId
from orchestrator.progress import JsonEvents, LiveView
from orchestrator.progress.lines import LineView
from tests.progress.story import (
    HOSTILE,
    STARTED_AT,
    accepted,
    failed,
    key,
    planned,
    started,
    submitted,
    tell,
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
    ("until", "words"), [(3606.0, "HELD OPEN until 1:00:06"), (None, "until somebody ends it")]
)
def test_a_line_says_until_when_and_how_to_end_it(until: float | None, words: str) -> None:
    """So that a run in CI that waits for a person says so."""
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

    assert "1 held open until 1:00:06; end it: bulk-restore unmount r-1" in stream.getvalue()


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
