"""The picture: what matters most on any screen, and nothing that a server says steers it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from orchestrator.core.events import (
    Event,
    MountKept,
    MountLeft,
    RunHalted,
    ServerGivenUp,
    ServerPaced,
    ServerParked,
    StopRequested,
)
from orchestrator.core.model import Href, MountState, Result, ServerName
from orchestrator.views.picture import ROWS, picture
from orchestrator.views.statistics import RunStatistics
from tests.views.drawing import STORIES, crowded, large, payloads
from tests.views.story import (
    STALL,
    accepted,
    concluded,
    failed,
    finished,
    key,
    planned,
    started,
    submitted,
    told,
    verified,
    wave,
)

HQ = ServerName("hq")
WIDTHS, HEIGHTS = (10, 20, 40, 80, 200), (1, 2, 3, 5, 9, 23, 59)


def tallied(*events: Event) -> RunStatistics:
    """Return the statistics after a whole story."""
    stats = RunStatistics()
    for event, record in told(events):
        stats.observe(event, record)
    return stats


def shown(stats: RunStatistics, width: int = 80, height: int = 23) -> list[str]:
    """Return the rows without their styles."""
    return ["".join(span.text for span in row) for row in picture(stats, width, height)]


@pytest.mark.parametrize("story", list(STORIES))
def test_it_fits_every_screen(story: str) -> None:
    """No row is wider, there are never more rows than fit or than twenty, and none can steer."""
    events = STORIES[story]()
    stats = tallied(*events)

    for width in WIDTHS:
        for height in HEIGHTS:
            rows = shown(stats, width, height)
            assert len(rows) <= min(height, ROWS)
            assert all(cell_len(row) <= width for row in rows)
            assert all(row.isprintable() for row in rows)


def test_a_small_screen_shows_what_matters_most() -> None:
    """How far it is, why it ends, what is in trouble and what failed come before the rest."""
    events = list(crowded("srv"))[:-1]  # without its end

    rows = shown(tallied(*events), 80, 6)

    assert "left" in rows[0]
    assert "/36 done" in rows[1]
    assert any(row.startswith("halted") for row in rows)
    assert any("PARKED" in row for row in rows)
    assert any(row.startswith("failed") for row in rows)


def test_a_run_without_a_process_promises_no_end() -> None:
    """Nobody works on the rest: that is said, and what to do, instead of how long it takes."""
    stats = tallied(*list(crowded("srv"))[:-1])
    stats.ending = None
    assert "left" in shown(stats)[0]

    stats.abandoned = True
    rows = shown(stats, height=3)

    assert rows[0].endswith("its process is gone")
    assert "continue it: bulk-restore resume r-1" in rows
    assert not any("left" in row for row in rows)


def test_a_run_that_does_not_move_promises_no_end() -> None:
    """Since when, and what to do, in place of the time left."""
    stats = tallied(*list(crowded("srv"))[:-1])
    stats.ending = None

    stats.stall = STALL
    rows = shown(stats, 120, 3)

    assert "stalled since 2026-11-29 10:03:12 UTC: process 7 on host does not move" in rows[0]
    assert "if it does not, kill it, then: bulk-restore resume r-1" in "".join(rows)
    assert not any(" left" in row for row in rows)


def test_more_rows_never_hide_what_fewer_showed() -> None:
    """Growing the window adds rows; only the row that stands for the rest may give way."""
    stats = tallied(*large())
    before: set[str] = set()

    for height in range(1, 25):
        rows = set(shown(stats, 80, height))
        assert {row for row in before if not row.startswith("and ")} <= rows
        before = rows


def test_a_lane_says_what_is_used_of_what_is_allowed() -> None:
    """The plan's limit, or the pace's allowance as long as it is below."""
    busy = [*map(planned, "abcdef"), wave(1), *(submitted(vm, 2) for vm in "abc")]
    usual = tallied(started(limit=4), *busy)
    slowed = tallied(started(limit=4), *busy, ServerPaced(at=3, server=HQ, allowed=2))
    again = tallied(started(limit=4), *busy, ServerPaced(at=2, server=HQ))

    (lane,) = (row for row in shown(usual) if row.startswith("hq"))
    (slow,) = (row for row in shown(slowed) if row.startswith("hq"))

    assert lane.split() == ["hq", "▮▮▮▮▮▮▮▮▯▯", "3/4", "0/6", "done"]
    assert slow.endswith("3/2  0/6 done  slowed: 2 of 4")
    assert shown(again) == shown(usual)


def test_a_gate_says_since_when_it_is_shut_and_why() -> None:
    """Parked for so long, or given up for good."""
    parked = ServerParked(at=10, server=HQ, reason="hq cannot be reached: refused")
    events: list[Event] = [started(), planned("a"), wave(1), parked]
    stats = tallied(*events)
    stats.now = 75.0
    gone = tallied(*events, ServerGivenUp(at=99, server=HQ, reason="silent", refused=False))

    assert any(row.endswith("PARKED 1 min 5 s: cannot be reached: refused") for row in shown(stats))
    assert any(row.endswith("GIVEN UP: silent") for row in shown(gone))


def test_of_many_servers_those_in_trouble_are_shown() -> None:
    """The others are counted."""
    names = [f"s{number}" for number in range(12)]
    events: list[Event] = [started(*names), *(planned(f"v-{name}", name) for name in names)]
    stats = tallied(
        *events, wave(1), ServerParked(at=2, server=ServerName("s11"), reason="503 Busy")
    )

    rows = shown(stats)

    assert any(row.startswith("s11") and "PARKED" in row for row in rows)
    assert "and 7 more servers" in rows


def test_the_oldest_running_task_is_the_one_that_was_submitted_first() -> None:
    """A mount that is held for a person is nobody's delay."""
    life = verified("held", 1)[:-3]
    kept = MountKept(at=6, key=life[0].key, reason="--hold", until=600)  # type: ignore[attr-defined]
    old = [submitted("old", 10), accepted("old", 11)]
    young = [submitted("young", 20), accepted("young", 21)]
    targets = [planned(vm) for vm in ("held", "young", "old")]

    rows = shown(tallied(started(), *targets, wave(0), *life, kept, *old, *young))

    oldest = [row.split()[1] for row in rows if row.startswith("oldest")]
    assert oldest == ["w/hq/old", "w/hq/young"]
    assert "1 held open until 22:10:00 UTC: 1 verified" in rows
    assert "end it: bulk-restore unmount r-1" in rows


