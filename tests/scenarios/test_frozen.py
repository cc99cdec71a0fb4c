"""A process that stands still for a while (SIGSTOP, a suspended machine) looks before it judges."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from orchestrator.engine.run import Run
from tests.scenarios.drill import Site, drill
from tests.virtual.clock import freeze
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio


async def still(seconds: float, after: float) -> None:
    """Let this process stand still for so many seconds."""
    await anyio.sleep(after)
    freeze(seconds)


async def test_a_mount_that_ended_meanwhile_is_not_overdue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task is looked at once before its time limit speaks."""
    site = Site("hq", machines=4, limit=4, mount_s=60.0)

    async def stand_still(_sites: Sites, _run: Run) -> None:
        await still(300.0, 30.0)

    done = await drill(
        tmp_path,
        monkeypatch,
        [site],
        extra="defaults: {timeouts: {mount: 100s}}\n",
        meanwhile=stand_still,
    )

    assert Counter(done.results().values()) == {"mounted": 4}
    assert done.outcome.code == 0


async def test_a_run_whose_last_mounts_ended_meanwhile_is_not_halted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline of the run speaks after the look that shows them done."""
    site = Site("hq", machines=4, limit=4, mount_s=60.0)

    async def stand_still(_sites: Sites, _run: Run) -> None:
        await still(300.0, 30.0)

    done = await drill(
        tmp_path, monkeypatch, [site], extra="limits: {deadline: 100s}\n", meanwhile=stand_still
    )

    assert Counter(done.results().values()) == {"mounted": 4}
    assert done.outcome.code == 0


async def test_a_run_that_has_more_to_do_is_halted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes seconds, not another deadline."""
    site = Site("hq", machines=12, limit=4, mount_s=60.0)

    async def stand_still(_sites: Sites, _run: Run) -> None:
        await still(300.0, 30.0)

    done = await drill(
        tmp_path, monkeypatch, [site], extra="limits: {deadline: 100s}\n", meanwhile=stand_still
    )

    counts = Counter(done.results().values())
    assert done.outcome.code == 5
    assert counts["skipped"] >= 4
    assert set(counts) == {"mounted", "skipped"}


async def test_what_stood_still_here_is_no_silence_of_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server is given up for the time in which nobody listened."""
    site = Site("hq", machines=4, limit=4, mount_s=500.0)

    async def stand_still(_sites: Sites, _run: Run) -> None:
        for _ in range(5):
            await still(60.0, 7.3)

    done = await drill(
        tmp_path, monkeypatch, [site], extra="limits: {outage: 20s}\n", meanwhile=stand_still
    )

    assert Counter(done.results().values()) == {"mounted": 4}
    assert not done.report["servers"][0]["outages"]
