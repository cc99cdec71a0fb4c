"""The picture: what matters most on any screen, and nothing that a server says steers it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from orchestrator.events import (
    Event,
    MountKept,
    RunHalted,
    ServerGivenUp,
    ServerPaced,
    ServerParked,
    StopRequested,
)
from orchestrator.model import ServerName
from orchestrator.progress.picture import ROWS, picture
from orchestrator.tally import Tally
from tests.progress.drawing import STORIES, crowded, large, payloads
from tests.progress.story import (
    accepted,
    failed,
    finished,
    planned,
    started,
    submitted,
    told,
    verified,
    wave,
)

HQ = ServerName("hq")
WIDTHS, HEIGHTS = (10, 20, 40, 80, 200), (1, 2, 3, 5, 9, 23, 59)


def tallied(*events: Event) -> Tally:
    """Return the tally after a whole story."""
    tally = Tally()
    for event, record in told(events):
        tally.take(event, record)
    return tally


def shown(tally: Tally, width: int = 80, height: int = 23) -> list[str]:
    """Return the rows without their styles."""
    return ["".join(span.text for span in row) for row in picture(tally, width, height)]


@pytest.mark.parametrize("story", list(STORIES))
def test_it_fits_every_screen(story: str) -> None:
    """No row is wider, there are never more rows than fit or than twenty, and none can steer."""
    events = STORIES[story]()
    tally = tallied(*events)

    for width in WIDTHS:
        for height in HEIGHTS:
            rows = shown(tally, width, height)
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
    tally = tallied(*list(crowded("srv"))[:-1])
    tally.ending = None
    assert "left" in shown(tally)[0]

    tally.abandoned = True
    rows = shown(tally, height=3)

    assert rows[0].endswith("its process is gone")
    assert "go on with it: bulk-restore resume r-1" in rows
    assert not any("left" in row for row in rows)


def test_more_rows_never_hide_what_fewer_showed() -> None:
    """Growing the window adds rows; only the row that stands for the rest may give way."""
    tally = tallied(*large())
    before: set[str] = set()

    for height in range(1, 25):
        rows = set(shown(tally, 80, height))
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
    tally = tallied(*events)
    tally.now = 75.0
    gone = tallied(*events, ServerGivenUp(at=99, server=HQ, reason="silent", refused=False))

    assert any(row.endswith("PARKED 1:05: cannot be reached: refused") for row in shown(tally))
    assert any(row.endswith("GIVEN UP: silent") for row in shown(gone))


def test_of_many_servers_those_in_trouble_are_shown() -> None:
    """The others are counted."""
    names = [f"s{number}" for number in range(12)]
    events: list[Event] = [started(*names), *(planned(f"v-{name}", name) for name in names)]
    tally = tallied(
        *events, wave(1), ServerParked(at=2, server=ServerName("s11"), reason="503 Busy")
    )

    rows = shown(tally)

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
    other = replace(planned("b"), key="x/hq/b", wave="x")  # type: ignore[arg-type]

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

    assert rows[0] == "night-drill  0:05  ended, exit code 5"
    assert "halted: 3 of 4 failed" in rows


def test_payloads_are_spelled_out() -> None:
    """No control, bidirectional or other unprintable character reaches a row."""
    text = "\n".join(shown(tallied(*payloads()), 200, 60))

    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r", "\x00"} & set(text)
    assert "<script>alert(1)</script>" in text  # shown as what it is