@pytest.mark.parametrize(("signal", "word"), [("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM")])
def test_a_stopping_run_says_what_stops_it_at_once(signal: str, word: str) -> None:
    """Whole in 80 columns, and only while that would do more."""
    first = StopRequested(at=5, signal=signal, forced=False)
    story = [started(), planned("a"), wave(0), submitted("a", 1), first]
    hint = f"a second {word} to the run unmounts what is known now and names the rest"

    assert hint in shown(tallied(*story))
    assert len(hint) <= 80
    for over in (StopRequested(at=6, signal=signal, forced=True), finished(6, 130)):
        assert not any("a second" in row for row in shown(tallied(*story, over)))
    gone = tallied(*story)
    gone.abandoned = True
    assert not any("a second" in row for row in shown(gone))


def test_the_newest_failures_come_first() -> None:
    """Three, one row each, with the server's words."""
    vms = [f"f{number}" for number in range(5)]
    events: list[Event] = [started(), *map(planned, vms), wave(1)]
    for number, vm in enumerate(vms):
        events += failed(vm, 10.0 + number * 5, f"words {number}")

    rows = [row for row in shown(tallied(*events)) if row.startswith("failed")]

    assert [row.split()[1] for row in rows] == ["w/hq/f4", "w/hq/f3", "w/hq/f2"]
    assert rows[0].endswith("words 4")


def test_waves_are_shown_where_there_are_several() -> None:
    """Which goes on and how far it is; one alone needs no row."""
    one: list[Event] = [started(), planned("a"), wave(1)]
    other = replace(planned("b"), key="x/hq/b", wave="x")

    assert not any(row.startswith("wave") for row in shown(tallied(*one)))
    assert "wave w 0/1  0 of 2 ended" in shown(tallied(*one, other))
    assert "no wave goes on  1 of 2 ended" in shown(tallied(*one, other, wave(9, over=True)))


def test_checks_and_files_are_counted() -> None:
    """What was proven, in one row."""
    assert "1 check" in shown(tallied(started(), planned("a"), wave(0), *verified("a", 1)))


def test_the_end_is_told_in_the_title() -> None:
    """Instead of an estimate."""
    halted = RunHalted(at=1, reason="budget", detail="3 of 4 failed")
    rows = shown(tallied(started(), planned("a"), wave(0), halted, finished(5, 5)))

    assert rows[0].startswith("night-drill  5 s  ended, exit code 5: halted before the end")
    assert "halted: 3 of 4 failed" in rows


def test_what_was_left_keeps_its_slot_and_names_the_next_command() -> None:
    """Nothing that may be open looks closed; while the run goes on, nobody else may try."""
    *until_unmount, _released, _concluded = verified("a", 1)
    refused = MountLeft(at=7, key=key("a"), mount=Href("/m/a"), reason="refused")
    end = concluded("a", 7, Result.VERIFIED, MountState.LEFT)
    left = tallied(started(limit=4), planned("a"), wave(0), *until_unmount, refused, end)

    (lane,) = (row for row in shown(left) if row.startswith("hq"))
    assert "1/4" in lane
    assert "1 MAY BE MOUNTED: a person must look" in shown(left)

    left.observe(finished(9, 3), None)
    (lane,) = (row for row in shown(left) if row.startswith("hq"))
    assert "1/4" in lane
    assert "1 MAY BE MOUNTED: try bulk-restore unmount r-1" in shown(left)


def test_payloads_are_spelled_out() -> None:
    """No control, bidirectional or other unprintable character reaches a row."""
    text = "\n".join(shown(tallied(*payloads()), 200, 60))

    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r", "\x00"} & set(text)
    assert "<script>alert(1)</script>" in text  # shown as what it is
