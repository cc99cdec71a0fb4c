"""A run without a clock: the scheduler's own order, the waves, the holds, and what binds."""

from __future__ import annotations

import random

import pytest

from orchestrator.core.model import (
    BackupServerName,
    MountKey,
    MountRequest,
    Ramp,
    ServerName,
    WaveFacts,
    WaveName,
)
from orchestrator.engine.forecast.binding import binding_limits
from orchestrator.engine.forecast.play import Played, play
from orchestrator.engine.limits import Limits
from tests.bench.arrangements import ARRANGEMENTS, LIMITS, arranged
from tests.bench.schedule import greedy_makespan, heavy_tailed, request

A = ServerName("a")
W = WaveName("w")


def waves(**after: str) -> list[WaveFacts]:
    """Return waves by name, each after the one that is named, or none."""
    return [
        WaveFacts(name=WaveName(name), after=(WaveName(before),) if before else ())
        for name, before in after.items()
    ]


def bound(played: Played, limits: Limits) -> list[tuple[str, float]]:
    """Return the limits that bind, with their seconds."""
    return [(each.name, each.seconds) for each in binding_limits(played, limits)]


@pytest.mark.parametrize("kind", ARRANGEMENTS)
def test_a_play_goes_as_the_scheduler_admits(kind: str) -> None:
    """The same end as admission itself with perfect servers, and every limit binds as it is."""
    rng = random.Random(3)
    requests = arranged(kind, rng)
    seconds = dict(zip([each.key for each in requests], heavy_tailed(rng, 600), strict=True))

    def truth(each: MountRequest) -> float:
        return seconds[each.key]

    played = play(requests, waves(w=""), LIMITS, truth)

    assert played.end == greedy_makespan(requests, LIMITS, truth, truth)
    took = {each.request.key: each.end - each.start for each in played.mounts}
    assert took == pytest.approx(seconds)


def test_a_wave_waits_for_verdicts_and_slots_for_the_end_of_holds() -> None:
    """Mounts of 10 s held for 100 s, one at a time: the next wave starts after the verdicts."""
    requests = [request(n, "a", "b", wave="first") for n in range(2)]
    requests.append(request(9, "a", "other", wave="second"))

    played = play(
        requests,
        waves(first="", second="first"),
        Limits(backup_server_default=1),
        lambda _: 10.0,
        begins=5.0,
        hold=100.0,
    )

    first, second = played.waves[WaveName("first")], played.waves[WaveName("second")]
    assert (first.start, first.end) == (5.0, 125.0)  # the second mount waits for the hold
    assert (second.start, second.end) == (125.0, 135.0)
    assert played.end == 235.0


def test_a_start_interval_keeps_mount_requests_apart_on_each_server() -> None:
    """Counted from the answer to one to the next; who waits has its slot."""
    requests = [request(n, server, f"b{n}") for n in range(4) for server in ("a", "z")]
    limits = Limits(start_interval=20.0)

    played = play(requests, waves(w=""), limits, lambda _: 100.0, begins=5.0, answer=3.0)

    ends = sorted(each.end for each in played.mounts)
    assert ends == [each for each in (105.0, 128.0, 151.0, 174.0) for _ in range(2)]


def test_a_ramp_gives_each_server_more_from_its_first_mount_on() -> None:
    """One mount at first, one more each minute, to the limit of the server."""
    requests = [request(n, "a", f"b{n}") for n in range(6)]
    limits = Limits(servers={A: 3}, ramp=Ramp(mounts=1, every=60.0))

    played = play(requests, waves(w=""), limits, lambda _: 100.0, begins=5.0)

    starts = sorted(each.start for each in played.mounts)
    assert starts == [5.0, 65.0, 105.0, 125.0, 165.0, 205.0]
    assert played.end == 305.0


def test_a_ramp_does_not_count_mounts_that_are_held() -> None:
    """They are no load: with one at a time the next begins with the hold of the one before."""
    requests = [request(n, "a", f"b{n}") for n in range(3)]
    limits = Limits(ramp=Ramp(mounts=1, every=9000.0))

    played = play(requests, waves(w=""), limits, lambda _: 10.0, hold=500.0)

    assert [each.start for each in played.mounts] == [0.0, 10.0, 20.0]
    assert played.end == 530.0


