"""Mounts of a lost logon session: their end may be seen, and nothing is concluded otherwise."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from orchestrator.app.orphans import as_json, as_lines, find_orphans
from orchestrator.engine.run import Run
from orchestrator.journal import State
from orchestrator.simulator.activity import SimActivity
from orchestrator.simulator.behaviour import Behaviour
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, drill, staged
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio

SEEN = Behaviour(shows_activity="all")
LOST_AT = 150.0


def counted(done: Drill) -> dict[str, int]:
    """Return how many targets have each result."""
    return dict(Counter(done.results().values()))


async def lose_the_session(sites: Sites, run: Run, *, orphans_end: bool) -> None:
    """Let the server forget the session while mounts are open; a person ends them later."""
    _ = run
    await anyio.sleep(LOST_AT)
    (manager,) = sites.managers.values()
    for session in tuple(manager.sessions.values()):
        manager.end(session)
    await anyio.sleep(400.0)
    if orphans_end:
        for fate in manager.truth.mounts:
            if fate.is_open and fate.orphaned:
                manager.truth.closed(fate, manager.clock(), "ended in the console")


@pytest.mark.parametrize("orphans_end", [True, False])
async def test_a_lost_mount_is_tried_again_once_its_end_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orphans_end: bool
) -> None:
    """All 25 are good then; else exactly those are unknown that were open, and none is repeated."""

    async def lose(sites: Sites, run: Run) -> None:
        await lose_the_session(sites, run, orphans_end=orphans_end)

    sites = [Site(machines=25, behaviour=SEEN, limit=5, mount_s=60.0)]
    done = await drill(tmp_path, monkeypatch, sites, meanwhile=lose)

    orphaned = [fate for fate in done.truth.mounts if fate.orphaned]
    assert orphaned
    if orphans_end:
        assert counted(done) == {"mounted": 25}
    else:
        assert counted(done) == {"mounted": 25 - len(orphaned), "unknown": len(orphaned)}
        unknown = {each["vm"] for each in done.report["targets"] if each["result"] == "unknown"}
        assert unknown == {fate.vm for fate in orphaned}
        assert {each["cause"] for each in done.report["targets"] if "cause" in each} == {"lost"}
    for fate in orphaned:
        again = [each for each in done.truth.mounts if each.vm == fate.vm and each is not fate]
        assert all(fate.closed_at is not None for _ in again), "mounted twice at once"


async def test_a_later_restore_of_others_is_not_taken_for_a_lost_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where mounts make no restore session, somebody's on their machines proves nothing."""

    async def lose(sites: Sites, run: Run) -> None:
        (manager,) = sites.managers.values()
        for machine in manager.inventory.machines:
            restore = SimActivity(kind="file_restore", machine=machine, from_s=160.0, until_s=300.0)
            manager.activities.append(restore)
        await lose_the_session(sites, run, orphans_end=False)

    behaviour = replace(SEEN, shows_own_mounts=False)
    sites = [Site(machines=25, behaviour=behaviour, limit=5, mount_s=60.0)]
    done = await drill(tmp_path, monkeypatch, sites, meanwhile=lose)

    orphaned = {fate.vm for fate in done.truth.mounts if fate.orphaned}
    assert orphaned
    assert {vm for vm, result in done.results().items() if result == "unknown"} == orphaned


@pytest.mark.parametrize("conflict", ["skip", "fail"])
async def test_a_plan_that_waits_for_no_machine_waits_for_no_lost_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflict: str
) -> None:
    """Such a plan cannot say for how long: what was lost is unknown at once."""

    async def lose(sites: Sites, run: Run) -> None:
        await lose_the_session(sites, run, orphans_end=False)

    sites = [Site(machines=25, behaviour=SEEN, limit=5, mount_s=60.0)]
    extra = f"defaults: {{conflict: {conflict}}}\n"
    done = await drill(tmp_path, monkeypatch, sites, extra=extra, meanwhile=lose)

    orphaned = [fate for fate in done.truth.mounts if fate.orphaned]
    assert orphaned
    assert counted(done) == {"mounted": 25 - len(orphaned), "unknown": len(orphaned)}
    assert done.took_s < 1800.0  # its slots come back when the server must have forgotten them


async def test_orphans_names_what_is_open_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while three were mounted, its session expired, one orphan alive: exactly that one."""
    sites = [Site(machines=6, behaviour=SEEN, limit=3, mount_s=60.0)]
    async with staged(tmp_path, monkeypatch, sites) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=100.0) is None
        (manager,) = stage.sites.managers.values()
        await anyio.sleep(1200.0)
        orphaned = [fate for fate in manager.truth.mounts if fate.orphaned and fate.is_open]
        alive, *others = orphaned
        for fate in others:
            manager.truth.closed(fate, manager.clock(), "ended in the console")
        deletes = sum(n for kind, n in manager.truth.requests.items() if kind.startswith("DELETE"))
        store = State(stage.state)
        run_state = store.replay(store.find("last"))
        run_state.process_gone = True
        answer = await find_orphans(run_state, stage.loaded.plan, stage.world())
        manager.behaviour = Behaviour(shows_activity="denied")
        blind = await find_orphans(run_state, stage.loaded.plan, stage.world())

    assert [orphan.activity.vm for _, orphan in answer.found] == [alive.vm]
    assert answer.code == 3
    (line, seen) = as_lines(answer)
    assert f"FLR_[{alive.vm}]" in line
    assert "In the Veeam console of" in line
    assert "nothing shown of 2 targets that may be mounted" in seen
    assert as_json(answer)["orphans"][0]["vm"] == alive.vm
    assert blind.code == 4
    assert "not visible to this role" in as_lines(blind)[0]
    after = sum(n for kind, n in manager.truth.requests.items() if kind.startswith("DELETE"))
    logoffs = 2
    assert after - deletes == logoffs
