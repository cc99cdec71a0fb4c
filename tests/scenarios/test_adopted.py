"""A task that was taken for a lost request's, on a server that also shows strangers' mounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import REPLICAS
from tests.scenarios.drill import ACCOUNT, PASSWORD, Site, Stage, staged
from tests.scenarios.test_lost_session import all_good, restarting, run_beside, two
from tests.scenarios.test_strays import TWO_WAVES, conducted, linkless

pytestmark = pytest.mark.anyio

EVERYWHERE = r"/tasks/[^/]+$"
"""The reads of single tasks: with the lists, no answer shows a link."""


def lost(skip: int = 0) -> Fault:
    """Return the fault of one mount request that is carried out, and whose answer is lost."""
    return Fault(kind="close_after", method="POST", path="/mounts$", skip=skip, count=1)


def shows_all(*faults: Fault, related: str = "absent", machines: int = 2, **look: Any) -> Site:
    """Return a server that shows the mounts of every session in each."""
    behaviour = Behaviour(related=related, shows_others="mounts", backup_server_slots=6, **look)
    return Site(machines=machines, backup_servers=1, faults=faults, behaviour=behaviour)


async def visited(stage: Stage, seconds: list[float], after: str, at: str, mounts: int = 1) -> Any:
    """Run, and let a visitor mount machine `at` as soon as the mount of `after` is released."""
    manager = stage.sites.managers["hq"]
    durations = iter(seconds)
    manager._duration = lambda _point, _rng: next(durations)

    def is_released() -> bool:
        fates = stage.sites.truth.mounts
        return any(each.vm == after and each.succeeded and not each.is_open for each in fates)

    async def visit() -> None:
        while not is_released():  # noqa: ASYNC110 - the simulator tells nobody
            await anyio.sleep(0.5)
        visitor = manager.logon(ACCOUNT, PASSWORD)
        assert visitor is not None
        point = next(fate.point for fate in stage.sites.truth.mounts if fate.vm == at)
        machine = next(each for each in manager.inventory.machines if each.name == at)
        chosen = next(each for each in machine.points if each.id == point)
        for _ in range(mounts):
            manager.start_mount(visitor, REPLICAS, chosen, machine.os)
        while True:
            await anyio.sleep(60.0)
            visitor.last_used = manager.clock()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit)
        done = await conducted(stage)
        tasks.cancel_scope.cancel()
    assert len(stage.sites.truth.still_open()) == mounts
    return done


@pytest.mark.parametrize("purged_after", [None, 30.0], ids=["kept", "forgotten"])
@pytest.mark.parametrize(
    ("related", "mounts"),
    [("absent", 1), ("absent", 2), ("documented", 1)],
    ids=["one", "two", "links left out"],
)
async def test_the_task_of_the_first_request_is_its_own_whatever_is_mounted_later(
    related: str,
    mounts: int,
    purged_after: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing else was asked for: a stranger's mount of the point is not touched or named."""
    site = shows_all(
        lost(), *linkless(EVERYWHERE), related=related, purge_finished_after=purged_after
    )
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        seconds = [10.0, 200.0, 5.0, 5.0]
        code, report = await visited(stage, seconds, "hq-app0000", "hq-app0000", mounts)

        assert stage.sites.truth.foreign_deletes == 0
        assert {target["mount"] for target in report["targets"]} == {"released"}
        assert not report["strays"]
        assert code == 0


@pytest.mark.parametrize(
    ("at", "code"), [("hq-sql0001", 0), ("hq-app0000", 3)], ids=["own point", "earlier one's"]
)
async def test_a_mount_that_may_be_a_stranger_s_is_never_removed_for_an_adopted_task(
    at: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task may be an earlier request's: what is mounted of that one's point is named.

    What is mounted of its target's own point after the release cannot be the task's.
    """
    site = shows_all(lost(skip=1), machines=3, purge_finished_after=30.0)
    async with staged(tmp_path, monkeypatch, [site], TWO_WAVES) as stage:
        seconds = [2.0, 200.0, 215.0, 1.0]
        found, report = await visited(stage, seconds, "hq-sql0001", at)

        assert stage.sites.truth.foreign_deletes == 0
        assert {target["mount"] for target in report["targets"]} == {"released"}
        assert found == code
        assert len(report["strays"]) == (code == 3)
        assert stage.sites.truth.sessions_closed == (code == 0)


async def test_an_adopted_task_is_read_alone_before_its_session_counts_as_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lists leave its link out; read alone it is proven, and the lost session holds nothing."""
    look = Behaviour(related="own_family", backup_server_slots=6)
    faults = [lost(skip=1), *linkless()]
    sites = [Site("hq", machines=2, faults=faults, behaviour=look), two()[1]]
    async with staged(tmp_path, monkeypatch, sites) as stage:
        durations = iter([50.0, 20.0])
        stage.sites.managers["hq"]._duration = lambda _point, _rng: next(durations)
        done = await run_beside(stage, restarting(stage, 250.0))

        assert all_good(done)
        assert not done.truth.still_open()
        assert done.outcome.code == 0
