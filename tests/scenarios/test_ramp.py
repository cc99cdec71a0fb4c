"""How fast a server is given its mounts: `start_interval` and `ramp`, by the servers' truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.core.events import Event, TaskAccepted, TaskSucceeded
from orchestrator.core.lifecycle import MountRecord
from orchestrator.engine.run import Run
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.truth import MountFate
from orchestrator.views.statistics import RunStatistics
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, drill, staged
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio

HQ = Site("hq", machines=24, backup_servers=8, limit=12, mount_s=600.0)
DR = Site("dr", machines=8, backup_servers=4, limit=8, mount_s=90.0)
RAMP = "limits: {ramp: {from: 2, every: 60s}}\n"


def mounts_on(done: Drill, server: str) -> Sequence[MountFate]:
    """Return the mounts of a server in the order in which they were asked for."""
    of_server = [each for each in done.truth.mounts if each.server == server]
    return sorted(of_server, key=lambda each: each.requested_at)


def assert_ramped(mounts: Sequence[MountFate], began: float, at_least: int) -> None:
    """Check that at no request more was open than two, and two more for each minute.

    And that it came to `at_least` so many.
    """
    peak = 0
    for each in mounts:
        at = each.requested_at
        still_open = sum(
            other.requested_at <= at and (other.closed_at is None or other.closed_at > at)
            for other in mounts
        )
        peak = max(peak, still_open)
        assert still_open <= 2 * (1 + math.floor((at - began) / 60.0))
    assert peak >= at_least


async def test_a_server_begins_with_few_mounts_and_is_given_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each server by itself, from its own first mount, up to its limit."""
    done = await drill(tmp_path, monkeypatch, [HQ, DR], extra=RAMP)

    assert done.outcome.code == 0
    for server, at_least in (("hq", 12), ("dr", 3)):
        mounts = mounts_on(done, server)
        assert_ramped(mounts, mounts[0].requested_at, at_least)


@pytest.mark.parametrize("pace", [RAMP, "limits: {start_interval: 90s}\n"])
async def test_the_time_left_counts_how_fast_servers_are_given_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pace: str
) -> None:
    """From the first wave on the end lies in the range, or next to it."""
    seconds = {"hq": 600.0, "dr": 90.0}
    watching = Watching(RunStatistics(lambda server, _vm: seconds[server]))

    done = await drill(tmp_path, monkeypatch, [HQ, DR], extra=pace, observers=[watching])

    looks = [(low, high, done.took_s - at) for at, low, high in watching.looks]
    close = [look for look in looks if 0.8 * look[0] <= look[2] <= 1.2 * look[1] + 60.0]
    assert len(looks) > 50
    assert len(close) > 0.9 * len(looks), looks


class Watching:
    """Notes the time left after each event, from the first accepted mount on."""

    def __init__(self, statistics: RunStatistics) -> None:
        """Before the first event."""
        self._statistics = statistics
        self.looks: list[tuple[float, float, float]] = []

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Look."""
        self._statistics.observe(event, record)
        left = self._statistics.time_left()
        if isinstance(event, TaskAccepted | TaskSucceeded):
            assert left.low is not None
            assert left.high is not None
            self.looks.append((event.at, left.low, left.high))


async def test_a_resume_begins_the_ramp_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process was given says nothing of what the server bears now."""
    async with staged(tmp_path, monkeypatch, [HQ], extra=RAMP) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=400.0) is None
        await anyio.sleep(1000.0)
        died = max(each.requested_at for each in stage.sites.truth.mounts)
        done = await stage.resume()

    later = [each for each in mounts_on(done, "hq") if each.requested_at > died]
    assert_ramped(later, later[0].requested_at, 8)


async def test_two_mount_requests_are_so_far_apart_on_each_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the server, whatever the network does; no server waits for another one."""
    extra = "limits: {start_interval: 7s}\n"
    slow = [Fault(kind="delay", method="POST", path="/mounts$", seconds=4.0, probability=0.4)]
    sites = [replace(site, faults=slow) for site in (HQ, DR)]

    done = await drill(tmp_path, monkeypatch, sites, extra=extra)

    assert done.outcome.code == 0
    firsts = []
    for server in ("hq", "dr"):
        mounts = mounts_on(done, server)
        firsts.append(mounts[0].requested_at)
        apart = [after.requested_at - before.requested_at for before, after in pairwise(mounts)]
        assert min(apart) >= 7.0
        assert sorted(apart)[len(apart) // 4] < 8.0, "no longer than asked for"
    assert abs(firsts[0] - firsts[1]) < 6.0


async def test_a_stop_does_not_wait_for_the_next_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it is given up at once, and nothing more is asked for."""

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(60.0)
        run.stop("SIGTERM")

    done = await drill(
        tmp_path, monkeypatch, [HQ], extra="limits: {start_interval: 1h}\n", meanwhile=stop
    )

    assert done.outcome.code == 143
    assert len(done.truth.mounts) == 1
    assert done.took_s < 1000.0
