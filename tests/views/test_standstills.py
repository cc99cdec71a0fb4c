"""What does not go on although the run does is said in every view, and no end is promised."""

from __future__ import annotations

import io

from orchestrator.core.events import Event, OutOfReach, RunResumed, SessionEnded
from orchestrator.core.events.server import LOGGED_OFF
from orchestrator.core.model import MountState, Result, ServerName, SessionId
from orchestrator.views.lines import LineView
from orchestrator.views.picture import picture
from orchestrator.views.stalled import Away
from orchestrator.views.statistics import RunStatistics
from tests.views.story import (
    STARTED_AT,
    accepted,
    concluded,
    finished,
    key,
    planned,
    see,
    started,
    submitted,
    told,
    verified,
    wave,
)

BEGUN: list[Event] = [started(), planned("a"), planned("b"), wave(1), *verified("a", 2)]
NO_WORKER = "1 shard waits: no worker serves site west"


def counted(*events: Event) -> RunStatistics:
    """Return the statistics after a story, in which each machine took a minute before."""
    stats = RunStatistics(lambda _server, _vm: 60.0)
    for event, record in told(events):
        stats.observe(event, record)
    return stats


def rows(stats: RunStatistics, height: int = 23) -> list[str]:
    """Return the rows of the live view."""
    return ["".join(span.text for span in row) for row in picture(stats, 80, height)]


def test_the_live_view_says_which_shard_waits_and_for_what_and_promises_no_end() -> None:
    """As `status` says it; also on a small screen, and no longer once it is served."""
    stats = counted(*BEGUN)
    before = rows(stats)
    stats.what_waits = (NO_WORKER,)
    waits, small = rows(stats), rows(stats, 4)
    stats.what_waits = ()

    assert before[0].endswith(" left")
    assert NO_WORKER in waits
    assert NO_WORKER in small
    assert waits[0].endswith("time left: not known, a part of it stands still")
    assert rows(stats) == before


def test_a_run_that_has_ended_stands_still_for_nobody() -> None:
    """The last picture shows how it ended."""
    stats = counted(*BEGUN, finished(9, 5))
    stats.what_waits = (NO_WORKER,)

    assert NO_WORKER not in rows(stats)


def test_lines_say_it_once_and_that_it_goes_on() -> None:
    """And the summary line promises no end meanwhile."""
    out = io.StringIO()
    view = LineView(out)
    for event, record in told(BEGUN):
        see(view, event, record)
    out.truncate(out.seek(0))
    for waits in ((NO_WORKER,), (NO_WORKER,), ()):
        view.stats.what_waits = waits
        view.say_what_waits()
        view.draw(30)

    said = out.getvalue().splitlines()
    assert sum(NO_WORKER in line for line in said) == 1
    assert sum("nothing stands still any more" in line for line in said) == 1
    assert said[1].endswith("time left: not known, a part of it stands still")


def test_a_database_that_is_away_is_in_the_live_view_until_it_is_back() -> None:
    """Since when and why; what was seen to wait before may be over, and no end is promised."""
    stats = counted(*BEGUN)
    stats.what_waits, stats.away = (NO_WORKER,), Away(since=STARTED_AT, why="refused")
    away = rows(stats)
    stats.away = None

    words = "the database is away since 2026-03-01 22:00:00 UTC"
    assert any(row.startswith(words) for row in away)
    assert NO_WORKER not in away
    assert away[0].endswith("the database is away")
    assert NO_WORKER in rows(stats)


UNKNOWN: list[Event] = [
    started(limit=2),
    *(planned(vm) for vm in "abcde"),
    wave(1),
    *(submitted(vm, 2) for vm in "ab"),
    *(accepted(vm, 3) for vm in "ab"),
    RunResumed(at=100, resumed_at=STARTED_AT, version="1.0", used_until=60),
    *(OutOfReach(at=101, key=key(vm), reason="no token") for vm in "ab"),
    *(concluded(vm, 101, Result.UNKNOWN, MountState.UNKNOWN) for vm in "ab"),
]
SLOTS = "3 targets on hq wait for slots that 2 mounts keep of which nobody knows whether they are"


def test_mounts_of_which_nobody_knows_keep_all_slots_until_about_the_end_of_their_session() -> None:
    """It is said which targets wait for them and until when, and no end is promised meanwhile."""
    stats = counted(*UNKNOWN)
    shown = rows(stats)
    stats.now = 60 + 901

    assert shown[0].endswith("time left: not known, a part of it stands still")
    assert any(row.startswith("3 targets on hq wait for slots that 2 mounts keep") for row in shown)
    assert not any("wait for slots" in row for row in rows(stats))  # they count no more
    assert counted(*UNKNOWN).standstills == [f"{SLOTS} open, until about 22:16:00 UTC"]


def test_targets_wait_for_no_slot_that_is_free_or_given_back() -> None:
    """One unknown mount of two slots, a session that was logged off, and a run that stops."""
    ended = SessionEnded(
        at=102, server=ServerName("hq"), session=SessionId("s"), reason=LOGGED_OFF, lost=False
    )
    two_slots = [event for event in UNKNOWN if getattr(event, "key", "") != "w/hq/b"]

    assert counted(*two_slots).standstills == []
    assert counted(*UNKNOWN, ended).standstills == []
