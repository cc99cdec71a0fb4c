"""A lost mount request that is carried out after it was proved absent: found before the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.assembly import Choices
from orchestrator.conducting import conduct, resume
from orchestrator.leftovers import release_leftovers
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import Site, Stage, staged

pytestmark = pytest.mark.anyio


def late() -> Fault:
    """Return a fault that carries one mount request out after everybody has stopped looking."""
    return Fault(kind="act_later", method="POST", path="/mounts$", count=1, seconds=40.0)


async def conducted(stage: Stage) -> tuple[int, dict[str, Any]]:
    """Return exit code and report of a run in which one intent is carried out twice."""
    chosen = Choices(state=stage.state, report=stage.report)
    outcome = await conduct(stage.loaded, chosen, world=stage.world())
    return outcome.code, json.loads((stage.report / "report.json").read_text())


def left(truth: GroundTruth) -> set[str]:
    """Return the machines that are still mounted."""
    return {fate.vm for fate in truth.still_open()}


async def test_a_mount_that_began_late_is_removed_before_the_session_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target has its result; the mount that nobody waited for is gone too."""
    site = Site(machines=4, mount_s=100.0, faults=[late()])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        code, report = await conducted(stage)

        assert len(stage.sites.truth.mounts) == 5
        assert not left(stage.sites.truth)
        assert code == 0
        assert {target["mount"] for target in report["targets"]} == {"released"}


async def test_a_mount_that_began_late_and_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left silently: exit code 3, and the session stays open for `unmount`."""
    stuck = Fault(kind="forbidden", method="DELETE", path="/mounts/1$")
    site = Site(machines=1, mount_s=100.0, faults=[late(), stuck])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        code, report = await conducted(stage)

        assert code == 3
        (target,) = report["targets"]
        assert target["mount"] in {"left", "unknown"}
        assert left(stage.sites.truth) == {target["vm"]}
        assert stage.sites.truth.sessions_closed == 0


async def test_a_task_that_began_late_and_does_not_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What still runs may yet be mounted, so its target's mount is unknown."""
    seconds = iter([50.0, 5000.0])
    site = Site(machines=1, faults=[late()])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        manager = stage.sites.managers["hq"]
        manager._duration = lambda _point, _rng: next(seconds)
        manager.behaviour = Behaviour(backup_server_slots=2)
        code, report = await conducted(stage)

        assert code == 3
        (target,) = report["targets"]
        assert (target["result"], target["mount"]) == ("mounted", "unknown")
        assert "may have begun late" in target["message"]

        for _again in range(2):
            outcome = await release_leftovers(
                stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
            )
            assert outcome.code == 3
        again = await resume(
            "last",
            lambda begun: stage.loaded,
            Choices(state=stage.state),
            world=stage.world(),
        )
        assert again.code == 3
        assert stage.sites.truth.sessions_closed == 0


async def test_the_task_of_an_earlier_lost_request_is_not_adopted_for_another_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its link leads to another machine, which proves nothing of this one."""
    faults = [late(), Fault(kind="drop_before", method="POST", path="/mounts$", skip=1, count=1)]
    own_links = Behaviour(related="own_family")
    site = Site(machines=2, backup_servers=1, mount_s=30.0, faults=faults, behaviour=own_links)
    plan = (
        "waves:\n  - {name: first, targets: [{vm: hq-app0000}]}\n"
        "  - {name: second, after: [first], targets: [{vm: hq-sql0001}]}\n"
    )
    async with staged(tmp_path, monkeypatch, [site], plan) as stage:
        code, report = await conducted(stage)

        assert [target["result"] for target in report["targets"]] == ["mounted", "unknown"]
        assert {fate.vm for fate in stage.sites.truth.mounts} == {"hq-app0000"}
        assert code == 3
        assert not left(stage.sites.truth)
