"""What may still be begun before the deadline of a run: the expected time, and what is known."""

from __future__ import annotations

import math

import pytest

from orchestrator.core.events import MountReleased, TaskAccepted
from orchestrator.core.model import MountRequest, ServerName, TaskId, WaveName
from orchestrator.engine.limits import Limits
from orchestrator.engine.run_deadline import NO_DEADLINE, RunDeadline
from orchestrator.engine.scheduler import Scheduler
from tests.bench.schedule import request
from tests.engine.test_scheduler import Room, equal
from tests.report.builders import life


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def last_start(deadline: RunDeadline, clock: Clock, wanted: MountRequest) -> int:
    """Return the last second in which the target may be begun; -1: in none."""
    last = -1
    for second in range(3700):
        clock.now = float(second)
        if deadline.has_time(wanted):
            assert last == second - 1, "what has no time never has it again"
            last = second
    return last


@pytest.mark.parametrize(
    ("median", "last"),
    [
        (None, 3300),  # nothing is known: only the reserve is left out
        (100.0, 3150),  # half of it again, and the reserve
        (10_000.0, 2100),  # never more than mount and unmount may take
    ],
)
def test_the_median_and_a_reserve_must_fit(median: float | None, last: int) -> None:
    """An hour, of which five minutes are kept for the unmount."""
    clock = Clock()
    deadline = RunDeadline(3600.0, 0.0, clock, lambda _: median)

    assert last_start(deadline, clock, request(1, "hq", "b")) == last
    assert "no time: it may need " in deadline.why_not(request(1, "hq", "b"))


def test_without_a_median_the_longest_mount_seen_is_expected() -> None:
    """That of the server; of any other one as long as none was seen there."""
    clock = Clock()
    deadline = RunDeadline(3600.0, 0.0, clock)
    for label, took in (("a", 200.0), ("b", 100.0)):
        planned, *_ = life(label)
        key = planned.key  # type: ignore[attr-defined]  # it is a target's
        deadline.observe(planned, None)
        deadline.observe(TaskAccepted(at=10.0, key=key, task=TaskId(f"task-{label}")), None)
        deadline.observe(MountReleased(at=10.0 + took, key=key), None)

    assert last_start(deadline, clock, request(1, "hq", "b")) == 3000
    assert last_start(deadline, clock, request(1, "dr", "b")) == 3000
    planned, *_ = life("c", server="dr")
    key = planned.key  # type: ignore[attr-defined]  # it is a target's
    deadline.observe(planned, None)
    deadline.observe(TaskAccepted(at=10.0, key=key, task=TaskId("task-c")), None)
    deadline.observe(MountReleased(at=50.0, key=key), None)
    assert last_start(deadline, clock, request(1, "dr", "b")) == 3240


def test_the_reserve_of_a_short_deadline_is_a_fifth_of_it() -> None:
    """Else nothing could be mounted in four minutes."""
    clock = Clock()
    deadline = RunDeadline(240.0, 0.0, clock)

    assert last_start(deadline, clock, request(1, "hq", "b")) == 192


def test_another_clock_may_say_how_much_is_left() -> None:
    """That of the database, in a run over several machines; a resume counts from its own start."""
    clock = Clock()
    deadline = RunDeadline(3600.0, 5000.0, clock)
    clock.now = 5000.0
    assert deadline.left_for(request(1, "hq", "b")) == 3300.0

    deadline.ends_in(400.0)

    assert deadline.left_for(request(1, "hq", "b")) == 100.0


def test_without_a_deadline_there_is_always_time() -> None:
    """And no hold ends early."""
    assert NO_DEADLINE.has_time(request(1, "hq", "b"))
    assert math.isinf(NO_DEADLINE.left_for(request(1, "hq", "b")))
    assert math.isinf(NO_DEADLINE.last_moment(request(1, "hq", "b")))


def test_what_has_no_time_gets_no_slot_and_shorter_ones_go_ahead() -> None:
    """All that has none is refused at once, the first time that one of it would be the next."""
    room, no_time = Room(), {"long", "longer"}
    limits = Limits(servers={ServerName("hq"): 1})
    scheduler = Scheduler(
        limits, [WaveName("w")], equal, has_time=lambda each: each.vm not in no_time
    )
    names = ("long", "short", "longer", "small")

    scheduler.offer([request(n, "hq", "b", vm=vm) for n, vm in enumerate(names)], room)

    assert room.order == ["short"]
    assert set(room.refused) == no_time
    room.release("short")
    assert room.order == ["short", "small"]