def test_an_empty_wave_ends_at_once() -> None:
    """It is passed through, and has a place in the times."""
    played = play(
        [request(1, "a", "b", wave="third")],
        waves(first="", second="first", third="second"),
        Limits(),
        lambda _: 10.0,
    )

    assert [each.start for each in played.waves.values()] == [0.0, 0.0, 0.0]
    assert played.end == 10.0


def test_two_points_of_one_machine_follow_each_other() -> None:
    """And that is what binds, whatever room the server has."""
    requests = [request(n, "a", "b", vm="db") for n in range(3)]

    played = play(requests, waves(w=""), Limits(), lambda _: 10.0)

    assert played.end == 30.0
    assert bound(played, Limits()) == [("run.mounts_per_vm", 20.0)]


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (Limits(run=2, backup_server_default=9), ["run.mounts"]),
        (Limits(servers={A: 2}, backup_server_default=9), ["a.mounts"]),
        (Limits(waves={W: 2}, backup_server_default=9), ["waves/w.mounts"]),
        (Limits(backup_server_default=2), ["a/b.mounts"]),
        (Limits(backup_servers={(A, BackupServerName("B")): 2}), ["a/b.mounts"]),
        (Limits(run=2, servers={A: 2}, backup_server_default=9), ["a.mounts", "run.mounts"]),
        (Limits(backup_server_default=9), []),
    ],
)
def test_the_limit_is_named_that_the_end_waited_for(limits: Limits, names: list[str]) -> None:
    """Six mounts of 10 s, two at a time: for 20 of the 30 seconds."""
    played = play([request(n, "a", "b") for n in range(6)], waves(w=""), limits, lambda _: 10.0)

    assert bound(played, limits) == [(name, 20.0) for name in names]
    assert [each.share for each in binding_limits(played, limits)] == pytest.approx(
        [2 / 3] * len(names)
    )


def test_a_full_limit_that_the_end_does_not_wait_for_is_not_named() -> None:
    """Server a is full for 20 s, and the long mount of server z decides the end."""
    requests = [request(n, "a", "b") for n in range(2)] + [request(9, "z", "c")]
    limits = Limits(servers={A: 1})

    played = play(requests, waves(w=""), limits, lambda each: 50.0 if each.server == "z" else 10.0)

    assert played.end == 50.0
    assert bound(played, limits) == []


def test_what_binds_is_followed_through_the_waves() -> None:
    """The last wave is one long mount; what delayed the first delays the end, too.

    Between them is a wave without a target.
    """
    requests = [request(n, "a", "b", wave="first") for n in range(4)]
    requests.append(request(9, "a", "c", wave="third"))
    facts = waves(first="", second="first", third="second")
    limits = Limits(backup_server_default=2)

    played = play(requests, facts, limits, lambda _: 10.0)

    assert played.end == 30.0
    assert bound(played, limits) == [("a/b.mounts", 10.0)]


def test_the_order_rests_on_what_is_expected_not_on_what_comes() -> None:
    """One at a time: the mount that is expected to be the longest goes first."""
    requests = [request(n, "a", "b") for n in range(2)]
    keys = [each.key for each in requests]

    played = play(
        requests,
        waves(w=""),
        Limits(backup_server_default=1),
        lambda each: {keys[0]: 30.0, keys[1]: 1.0}[each.key],
        expected=lambda each: {keys[0]: 1.0, keys[1]: 30.0}[each.key],
    )

    assert [each.request.key for each in played.mounts] == [MountKey("w/a/1"), MountKey("w/a/0")]


def test_a_wave_waits_for_the_last_verdict_not_for_a_limit() -> None:
    """Its first mount gets the slot of the wave before; only its second one waits for a slot."""
    requests = [request(n, "a", "b", wave="first" if n == 0 else "second") for n in range(3)]
    limits = Limits(backup_server_default=1)

    played = play(requests, waves(first="", second="first"), limits, lambda _: 10.0)

    assert played.end == 30.0
    assert bound(played, limits) == [("a/b.mounts", 10.0)]
