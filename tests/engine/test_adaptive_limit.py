"""The pace of a server: shrinking, growing, ramping, and the bounds that always hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.model import Ramp
from orchestrator.engine.adaptive_limit import (
    GROWTH_S,
    HOLD_S,
    LONGEST_HOLD_S,
    PROBES_OF_AN_OUTAGE,
    TICK,
    AdaptiveLimit,
)


@dataclass(slots=True)
class Server:
    """A server that is kept as busy as its pace allows, on a clock of its own."""

    limit: int | None = 100
    open: int = 100
    now: float = 0.0
    ramp: Ramp | None = None
    pace: AdaptiveLimit = field(init=False)

    def __post_init__(self) -> None:
        self.pace = AdaptiveLimit(self.limit, lambda: self.open, self.ramp)

    @property
    def allowance(self) -> float:
        return self.pace.allowance

    def overload(self, *, unanswered: int = 0) -> None:
        """Be in trouble under load, and answer again after so many probes in vain."""
        self.pace.overloaded(self.now)
        self.pace.reopened(unanswered)

    def passes(self, seconds: float, *, good: bool = True, busy: bool = True) -> None:
        """Let time pass with good answers, as many mounts open as allowed."""
        until = self.now + seconds
        while self.now + TICK <= until:
            self.now += TICK
            if good:
                self.pace.good()
            if busy:
                self.open = int(min(self.pace.allowance, 1000))
            self.pace.tick(self.now)


def test_a_server_without_trouble_gets_what_the_plan_says() -> None:
    """Nothing is held back before there is a reason."""
    assert Server(limit=7).allowance == 7
    assert math.isinf(Server(limit=None).allowance)


def test_overload_shrinks_by_a_share_of_what_was_open() -> None:
    """What counts is the load that was too much, not the limit."""
    server = Server(limit=100, open=50)

    server.pace.overloaded(0.0)

    assert server.allowance == 40


@pytest.mark.parametrize("open_now", [0, 1])
def test_trouble_without_load_of_ours_shrinks_nothing(open_now: int) -> None:
    """Less than one mount cannot be asked for."""
    server = Server(open=open_now)

    server.pace.overloaded(0.0)

    assert server.allowance == 100


def test_growth_waits_and_then_takes_longer_and_longer_steps() -> None:
    """After the hold the level grows by 1, 2, 4, ... up to the limit."""
    server = Server(limit=100)
    server.overload()
    levels = []
    server.passes(HOLD_S - TICK)
    held = server.allowance

    while server.allowance < 100:
        server.passes(GROWTH_S)
        levels.append(server.allowance)

    assert held == 80
    assert levels == [81, 83, 87, 95, 100]
    assert not server.pace.is_limiting


def test_repeated_overload_is_tried_again_less_and_less_often() -> None:
    """Each overload doubles the hold, up to its longest."""
    server = Server(limit=100)
    holds = []

    for _each in range(6):
        server.overload()
        failed, level = server.now, None
        server.passes(21)  # the ramp
        while level is None or server.allowance == level:
            level = server.allowance
            server.passes(TICK)
        holds.append(server.now - failed)

    assert holds == sorted(holds)
    assert holds[1] >= 2 * HOLD_S
    assert LONGEST_HOLD_S <= holds[-1] <= LONGEST_HOLD_S + 2 * TICK


@pytest.mark.parametrize(("good", "busy"), [(False, True), (True, False)])
def test_nothing_grows_without_good_answers_or_without_need(good: bool, busy: bool) -> None:
    """An idle allowance is no evidence that the server could bear more."""
    server = Server()
    server.overload()
    server.passes(21)
    server.open = 5

    server.passes(600, good=good, busy=busy)

    assert server.allowance == 80


def test_an_outage_ends_in_a_ramp_from_one_to_what_was() -> None:
    """It doubles at every tick: no herd at first, and no long wait at last."""
    server = Server(limit=100)
    seen = []

    server.pace.reopened(20)
    while server.pace.is_limiting:
        seen.append(server.allowance)
        server.passes(TICK, good=False)

    assert seen == [1, 2, 4, 8, 16, 32, 64]


def test_a_server_that_answered_no_probe_was_not_overloaded() -> None:
    """What was taken for overload is taken back; the ramp remains."""
    down, overloaded = Server(), Server()

    down.overload(unanswered=PROBES_OF_AN_OUTAGE)
    overloaded.overload(unanswered=PROBES_OF_AN_OUTAGE - 1)
    down.passes(30)
    overloaded.passes(30 - TICK)

    assert down.allowance == 100
    assert overloaded.allowance == 80


def test_an_outage_takes_back_only_the_shrinking_that_it_looked_like() -> None:
    """An overload of before stays learned."""
    server = Server()
    server.overload()
    server.passes(24)

    server.pace.reopened(20)
    server.passes(24)

    assert server.allowance in {80, 81}


def test_a_load_that_was_too_much_is_known_until_it_is_taken() -> None:
    """The lowest counts; a mount that is taken beyond it refutes it."""
    server = Server(limit=100, open=50)
    assert not server.pace.has_failed

    server.overload()
    server.open = 60
    server.overload()
    known = server.pace.has_failed
    server.open = 49
    below = server.pace.has_failed
    server.open = 51
    server.pace.took()

    assert (known, below, server.pace.has_failed) == (True, False, False)


def test_an_outage_teaches_no_load() -> None:
    """What was taken for overload was none."""
    server = Server(limit=100, open=50)

    server.overload(unanswered=PROBES_OF_AN_OUTAGE)

    assert not server.pace.has_failed


@given(
    st.one_of(st.none(), st.integers(1, 500)),
    st.lists(
        st.one_of(
            st.tuples(st.just("overload"), st.integers(0, 600)),
            st.tuples(st.just("reopen"), st.integers(0, 30)),
            st.tuples(st.just("pass"), st.integers(0, 400)),
        ),
        max_size=40,
    ),
)
def test_the_allowance_stays_between_one_and_the_limit(
    limit: int | None, story: list[tuple[str, int]]
) -> None:
    """Whatever happens; and an allowance that is finite is a whole number."""
    server = Server(limit=limit)
    for what, number in story:
        if what == "overload":
            server.open = number
            server.pace.overloaded(server.now)
        elif what == "reopen":
            server.pace.reopened(number)
        else:
            server.passes(number)

        assert 1 <= server.allowance <= (limit or math.inf)
        assert math.isinf(server.allowance) or server.allowance == int(server.allowance)


@given(st.integers(1, 500), st.lists(st.integers(0, 600), max_size=20))
def test_every_server_that_gets_well_gets_its_limit_again(limit: int, overloads: list[int]) -> None:
    """However often it was overloaded before, twenty good minutes are enough."""
    server = Server(limit=limit)
    for open_now in overloads:
        server.open = open_now
        server.overload()

    server.passes(1200)

    assert server.allowance == limit


@pytest.mark.anyio
async def test_who_waits_for_a_reason_to_step_up_is_woken_by_it() -> None:
    """No clock ticks while nothing is held back."""
    server = Server()
    woken: list[float] = []

    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            await server.pace.limiting()
            woken.append(anyio.current_time())

        began = anyio.current_time()
        tasks.start_soon(wait)
        await anyio.sleep(50)
        server.pace.reopened(0)

    assert woken == [began + 50]


@pytest.mark.parametrize("limit", [7, None])
def test_the_ramp_of_a_plan_counts_from_the_first_mount(limit: int | None) -> None:
    """Before it nothing more is given; then as much again each time, up to the limit."""
    server = Server(limit=limit, open=0, ramp=Ramp(mounts=2, every=60.0))

    server.passes(300.0)
    assert server.allowance == 2
    server.pace.begin(server.now)
    server.passes(59.0)
    assert server.allowance == 2
    server.passes(60.0)
    assert server.allowance == 4
    server.pace.begin(server.now)
    server.passes(120.0)
    assert server.allowance == min(limit or 8, 8)
    assert server.pace.is_limiting is (limit is None)


def test_overload_during_the_ramp_of_a_plan_holds_beside_it() -> None:
    """The least of all counts: what was shrunk grows back at its own pace."""
    server = Server(limit=100, open=2, ramp=Ramp(mounts=2, every=60.0))
    server.pace.begin(0.0)
    server.passes(300.0)
    assert server.allowance == 12

    server.overload()
    server.passes(9.0)
    assert server.allowance < 12
    server.passes(3600.0)

    assert server.allowance == 100
