"""A lease as its holder sees it: when it may act, and when it never may again."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.clock import HAS_BOOT_CLOCK, boot_clock
from orchestrator.core.lease import Lease
from orchestrator.core.policy import LEASE_LIFE, LEASE_MARGIN

SURE_FOR = LEASE_LIFE - LEASE_MARGIN


class Clock:
    """A clock that is put forward by hand."""

    now = 1000.0

    def __call__(self) -> float:
        """Return its seconds."""
        return self.now


def test_a_lease_is_sure_until_a_second_before_the_database_lets_it_go() -> None:
    """Counted from when the statement was sent, not from when its answer came."""
    clock = Clock()
    lease = Lease(7, sent_at=clock.now, clock=clock)

    clock.now += SURE_FOR - 0.001
    assert lease.sure
    clock.now += 0.001
    assert not lease.sure
    assert (lease.epoch, lease.lost, SURE_FOR) == (7, False, 5.0)


def test_a_renewal_makes_it_sure_again() -> None:
    """Also after it was unsure: the database knows that nobody has taken it meanwhile."""
    clock = Clock()
    lease = Lease(7, sent_at=clock.now, clock=clock)
    clock.now += 60.0

    lease.renewed(clock.now - 1.0)

    assert lease.sure
    clock.now += SURE_FOR - 1.0
    assert not lease.sure


def test_a_renewal_that_was_long_on_its_way_makes_nothing_sure() -> None:
    """The lease may have expired again before its answer came."""
    clock = Clock()
    lease = Lease(7, sent_at=clock.now, clock=clock)
    clock.now += 60.0

    lease.renewed(clock.now - SURE_FOR)

    assert not lease.sure


@given(st.lists(st.floats(0.0, 100.0), min_size=1), st.floats(0.0, 200.0))
def test_it_is_sure_by_the_newest_renewal_in_whatever_order_they_are_told(
    sent: list[float], now: float
) -> None:
    """A late answer to an older renewal shortens nothing."""
    clock = Clock()
    lease = Lease(1, sent_at=sent[0], clock=clock)
    for at in sent[1:]:
        lease.renewed(at)

    clock.now = now

    assert lease.sure is (now < max(sent) + LEASE_LIFE - LEASE_MARGIN)


def test_a_lost_lease_is_lost_for_ever() -> None:
    """No renewal that was on its way brings it back: the epoch is another's."""
    clock = Clock()
    lease = Lease(7, sent_at=clock.now, clock=clock)

    lease.lose()
    lease.lose()
    lease.renewed(clock.now)

    assert lease.lost
    assert not lease.sure


@pytest.mark.skipif(not HAS_BOOT_CLOCK, reason="this system has no clock that goes on while asleep")
def test_a_machine_that_slept_is_not_sure_of_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database went on: the lease has expired, and another worker may have it.

    The monotonic clock stood still meanwhile, and would show a lease that is a moment old.
    """
    awake, asleep = 5000.0, 0.0

    def gettime(clock: int) -> float:
        return awake + (asleep if clock == time.CLOCK_BOOTTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", gettime)
    monkeypatch.setattr(time, "monotonic", lambda: awake)
    lease = Lease(7, sent_at=boot_clock())
    awake += 0.1
    assert lease.sure

    asleep += 3600.0

    assert not lease.sure
