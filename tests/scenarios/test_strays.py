"""A lost mount request that is carried out after it was proved absent: found before the end."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.app.runner import resume, run_plan
from orchestrator.app.unmount import release_leftovers
from orchestrator.app.wiring import Choices
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import REPLICAS
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import ACCOUNT, PASSWORD, Site, Stage, staged

pytestmark = pytest.mark.anyio


def late() -> Fault:
    """Return a fault that carries one mount request out after its client's patience."""
    return Fault(kind="act_later", method="POST", path="/mounts$", count=1, seconds=200.0)


async def conducted(stage: Stage) -> tuple[int, dict[str, Any]]:
    """Return exit code and report of a run in which one intent is carried out twice."""
    chosen = Choices(state=stage.state, report=stage.report)
    outcome = await run_plan(stage.loaded, chosen, world=stage.world())
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


async def test_a_mount_that_begins_while_the_audit_removes_another_one_is_removed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second act falls between the audit's first list and the logoff."""
    second = Fault(kind="act_later", method="POST", path="/mounts$", count=1, seconds=450.0)
    slow = Fault(kind="delay", method="DELETE", seconds=40.0)
    site = Site(machines=2, mount_s=100.0, faults=[late(), second, slow])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        code, report = await conducted(stage)

        assert len(stage.sites.truth.mounts) == 4
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


async def test_a_task_that_never_ends_does_not_take_what_another_one_has_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One POST, two tasks: the target's own still runs, so its mount is unknown to the end."""
    seconds = iter([50.0, 5000.0])
    faults = [
        Fault(kind="twice", method="POST", path="/mounts$", count=1),
        Fault(kind="forbidden", method="DELETE", path="/mounts/1$", until_s=900.0),
    ]
    short = "defaults: {timeouts: {mount: 60s}}\n"
    site = Site(
        machines=1,
        faults=faults,
        behaviour=Behaviour(backup_server_slots=2, task_stop="goes_on"),
    )
    async with staged(tmp_path, monkeypatch, [site], extra=short) as stage:
        manager = stage.sites.managers["hq"]
        manager._duration = lambda _point, _rng: next(seconds)
        code, report = await conducted(stage)

        assert code == 3
        (target,) = report["targets"]
        assert target["mount"] == "unknown"
        assert "it may yet be mounted" in target["message"]
        assert len(report["strays"]) == 1
        await anyio.sleep(900.0 - anyio.current_time())
        outcome = await release_leftovers(
            stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
        )
        assert outcome.code == 3
        (fate,) = stage.sites.truth.still_open()
        assert fate.succeeded is None
        assert stage.sites.truth.sessions_closed == 0


async def test_a_task_that_cannot_be_read_does_not_take_what_another_one_has_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One POST, two tasks, and the target's own answers nothing: its mount is unknown."""
    seconds = iter([50.0, 5000.0])
    faults = [
        Fault(kind="twice", method="POST", path="/mounts$", count=1),
        Fault(kind="row_without_id", path="/query", query="type=Task", row="task-2<"),
        Fault(kind="row_without_id", path="/tasks$", row="task-2<"),
        Fault(kind="row_without_id", path="/tasks/task-2$"),
    ]
    short = "defaults: {timeouts: {mount: 60s}}\n"
    site = Site(machines=1, faults=faults, behaviour=Behaviour(backup_server_slots=2))
    async with staged(tmp_path, monkeypatch, [site], extra=short) as stage:
        stage.sites.managers["hq"]._duration = lambda _point, _rng: next(seconds)
        code, report = await conducted(stage)

        (target,) = report["targets"]
        assert (code, target["mount"]) == (3, "unknown")
        assert "could not be read" in target["message"]
        (fate,) = stage.sites.truth.still_open()
        assert fate.succeeded is None


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

        assert [target["result"] for target in report["targets"]] == ["mounted", "mounted"]
        assert len(stage.sites.truth.mounts) == 3
        assert code == 0
        assert not left(stage.sites.truth)


TWO_WAVES = (
    "waves:\n  - {name: first, targets: [{vm: hq-app0000}]}\n"
    "  - {name: second, after: [first], targets: [{vm: hq-sql0001}, {vm: hq-web0002}]}\n"
)


def linkless(*paths: str, until_s: float = math.inf) -> list[Fault]:
    """Return the faults of a server that leaves links out of what it answers to these reads."""
    lists = [Fault(kind="no_related", path="/query", query="type=Task", until_s=until_s)]
    more = [Fault(kind="no_related", path=path, until_s=until_s) for path in paths]
    return [*lists, Fault(kind="no_related", path="/tasks$", until_s=until_s), *more]


