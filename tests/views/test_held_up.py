"""A run that waits for people says so in every view, with the command, and promises no end."""

from __future__ import annotations

import json

from msgspec.structs import replace

from orchestrator.core.events import (
    ApprovalAwaited,
    ControlApplied,
    Event,
    ServerPaced,
    StopRequested,
)
from orchestrator.core.model import Ramp, ServerName, WaveName
from orchestrator.views.picture import picture
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.web.page_state import PageState
from tests.views.story import finished, planned, started, submitted, tell, told, verified, wave

HQ = ServerName("hq")
GATE = ApprovalAwaited(at=30, wave=WaveName("w"), approvals=2, until=630)
APPROVE = "bulk-restore ctl r-1 approve w --reason TEXT"


def control(verb: str, at: float) -> ControlApplied:
    """Return that somebody has asked something of the run."""
    return ControlApplied(at=at, control=f"c-{at}", verb=verb, user="ann", host="here")


def counted(*events: Event) -> RunStatistics:
    """Return the statistics after a story."""
    stats = RunStatistics(lambda _server, _vm: 60.0)
    for event, record in told(events):
        stats.observe(event, record)
    return stats


def rows(stats: RunStatistics, width: int = 80, height: int = 23) -> list[str]:
    """Return the rows of the live view."""
    return ["".join(span.text for span in row) for row in picture(stats, width, height)]


BEGUN: list[Event] = [started(), planned("a"), planned("b"), wave(1), *verified("a", 2)]


def test_a_pause_is_in_the_live_view_until_the_run_goes_on() -> None:
    """Since when, and how to end it; no forecast meanwhile."""
    paused = [*BEGUN, control("pause", 40)]

    shown = rows(counted(*paused))
    again = rows(counted(*paused, control("continue", 50)))

    assert "PAUSED since 22:00:40 UTC" in shown
    assert "  bulk-restore ctl r-1 continue" in shown
    assert shown[0].endswith("time left: not known, it waits for people")
    assert not any("PAUSED" in row for row in again)
    assert again[0].endswith(" left")


def test_a_gate_that_waits_is_in_the_live_view_until_its_wave_begins_or_its_time_is_over() -> None:
    """For how many approvals, until when, and how to give one."""
    waiting = [started(), planned("a"), GATE]
    stats = counted(*waiting)
    late = counted(*waiting)
    late.now = 631

    assert "wave w WAITS for 2 approvals until 22:10:30 UTC" in rows(stats)
    assert f"  {APPROVE}" in rows(stats)
    assert stats.time_left().low is None
    for over in (late, counted(*waiting, wave(60))):
        assert not any("WAITS" in row for row in rows(over))


def test_a_small_screen_shows_what_people_are_awaited_for() -> None:
    """It is why nothing goes on."""
    stats = counted(*BEGUN, control("pause", 40), GATE)

    small = rows(stats, 80, 5)

    assert any(row.startswith("PAUSED") for row in small)
    assert any(row.startswith("wave w WAITS") for row in small)


def test_a_run_that_stops_or_ended_waits_for_nobody() -> None:
    """A pause that a stop came after holds nothing up."""
    paused = [*BEGUN, control("pause", 40), GATE]
    stop = StopRequested(at=41, signal="SIGINT", forced=False)

    for last in (stop, finished(42, 0)):
        stats = counted(*paused, last)
        assert stats.waits_for_people == []
        assert "PAUSED" not in stats.counts()


def test_the_page_has_what_people_are_awaited_for_and_no_time_left() -> None:
    """In words, with the command."""
    page_state = PageState()
    tell(page_state, *BEGUN, control("pause", 40), GATE)

    values = json.loads(page_state.snapshot())

    assert [each["short"] for each in values["awaited"]] == [
        "PAUSED",
        "WAITS for approval of wave w",
    ]
    assert values["awaited"][1]["command"] == APPROVE
    assert values["left"] is None


def test_a_ramp_is_no_overload() -> None:
    """What the plan's own ramp allows by now is called that; less than it is the server's doing."""
    begun = replace(started(limit=8), ramp=Ramp(mounts=4, every=60.0))
    story = [begun, *map(planned, "abcd"), wave(1), submitted("a", 2)]
    ramped = counted(*story, ServerPaced(at=2, server=HQ, allowed=4))
    slowed = counted(*story, ServerPaced(at=2, server=HQ, allowed=2))

    assert any(row.endswith("ramp: 4 of 8") for row in rows(ramped))
    assert any(row.endswith("slowed: 2 of 8") for row in rows(slowed))


def test_a_run_that_ended_says_how_many_waves_did() -> None:
    """And not that none goes on."""
    story = [*BEGUN, wave(20, over=True), *verified("b", 21)]
    other = replace(planned("c"), wave=WaveName("x"), key=planned("c", "x").key)

    assert "1 of 2 waves ended" in rows(counted(*story, other, finished(50, 5)))
