"""Delays and limits: their bounds, and which way they move."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.core.policy import (
    KEEP_ALIVE_AFTER,
    RECONNECT,
    RELEASE,
    SESSION_IDLE_LIMIT,
    Backoff,
    WatchPolicy,
)

backoffs = st.builds(
    Backoff,
    first=st.floats(0.01, 60),
    ceiling=st.floats(0.01, 600),
    factor=st.floats(1, 4),
    jitter=st.floats(0, 0.5),
)
attempts = st.integers(1, 10_000)
crowds = st.integers(0, 1000)
durations = st.floats(0, 100_000)
WATCH = WatchPolicy()


@given(backoffs, attempts, st.integers())
@example(RECONNECT, 10**9, 0)
def test_a_pause_is_never_far_above_its_ceiling_nor_below_its_first(
    backoff: Backoff, attempt: int, seed: int
) -> None:
    """However often something was tried: between the first pause and the ceiling, plus jitter."""
    pause = backoff.delay(attempt, random.Random(seed))

    least = min(backoff.first, backoff.ceiling) * (1 - backoff.jitter)
    assert least * 0.999 <= pause <= backoff.ceiling * (1 + backoff.jitter) * 1.001


@given(backoffs, attempts, attempts)
def test_pauses_do_not_shrink(backoff: Backoff, one: int, other: int) -> None:
    """Apart from the jitter, the later try waits at least as long as the earlier."""
    steady = replace(backoff, jitter=0.0)
    early, late = sorted((one, other))

    assert steady.delay(early, random.Random(0)) <= steady.delay(late, random.Random(0))


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 2.0), (2, 4.0), (3, 8.0), (4, 16.0), (5, 30.0), (99, 30.0)]
)
def test_a_pause_doubles_up_to_its_ceiling(attempt: int, seconds: float) -> None:
    """The first pause is the one of the table, the next twice as long, and so on."""
    steady = replace(RECONNECT, jitter=0.0)

    assert steady.delay(attempt, random.Random(0)) == seconds


def test_jitter_spreads_those_who_wait_together() -> None:
    """A hundred targets that failed at once do not come back at once."""
    rng = random.Random(1)

    pauses = sorted(RELEASE.delay(1, rng) for _each in range(100))

    assert len(set(pauses)) == 100
    assert pauses[0] < 0.85
    assert pauses[-1] > 1.15


def test_a_silent_server_is_probed_at_most_sixty_times_in_ten_minutes() -> None:
    """Whatever the jitter, an outage does not become a flood."""
    passed, probes = 0.0, 0
    hasty = replace(RECONNECT, first=RECONNECT.first * 0.8, ceiling=RECONNECT.ceiling * 0.8)
    while passed < 600:
        probes += 1
        passed += replace(hasty, jitter=0.0).delay(probes, random.Random(0))

    assert probes <= 60


def test_a_session_is_used_long_before_the_server_forgets_it() -> None:
    """One lost keep-alive leaves time for several more."""
    assert 5 * RECONNECT.ceiling <= SESSION_IDLE_LIMIT - KEEP_ALIVE_AFTER


@given(crowds, durations)
def test_an_interval_stays_within_its_bounds(in_flight: int, expected: float) -> None:
    """Never more often than ten times a second, never less than four times a minute."""
    assert WATCH.shortest <= WATCH.interval(in_flight=in_flight, expected=expected) <= WATCH.longest


@given(crowds, durations, st.floats(-1000, 1000))
def test_what_cannot_have_ended_is_not_read(
    in_flight: int, expected: float, nearest: float
) -> None:
    """The interval begins when the first task may have ended; it stays within its bounds."""
    usual = WATCH.interval(in_flight=in_flight, expected=expected)

    pause = WATCH.interval(in_flight=in_flight, expected=expected, nearest=nearest)

    most = WATCH.crowded if in_flight >= 150 else WATCH.longest
    assert usual <= pause <= max(most, usual)
    assert pause == pytest.approx(min(usual + max(nearest, 0.0), pause))
    assert pause >= min(max(nearest, 0.0), usual)


@given(st.integers(7, 99), st.floats(12, 96))
def test_few_tasks_are_read_calmly(in_flight: int, expected: float) -> None:
    """A read finds few of them ended, so one comes every `calm` seconds, unless mounts are long."""
    assert WATCH.interval(in_flight=in_flight, expected=expected) == WATCH.calm


@given(st.integers(1, 15), st.floats(0.0, 3.5))
def test_short_mounts_do_not_idle_for_that(in_flight: int, expected: float) -> None:
    """Mounts of a few seconds are read often: they idle for a twentieth of a second."""
    assert WATCH.interval(in_flight=in_flight, expected=expected) <= 0.11


@given(st.floats(0, 10_000))
def test_reads_of_a_task_of_which_nothing_is_known_grow_sparse(age: float) -> None:
    """As long again as it has run, from a quarter of a second to `calm`."""
    assert WATCH.growing(age) == min(max(age, 0.25), WATCH.calm)


@given(st.integers(50, 10_000), durations)
def test_a_crowd_is_not_read_in_a_rush(in_flight: int, expected: float) -> None:
    """From `many` tasks on, a read of them all comes at most once in `crowded` seconds."""
    assert WATCH.interval(in_flight=in_flight, expected=expected) >= WATCH.crowded


@given(st.integers(150, 10_000), durations)
def test_a_great_crowd_is_read_once_a_second(in_flight: int, expected: float) -> None:
    """With three times as many, the interval is `crowded` and nothing else."""
    pause = WATCH.interval(in_flight=in_flight, expected=expected)

    assert pause == pytest.approx(WATCH.crowded)


@given(crowds, durations, durations)
def test_longer_mounts_are_read_less_often(in_flight: int, one: float, other: float) -> None:
    """For the same crowd the interval grows with the expected duration."""
    short, long = sorted((one, other))

    assert WATCH.interval(in_flight=in_flight, expected=short) <= WATCH.interval(
        in_flight=in_flight, expected=long
    )


@given(st.integers(0, 100), st.integers(0, 100), durations)
def test_up_to_twice_many_more_tasks_are_read_less_often(
    one: int, other: int, expected: float
) -> None:
    """A fuller page costs the server more, so it is asked for less often."""
    few, more = sorted((one, other))

    assert WATCH.interval(in_flight=few, expected=expected) <= WATCH.interval(
        in_flight=more, expected=expected
    )


@given(st.integers(100, 1000), st.integers(100, 1000), durations)
def test_from_twice_many_on_more_tasks_are_read_more_often(
    one: int, other: int, expected: float
) -> None:
    """Beyond that, one read serves so many that waiting costs more than asking."""
    few, more = sorted((one, other))

    assert WATCH.interval(in_flight=few, expected=expected) >= WATCH.interval(
        in_flight=more, expected=expected
    )


@given(st.integers(0, 100), st.floats(97, 576))
def test_a_mount_idles_for_its_share_of_its_duration(in_flight: int, expected: float) -> None:
    """Where no bound applies, half an interval is `idle_share` of the mount."""
    pause = WATCH.interval(in_flight=in_flight, expected=expected)

    assert pause / 2 == pytest.approx(WATCH.idle_share * expected)