def repeated(machines: int, *faults: Fault, others: str = "nothing") -> Site:
    """Return a server whose first mount request arrives twice; its links name their own points."""
    twice = Fault(kind="twice", method="POST", path="/mounts$", count=1)
    look = Behaviour(related="own_family", backup_server_slots=6, shows_others=others)
    return Site(machines=machines, backup_servers=1, faults=[twice, *faults], behaviour=look)


@pytest.mark.parametrize("alone", ["shown", "left out"])
async def test_an_adopted_task_whose_link_leads_elsewhere_does_not_take_a_stranger_s_mount(
    alone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No list shows its link, so the task is read alone; else the point's list proves nothing."""
    lost = Fault(kind="drop_before", method="POST", path="/mounts$", count=1)
    more = [r"/tasks/[^/]+$"] if alone == "left out" else []
    site = repeated(3, lost, *linkless(*more), others="mounts")
    async with staged(tmp_path, monkeypatch, [site], TWO_WAVES) as stage:
        manager = stage.sites.managers["hq"]
        durations = iter([10.0, 200.0, 10.0, 10.0, 10.0, 10.0])
        manager._duration = lambda _point, _rng: next(durations)
        visitor = manager.logon(ACCOUNT, PASSWORD)
        assert visitor is not None
        machine = next(each for each in manager.inventory.machines if each.name == "hq-sql0001")
        manager.start_mount(visitor, REPLICAS, machine.points[0], machine.os)
        await anyio.sleep(100.0)
        await conducted(stage)

        assert stage.sites.truth.foreign_deletes == 0


async def test_an_adopted_task_whose_link_is_shown_in_the_end_is_nobody_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its target has taken the mount of its own point; the audit removes the other one."""
    late = Fault(kind="act_later", method="POST", path="/mounts$", count=1, seconds=5.0)
    site = repeated(3, late, *linkless(r"/tasks/[^/]+$", until_s=130.0))
    async with staged(tmp_path, monkeypatch, [site], TWO_WAVES) as stage:
        durations = iter([100.0, 10.0, 150.0, 10.0])
        stage.sites.managers["hq"]._duration = lambda _point, _rng: next(durations)
        code, report = await conducted(stage)

        assert [target["result"] for target in report["targets"]] == ["mounted"] * 3
        assert code == 0
        assert not left(stage.sites.truth)


async def test_an_adopted_task_whose_link_was_left_out_hides_no_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated request's task was taken for a lost one's, and no list shows whose it is.

    Of what stays open nobody can say which task has made it, so every mount is named.
    """
    late = Fault(kind="act_later", method="POST", path="/mounts$", count=1, seconds=5.0)
    twice = Fault(kind="twice", method="POST", path="/mounts$", count=1)
    site = repeated(3, late, twice, *linkless(r"/tasks/[^/]+$"))
    async with staged(tmp_path, monkeypatch, [site], TWO_WAVES) as stage:
        durations = iter([100.0, 10.0, 10.0, 10.0, 10.0])
        stage.sites.managers["hq"]._duration = lambda _point, _rng: next(durations)
        code, report = await conducted(stage)

        mounts = [f"{fate.point}/mounts/{fate.number}" for fate in stage.sites.truth.still_open()]
        named = " ".join(stray["message"] for stray in report["strays"])
        assert code == 3
        assert len(mounts) == 3
        assert all(mount in named for mount in mounts)


@pytest.mark.parametrize(
    ("seconds", "purged_after"), [(0.0, 10.0), (5.0, 30.0)], ids=["both shown", "adopted"]
)
async def test_a_task_without_a_link_is_not_settled_by_the_mount_of_one_that_is_forgotten(
    seconds: float, purged_after: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated request's task ends long after the lost one's, which the server shows no more.

    The mount of the lost one's point is its own; what the other has mounted is removed as well.
    """
    lost = Fault(kind="act_later", method="POST", path="/mounts$", seconds=seconds, count=1)
    site = repeated(3, lost)
    site.behaviour = replace(site.behaviour, related="absent", purge_finished_after=purged_after)
    async with staged(tmp_path, monkeypatch, [site], TWO_WAVES) as stage:
        durations = iter([230.0, 2.0, 2.0, 2.0])
        stage.sites.managers["hq"]._duration = lambda _point, _rng: next(durations)
        code, report = await conducted(stage)

        assert [target["result"] for target in report["targets"]] == ["mounted"] * 3
        assert code == 0
        assert not left(stage.sites.truth)
