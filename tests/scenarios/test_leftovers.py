"""What a run left: `unmount` and `resume` say released only of what they saw gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from orchestrator.engine.run import Run
from orchestrator.journal import State
from orchestrator.leftovers import Released, release_leftovers
from orchestrator.model import MountState
from orchestrator.simulator.faults import Fault
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage, staged

pytestmark = pytest.mark.anyio

SHORT = "defaults: {timeouts: {mount: 60s}}\n"


async def unmounted(stage: Stage) -> Released:
    """Do what `unmount last` does."""
    return await release_leftovers(
        stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
    )


async def resumed(stage: Stage) -> Drill:
    """Do what `resume last` does."""
    return await stage.resume()


def mounts(stage: Stage) -> set[MountState]:
    """Return what the journal says of the mounts."""
    state = State(stage.state)
    found = state.replay(state.summary("last").run)
    return {record.mount_state for record in found.records.values()}


@pytest.mark.parametrize("clean_up", [unmounted, resumed])
async def test_a_task_that_never_ended_is_not_called_released(
    clean_up: Callable[[Stage], Awaitable[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may yet be mounted stays named, and its session open, however long it was waited for."""
    site = Site(machines=1, mount_s=3000.0)
    async with staged(tmp_path, monkeypatch, [site], extra=SHORT) as stage:
        first = await stage.run()
        assert first.results() == {"hq-app0000": "unknown"}

        await clean_up(stage)

        assert mounts(stage) == {MountState.UNKNOWN}
        assert stage.sites.truth.sessions_closed == 0


async def test_what_another_session_mounted_is_not_called_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session whose token is kept does not see an older one's mounts: that proves nothing."""
    async with staged(tmp_path, monkeypatch, [Site(machines=4, limit=2)]) as stage:

        def restart(_run: Run) -> None:
            loop.call_later(30.0, stage.sites.managers["hq"].restart)

        loop = asyncio.get_running_loop()
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(lambda: stage.run(on_run=restart), at_s=70.0) is None

        outcome = await unmounted(stage)

        named = [line for line in outcome.lines if line.endswith("mount unknown")]
        assert len(named) == 2
        assert outcome.code == 3
        assert mounts(stage) == {MountState.UNKNOWN, MountState.RELEASED}
        assert {fate.closed_by for fate in stage.sites.truth.mounts} == {None, "unmounted"}


async def test_a_post_in_doubt_may_begin_after_unmount_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unmount` right after a crash looks as long as a run would before it calls that gone."""
    late = Fault(kind="act_later", method="POST", path="/mounts$", seconds=12.0)
    async with staged(tmp_path, monkeypatch, [Site(machines=1, faults=[late])]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=5.0) is None

        outcome = await unmounted(stage)

        assert outcome.code == 0
        assert len(stage.sites.truth.mounts) == 1
        assert not stage.sites.truth.still_open()


async def test_one_refused_unmount_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else is released, and only what is left is named."""
    refused = Fault(kind="forbidden", method="DELETE", path="/mounts/", count=1)
    async with staged(tmp_path, monkeypatch, [Site(machines=3, faults=[refused])]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=30.0) is None

        outcome = await unmounted(stage)

        assert outcome.code == 3
        released = [line for line in outcome.lines if line.startswith("released:")]
        assert len(released) == 2
        assert all(line.endswith(" (1 mount)") for line in released)
        assert len(stage.sites.truth.still_open()) == 1
        assert (await unmounted(stage)).code == 0
        assert not stage.sites.truth.still_open()
