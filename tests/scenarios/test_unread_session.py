"""A process that dies between its last release and its last look into its session."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from orchestrator.app.unmount import UnmountOutcome, release_leftovers
from orchestrator.core.events import Event, WaveFinished
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.run_state import RunState
from orchestrator.journal import State
from orchestrator.simulator.faults import Fault
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Site, Stage, staged

pytestmark = pytest.mark.anyio


def site() -> Site:
    """Return a server to which a mount request comes twice, with slow answers about tasks."""
    twice = Fault(kind="twice", method="POST", path="/mounts$", count=1)
    unread = Fault(kind="delay", method="GET", path="/query|/tasks", seconds=2.0)
    return Site(machines=1, faults=[twice, unread])


async def killed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, session_file: bool = True
) -> RunState:
    """Let a run die once all targets are released; return what its journal tells then."""
    released = anyio.Event()

    class Watching:
        def observe(self, event: Event, record: MountRecord | None) -> None:
            if isinstance(event, WaveFinished):
                released.set()

    async def die_later(doom: Doom) -> None:
        await released.wait()
        await anyio.sleep(1.0)  # the releases are on disk then, and the answer is not there yet
        doom.die()

    doom = Doom(stage, monkeypatch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(die_later, doom)
        lived = await doom.lives(
            lambda: stage.run(observers=[Watching()], session_file=session_file)
        )
    assert lived is None
    return state_of(stage)


def state_of(stage: Stage) -> RunState:
    """Return what the journal tells while no process works on the run."""
    state = State(stage.state)
    found = state.replay(state.find("last"))
    found.process_gone = True
    return found


async def unmounted(stage: Stage) -> UnmountOutcome:
    """Release what the run left."""
    return await release_leftovers(
        stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
    )


async def test_its_stray_mount_is_removed_by_unmount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is said to be unread until `unmount` has read it."""
    async with staged(tmp_path, monkeypatch, [site()]) as stage:
        before = await killed(stage, monkeypatch)
        assert len(stage.sites.truth.still_open()) == 1
        done = await unmounted(stage)

        assert (before.left_open.mounts, list(before.left_open.unaudited)) == (0, ["hq"])
        assert done.code == 0
        assert not stage.sites.truth.still_open()
        assert not state_of(stage).left_open


async def test_without_its_token_unmount_says_that_it_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can read the session any more: exit code 3, never `nothing is left mounted`."""
    async with staged(tmp_path, monkeypatch, [site()]) as stage:
        await killed(stage, monkeypatch, session_file=False)
        assert len(stage.sites.truth.still_open()) == 1
        done = await unmounted(stage)

        assert done.code == 3
        assert "it is unknown whether mounts are left there" in done.lines[-1]
        assert state_of(stage).left_open


async def test_without_its_token_a_resume_names_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its targets are done, and the run still ends with 3: it is never silently good."""
    async with staged(tmp_path, monkeypatch, [site()]) as stage:
        await killed(stage, monkeypatch, session_file=False)
        done = await stage.resume(session_file=False)

        assert len(done.truth.still_open()) == 1
        assert done.outcome.code == 3
        assert "is open on hq is not known" in done.report["run"]["reasons"][0]
        assert any("its token is not kept" in line for line in done.report["warnings"])
