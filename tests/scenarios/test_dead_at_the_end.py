"""A process that dies between its last release and its logoff: the next one makes the audit."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.app.unmount import release_leftovers
from orchestrator.core.model import MountState
from orchestrator.core.policy import WatchPolicy
from orchestrator.journal.state import State
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Site, Stage, staged
from tests.scenarios.test_strays import left

pytestmark = pytest.mark.anyio


def slow() -> list[Site]:
    """Return a slow server on which one mount request is carried out twice."""
    fault = Fault(kind="twice", method="POST", path="/mounts$", count=1)
    return [Site(machines=2, behaviour=Behaviour(latency_s=0.5), faults=[fault])]


async def die_in_the_audit(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run die when both targets are released, and a mount of no target is still open."""
    truth = stage.sites.truth

    def are_both_released() -> bool:
        if not (len(truth.mounts) == 3 and len(left(truth)) == 1):
            return False
        state = State(stage.state)  # and that is on disk
        records = state.replay(state.summary("last").run).records.values()
        return [record.mount_state for record in records] == [MountState.RELEASED] * 2

    assert await Doom(stage, monkeypatch).lives(stage.run, when=are_both_released) is None
    assert len(left(truth)) == 1


async def test_a_resume_with_nothing_else_to_do_makes_the_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the session of the dead process, and removes what belongs to no target."""
    async with staged(tmp_path, monkeypatch, slow(), watch=WatchPolicy()) as stage:
        await die_in_the_audit(stage, monkeypatch)
        done = await stage.resume()

        assert done.outcome.code == 0
        assert not left(stage.sites.truth)
        assert stage.sites.truth.sessions_closed == 1


async def test_unmount_names_what_its_audit_has_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record had named that mount: it is said all the same."""
    async with staged(tmp_path, monkeypatch, slow(), watch=WatchPolicy()) as stage:
        await die_in_the_audit(stage, monkeypatch)
        (machine,) = left(stage.sites.truth)
        released = await release_leftovers(
            stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
        )

        assert released.code == 0
        assert not left(stage.sites.truth)
        assert any("released" in line and machine in line for line in released.lines)
