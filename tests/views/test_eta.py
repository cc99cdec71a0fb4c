"""The rest of a run: a range that holds, wider the less is known, and no number from nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
from msgspec.structs import replace

from orchestrator.core.events import (
    Event,
    MountKept,
    RunResumed,
    RunStarted,
    ServerGivenUp,
    ServerPaced,
    ServerParked,
    StopRequested,
)
from orchestrator.core.model import (
    Ramp,
    ServerName,
    WaveFacts,
    WaveName,
)
from orchestrator.core.text import rough
from orchestrator.views.eta import Expected, TimeLeft, nothing_known
from orchestrator.views.statistics import RunStatistics
from tests.views.story import STARTED_AT, planned, started, told, verified, wave

HQ = ServerName("hq")


def tallied(*events: Event, expected: Expected | None = None) -> RunStatistics:
    """Return the statistics after a whole story."""
    stats = RunStatistics(expected or nothing_known)
    for event, record in told(events):
        stats.observe(event, record)
    return stats


def of(seconds: float, *known: str) -> Expected:
    """Return a history in which the `known` machines, or all, took so many seconds."""
    return lambda _server, vm: seconds if not known or vm in known else None


def many(count: int, server: str = "hq") -> list[Event]:
    """Return the begin of a run with `count` targets."""
    begun: list[Event] = [started(limit=4), *(planned(f"v{n}", server) for n in range(count))]
    return [*begun, wave(0)]


def test_without_any_knowledge_the_rest_is_unknown() -> None:
    """No number is invented: neither at the begin nor after two mounts."""
    events = many(20)

    assert tallied(*events).time_left() == TimeLeft()
    assert (
        tallied(*events, *verified("v0", 1), *verified("v1", 9)).time_left().words
        == "time left: not known"
    )


def test_history_gives_a_range_before_anything_has_ended() -> None:
    """20 mounts of 60 s, 4 at once, take 300 s: the range is around that."""
    time_left = tallied(*many(20), expected=of(60)).time_left()

    assert time_left.low is not None
    assert time_left.high is not None
    assert time_left.low < 300 < time_left.high < 450


def test_a_history_of_a_few_machines_says_nothing_of_the_others() -> None:
    """Half of them must be known before the rest is taken to be like them."""
    few = [f"v{n}" for n in range(9)]

    assert tallied(*many(20), expected=of(60, *few)).time_left() == TimeLeft()
    assert tallied(*many(20), expected=of(60, *few, "v9")).time_left().low is not None


def test_backup_servers_bound_what_a_server_may_do() -> None:
    """Where a server has no limit of its own, its backup servers still have theirs."""
    begun = started(limit=None)  # the default: four mounts on each backup server
    events = [begun, *(planned(f"v{n}") for n in range(20)), wave(0)]

    time_left = tallied(*events, expected=of(60)).time_left()

    assert time_left.low is not None
    assert 200 < time_left.low < 300


def test_waves_that_wait_for_each_other_are_added_up() -> None:
    """Two short waves one after the other take twice as long as both at once."""
    first, second = WaveName("w"), WaveName("x")
    apart = started(limit=None)

    def begun(*after: WaveName) -> RunStarted:
        facts = (WaveFacts(name=first), WaveFacts(name=second, after=after))
        return RunStarted(
            at=0,
            run=apart.run,
            started_at=STARTED_AT,
            plan="p",
            plan_path="p",
            plan_sha256="0",
            version="1",
            servers=apart.servers,
            waves=facts,
        )

    def both(run: RunStarted) -> float:
        from msgspec.structs import replace

        from orchestrator.core.model import MountKey

        later = replace(planned("b"), key=MountKey("x/hq/b"), wave=second)
        low = tallied(run, planned("a"), later, wave(0), expected=of(60)).time_left().low
        assert low is not None
        return low

    assert both(begun(first)) == pytest.approx(2 * both(begun()))


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (ServerParked(at=50, server=HQ, reason="503"), "1 server out of reach"),
        (ServerPaced(at=50, server=HQ, allowed=1), ""),
    ],
    ids=["parked", "slowed"],
)
def test_a_servers_trouble_is_accounted_for(trouble: Event, words: str) -> None:
    """While a needed server is parked there is no end; while it is slowed the end is later."""
    before = [*many(20), *(e for n in range(5) for e in verified(f"v{n}", 1.0 + 8 * n))]
    usual = tallied(*before, expected=of(60)).time_left()

    time_left = tallied(*before, trouble, expected=of(60)).time_left()

    assert usual.low is not None
    assert time_left.low is not None
    assert time_left.why == words
    if words:
        assert time_left.high is None
        assert time_left.words.startswith("at least")
    else:
        assert time_left.low > 3 * usual.low


def around(time_left: TimeLeft, seconds: float) -> bool:
    """Return whether a range holds a number, and is no wider than its half to its double."""
    assert time_left.low is not None
    assert time_left.high is not None
    return seconds / 2 < time_left.low < seconds < time_left.high < 2 * seconds


def test_a_ramp_gives_a_server_more_by_and_by() -> None:
    """20 mounts of 60 s, 4 at once in the end: 1 in the first minute, and one more in each."""
    begun, *others = many(20)
    assert isinstance(begun, RunStarted)
    run = replace(begun, ramp=Ramp(mounts=1, every=60.0))
    given = ServerPaced(at=0, server=HQ, allowed=1)

    before = tallied(run, *others, given, expected=of(60)).time_left()
    first = [planned("v99"), *verified("v99", 0.0)[:2]]
    stats = tallied(run, *others, given, *first, expected=of(60))
    stats.now = 150.0

    assert around(before, 60 + 60 + 60 + (1200 - 60 - 120 - 180) / 4)
    paced = ServerPaced(at=150, server=HQ, allowed=3)
    stats.observe(paced, None)
    usual = stats.time_left()
    assert around(usual, 30 + (1200 - 90) / 4)
    stats.observe(replace(paced, allowed=2), None)  # it is in trouble: less than the ramp gives
    slowed = stats.time_left()
    assert usual.low is not None
    assert slowed.low is not None
    assert slowed.low > 1.5 * usual.low


def test_a_start_interval_bounds_what_a_server_may_begin() -> None:
    """20 mounts of 60 s, one each 30 s: the limit of 4 is never reached."""
    begun, *others = many(20)
    assert isinstance(begun, RunStarted)
    run = replace(begun, start_interval_s=30.0)

    assert around(tallied(run, *others, expected=of(60)).time_left(), 19 * 30 + 60)


def test_a_server_that_is_not_needed_any_more_hides_no_end() -> None:
    """Only servers with targets count."""
    begun = started("hq", "dr")
    idle = ServerParked(at=1, server=ServerName("dr"), reason="503")

    assert tallied(begun, planned("a"), wave(0), idle, expected=of(60)).time_left().high is not None
    gone = ServerGivenUp(at=2, server=ServerName("dr"), reason="silent", refused=False)
    assert tallied(begun, planned("a"), wave(0), idle, gone, expected=of(60)).time_left().why == ""


@pytest.mark.parametrize("until", [1800.0, None])
def test_a_held_mount_is_accounted_for(until: float | None) -> None:
    """The run goes on at least until it is removed; without an end nobody knows."""
    life = verified("v0", 1)[:-3]
    kept = MountKept(at=6, key=life[0].key, reason="--hold", until=until)  # type: ignore[attr-defined]

    time_left = tallied(*many(1), *life, kept, expected=of(60)).time_left()

    if until is None:
        assert time_left.high is None
        assert "held" in time_left.words
    else:
        assert time_left.high is not None
        assert time_left.high > 1794


def test_where_all_is_held_the_end_is_known() -> None:
    """It is said when the last one is removed; with others under way it ends no earlier."""
    life, other = verified("v0", 1)[:-3], verified("v1", 1)[:2]
    kept = MountKept(at=6, key=life[0].key, reason="--hold", until=1806.0)  # type: ignore[attr-defined]

    alone = tallied(*many(1), *life, kept, expected=of(60)).time_left()
    with_another = tallied(*many(2), *life, kept, *other, expected=of(60)).time_left()

    assert alone.words == "about 30 min left"
    assert with_another.low is not None
    assert with_another.low >= 1800


def test_a_run_that_stops_waits_for_what_is_open_only() -> None:
    """The queue counts no more."""
    events = [*many(200), *verified("v0", 1)[:2]]
    stop = StopRequested(at=3, signal="SIGINT", forced=False)

    time_left = tallied(*events, stop, expected=of(60)).time_left()

    assert time_left.high is not None
    assert time_left.high < 150


def test_a_resumed_run_measures_its_pace_anew() -> None:
    """The hours for which nobody worked on it slow down nothing."""
    done = [e for n in range(5) for e in verified(f"v{n}", 1.0 + 8 * n)]
    resumed = RunResumed(at=40_000, resumed_at=STARTED_AT, version="1")
    more = [e for n in range(5, 10) for e in verified(f"v{n}", 40_001.0 + 8 * (n - 5))]

    time_left = tallied(*many(20), *done, resumed, *more).time_left()

    assert time_left.high is not None
    assert time_left.high < 300


def test_a_straggler_may_take_as_long_again() -> None:
    """What takes far longer than expected is no more promised to end in a moment."""
    done = [e for n in range(19) for e in verified(f"v{n}", 1.0 + n)]
    stats = tallied(*many(20), *done, *verified("v19", 25)[:2])

    highs = []
    for age in (3, 100, 400):
        stats.now = 25.0 + age
        highs.append(stats.time_left().high or 0.0)

    assert highs[0] < 30
    assert highs[1:] == [100, 400]


def test_a_mount_that_two_processes_saw_teaches_nothing_to_a_third() -> None:
    """The time between a process's death and the resume is nobody's work."""
    quick = [e for n in range(5) for e in verified(f"v{n}", 1.0 + 8 * n)]
    resumed = RunResumed(at=40_000, resumed_at=STARTED_AT, version="1")
    lives = [verified(f"v{n}", 41.0) for n in range(5, 10)]
    begun = [event for life in lives for event in life[:2]]
    ended = [_later(event, 40_000) for life in lives for event in life[2:]]
    again = RunResumed(at=50_000, resumed_at=STARTED_AT, version="1")

    time_left = tallied(*many(20), *quick, *begun, resumed, *ended, again).time_left()

    assert time_left.high is not None
    assert time_left.high < 300


def _later(event: Event, seconds: float) -> Event:
    return replace(event, at=event.at + seconds)


# --- does it hold? ---------------------------------------------------------------------------


def played(seed: int, slots: int = 4) -> tuple[Sequence[Event], float]:
    """Return a run of 120 mounts of 20 to 90 s, as its servers would do it, and its end."""
    rng = random.Random(seed)
    free = [0.0] * slots
    events: list[Event] = []
    for number in range(120):
        place = min(range(slots), key=free.__getitem__)
        seconds = rng.uniform(20, 90)
        life = verified(f"v{number}", free[place])
        begin = life[0].at
        events += [_stretched(event, begin, seconds) for event in life]
        free[place] += seconds
    return sorted(events, key=lambda event: event.at), max(free)


def _stretched(event: Event, begin: float, seconds: float) -> Event:
    return replace(event, at=begin + (event.at - begin) * seconds / 6)


def estimates(seed: int, expected: Expected | None) -> Iterator[tuple[TimeLeft, float]]:
    """Yield what was said at a tenth, at two tenths, ... of a run, and what was true."""
    events, end = played(seed)
    for tenth in range(1, 9):
        at = end * tenth / 10
        stats = tallied(*many(120), *(e for e in events if e.at <= at), expected=expected)
        stats.now = at
        yield stats.time_left(), end - at


@pytest.mark.parametrize("expected", [None, of(55)], ids=["no history", "history"])
def test_the_truth_lies_in_the_range(expected: Expected | None) -> None:
    """In at least nine of ten looks, and the range is never wider than twice the truth."""
    looks = [look for seed in range(10) for look in estimates(seed, expected)]
    known = [(time_left, truth) for time_left, truth in looks if time_left.low is not None]

    hits = [r.low <= t <= r.high for r, t in known if r.low is not None and r.high is not None]

    assert len(known) >= 0.95 * len(looks)
    assert sum(hits) >= 0.9 * len(known)
    assert all((r.high or 0) - (r.low or 0) < 2 * t for r, t in known)


@pytest.mark.parametrize(
    ("time_left", "words"),
    [
        (TimeLeft(), "time left: not known"),
        (TimeLeft(58, 62), "about 1 min left"),
        (TimeLeft(300, 480), "5 min to 8 min left"),
        (TimeLeft(600, 700), "about 11 min left"),
        (
            TimeLeft(300, None, "1 server out of reach"),
            "at least 5 min left, 1 server out of reach",
        ),
        (TimeLeft(4000, 8000), "1 h 7 min to 2 h 13 min left"),
    ],
    ids=str,
)
def test_an_estimate_is_worded_no_finer_than_it_is(time_left: TimeLeft, words: str) -> None:
    """About, a range, at least, or unknown."""
    assert time_left.words == words


def test_long_estimates_are_rough() -> None:
    """Nobody knows the minutes of a day."""
    assert [rough(s) for s in (1, 61, 661, 40_000)] == ["5 s", "1 min", "11 min", "11 h"]
