"""The closing audit: what a server mounted beyond what it was asked for, or told of, is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.app.runner import run_plan
from orchestrator.app.wiring import Choices
from orchestrator.core.policy import WatchPolicy
from orchestrator.engine.run import Run
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import REPLICAS, Inventory
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import ACCOUNT, PASSWORD, Site, Stage, drill, staged

pytestmark = pytest.mark.anyio

MOUNTS = r"/mounts$"


async def conducted(stage: Stage) -> tuple[int, dict[str, Any]]:
    """Return exit code and report of a run in which an intent may be carried out twice."""
    chosen = Choices(state=stage.state, report=stage.report)
    outcome = await run_plan(stage.loaded, chosen, world=stage.world())
    return outcome.code, json.loads((stage.report / "report.json").read_text())


def named(report: dict[str, Any]) -> int:
    """Return how many open mounts the report names."""
    targets = [target for target in report["targets"] if target["mount"] in {"left", "unknown"}]
    return len(targets) + len(report["strays"])


def nothing_is_open(truth: GroundTruth, code: int, report: dict[str, Any]) -> None:
    """See that all is removed, and said to be."""
    assert not truth.still_open()
    assert code == 0
    assert report["totals"]["left"] == 0
    assert not report["strays"]


@pytest.mark.parametrize("related", ["documented", "own_family", "absent"])
async def test_a_request_that_a_proxy_sends_twice_leaves_nothing(
    related: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several strays at once: whatever their links say, all of them are removed."""
    twice = Fault(kind="twice", method="POST", path=MOUNTS, count=3)
    site = Site(machines=4, faults=[twice], behaviour=Behaviour(related=related))
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        code, report = await conducted(stage)

        assert len(stage.sites.truth.mounts) == 7
        if related == "absent":  # of two mounts of a point nobody can say which is the target's
            assert code == 3
            assert named(report) >= len(stage.sites.truth.still_open())
        else:
            nothing_is_open(stage.sites.truth, code, report)


@pytest.mark.parametrize("status", [503, 429])
async def test_a_service_that_acts_and_says_it_is_busy_leaves_nothing(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words are believed, and its tasks are read all the same."""
    busy = Fault(
        kind="answer_after", method="POST", path=MOUNTS, count=2, status=status, body="service"
    )
    async with staged(tmp_path, monkeypatch, [Site(machines=3, faults=[busy])]) as stage:
        code, report = await conducted(stage)

        assert len(stage.sites.truth.mounts) >= 4
        nothing_is_open(stage.sites.truth, code, report)


async def test_a_stray_that_cannot_be_removed_is_counted_and_keeps_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named with its target, ends with 3, and stays within reach of `unmount`."""
    faults = [
        Fault(kind="twice", method="POST", path=MOUNTS, count=1),
        Fault(kind="forbidden", method="DELETE", path="/mounts/2$"),
    ]
    async with staged(tmp_path, monkeypatch, [Site(machines=2, faults=faults)]) as stage:
        code, report = await conducted(stage)

        assert len(stage.sites.truth.still_open()) == 1
        assert code == 3
        assert report["totals"]["left"] == 1
        assert stage.sites.truth.sessions_closed == 0


async def test_a_stray_beside_its_target_s_own_mount_is_counted_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two mounts of one point are left: one is the target's, the other one stands by itself."""
    faults = [
        Fault(kind="twice", method="POST", path=MOUNTS, count=1),
        Fault(kind="forbidden", method="DELETE", path=r"/mounts/\d+$"),
    ]
    async with staged(tmp_path, monkeypatch, [Site(machines=1, faults=faults)]) as stage:
        code, report = await conducted(stage)

        assert len(stage.sites.truth.still_open()) == 2
        assert code == 3
        assert report["totals"]["left"] == 2
        (stray,) = report["strays"]
        assert stray["mount_href"].endswith("/mounts/1")
        assert any("LEFT MOUNTED" in line for line in report["warnings"])


async def test_a_mount_of_a_cancelled_target_that_came_late_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result stays what it is; its mount is left, and counted like every other."""
    faults = [
        Fault(kind="act_later", method="POST", path=MOUNTS, count=1, seconds=200.0),
        Fault(kind="forbidden", method="DELETE", path="/mounts/1$", from_s=195.0),
    ]
    site = Site(machines=2, limit=2, mount_s=250.0, faults=faults, stop_tasks="never")
    limits = "limits: {deadline: 100s}\n"
    async with staged(tmp_path, monkeypatch, [site], extra=limits) as stage:
        code, report = await conducted(stage)

        late = {fate.vm for fate in stage.sites.truth.still_open()}
        targets = {target["vm"]: target for target in report["targets"]}
        assert len(late) == 2
        assert code == 3
        assert report["totals"]["left"] == 2
        assert {targets[vm]["mount"] for vm in late} == {"left"}
        assert "skipped" in {targets[vm]["result"] for vm in late}


async def test_a_healthy_run_pays_one_request_for_its_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tasks are listed once per server, and nothing else is asked for."""
    sites = [Site(machines=8), Site(name="dr", machines=4)]
    done = await drill(tmp_path, monkeypatch, sites, watch=WatchPolicy())

    assert done.outcome.code == 0
    assert done.truth.requests["GET /api/tasks"] == 2


async def test_a_server_whose_audit_is_old_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one's took a minute: a request that acted meanwhile is found before the logoff."""
    sites = [Site(machines=1, mount_s=60.0), Site(name="dr", machines=1, mount_s=10.0)]
    async with staged(tmp_path, monkeypatch, sites) as stage, anyio.create_task_group() as tasks:

        async def late(name: str, seconds: float) -> None:
            await anyio.sleep(seconds)
            manager = stage.sites.managers[name]
            (session,) = manager.sessions.values()
            machine = manager.inventory.machines[0]
            point = machine.points[0]
            manager.start_mount(session, REPLICAS, point, machine.os, unforeseen=True)

        tasks.start_soon(late, "hq", 40.0)
        tasks.start_soon(late, "dr", 90.0)
        code, report = await conducted(stage)

        assert len(stage.sites.truth.mounts) == 4
        nothing_is_open(stage.sites.truth, code, report)


@pytest.mark.parametrize("seconds", [20.0, 60.0, 120.0, 175.0])
async def test_a_request_that_acts_late_keeps_its_slot_and_is_not_repeated(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No limit is exceeded, no point is mounted twice, and the others go on meanwhile."""
    late = Fault(kind="act_later", method="POST", path=MOUNTS, count=3, skip=1, seconds=seconds)
    site = Site(machines=8, limit=4, faults=[late])

    done = await drill(tmp_path, monkeypatch, [site])

    assert set(done.results().values()) == {"mounted"}
    assert len(done.truth.mounts) == 8
    assert not done.truth.still_open()


async def test_a_lost_request_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for after half a minute; its own target waits until nothing can come of it."""
    lost = Fault(kind="drop_before", method="POST", path=MOUNTS, count=1)

    done = await drill(tmp_path, monkeypatch, [Site(machines=4, limit=4, faults=[lost])])

    asked = sorted(fate.requested_at for fate in done.truth.mounts)
    assert done.outcome.code == 0
    assert asked[0] >= 30.0  # as long as looking helps, nobody else may post
    assert asked[2] < 40.0
    assert asked[3] >= 180.0


@pytest.mark.parametrize("kind", ["row_hollow_result", "row_odd_result"])
async def test_a_result_that_says_neither_is_no_failure(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The point's mounts are read and removed: nothing is called failed and left open."""
    odd = Fault(kind=kind, method="GET", path="/(tasks|query)")
    async with staged(tmp_path, monkeypatch, [Site(machines=3, faults=[odd])]) as stage:
        done = await stage.run()

        assert {target["mount"] for target in done.report["targets"]} <= {"released", "unknown"}
        assert "failed" not in done.results().values()
        assert not done.truth.still_open()


async def test_a_result_that_says_neither_and_shows_no_mount_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say whether there is a mount, so nobody says that there is none."""
    faults = [Fault(kind="row_hollow_result", method="GET", path="/(tasks|query)")]
    site = Site(machines=2, faults=faults, change=_failing)

    done = await drill(tmp_path, monkeypatch, [site])

    assert set(done.results().values()) == {"unknown"}
    assert done.outcome.code == 3


def _failing(inventory: Inventory) -> None:
    """Let every mount fail at the server."""
    for point in inventory.by_id.values():
        point.fails = "Failed to mount restore point: broken."


@pytest.mark.parametrize("body", ["page", "empty"])
@pytest.mark.parametrize("status", [503, 429])
async def test_a_proxy_that_answers_after_the_service_has_acted_doubles_nothing(
    status: int, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Envoy and Varnish answer 503 for a POST that the service took: 30 targets, 6 at once."""
    wrong = Fault(
        kind="answer_after", method="POST", path=MOUNTS, status=status, body=body, probability=0.5
    )
    site = Site(machines=30, limit=6, faults=[wrong])

    done = await drill(tmp_path, monkeypatch, [site])

    assert done.outcome.code == 0
    assert len(done.truth.mounts) == 30
    assert done.truth.peaks["server:hq"] <= 6
    assert not done.truth.still_open()


@pytest.mark.parametrize("shown", ["mounts", "tasks"])
@pytest.mark.parametrize("related", ["documented", "absent"])
async def test_the_mounts_of_strangers_are_left_alone(
    shown: str, related: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that shows them makes us adopt none and unmount none, whatever is lost."""
    faults = [
        Fault(kind="drop_before", method="POST", path=MOUNTS, skip=1, count=1),
        Fault(kind="drop_after", method="POST", path=MOUNTS, skip=2, count=1),
    ]
    look = Behaviour(shows_others=shown, related=related)
    async with staged(tmp_path, monkeypatch, [Site(machines=4, faults=faults, behaviour=look)]) as (
        stage
    ):
        manager = stage.sites.managers["hq"]
        visitor = manager.logon(ACCOUNT, PASSWORD)
        assert visitor is not None
        for machine in manager.inventory.machines:
            manager.start_mount(visitor, REPLICAS, machine.points[0], machine.os)
        await anyio.sleep(100.0)
        _code, report = await conducted(stage)

        truth = stage.sites.truth
        theirs = [fate for fate in truth.mounts if fate.session == visitor.id]
        ours = {fate.vm for fate in truth.still_open() if fate.session != visitor.id}
        unsure = {each["vm"] for each in report["targets"] if each["mount"] in {"left", "unknown"}}
        assert truth.foreign_deletes == 0
        assert all(fate.is_open for fate in theirs)
        assert ours <= unsure
        if related == "documented":
            assert not ours


async def test_what_a_forced_stop_leaves_in_doubt_is_named_and_released_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that begins after the second signal is unknown, and `resume` removes its mount."""
    late = Fault(kind="act_later", method="POST", path=MOUNTS, count=1, seconds=60.0)
    site = Site(machines=2, limit=1, faults=[late], mount_s=20.0)
    async with staged(tmp_path, monkeypatch, [site]) as stage, anyio.create_task_group() as tasks:

        async def stop(run: Run) -> None:
            await anyio.sleep(10.0)
            run.stop("SIGINT")
            run.stop("SIGINT")

        def begin(run: Run) -> None:
            tasks.start_soon(stop, run)

        done = await stage.run(on_run=begin)
        assert sorted(done.results().values()) == ["cancelled", "unknown"]
        assert done.outcome.code == 3
        await anyio.sleep(120.0)
        assert len(stage.sites.truth.still_open()) == 1

        again = await stage.resume()

        assert not again.truth.still_open()


async def test_a_mount_known_by_its_list_alone_is_not_called_released_after_a_forced_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no task that it is known by; no other mount in its list means nothing about it."""
    faults = [
        Fault(kind="act_later", method="POST", path=MOUNTS, count=3, seconds=60.0),
        Fault(kind="unmount_task_endless", method="DELETE", path=r"/mounts/\d+$"),
    ]
    behaviour = Behaviour(operation_finished_share=0.0)
    site = Site(machines=3, faults=faults, behaviour=behaviour, limit=3, mount_s=90.0)
    async with staged(tmp_path, monkeypatch, [site]) as stage, anyio.create_task_group() as tasks:

        async def stop(run: Run) -> None:
            await anyio.sleep(260.0)
            run.stop("SIGINT")
            run.stop("SIGINT")

        def begin(run: Run) -> None:
            tasks.start_soon(stop, run)

        await stage.run(on_run=begin)

        report = json.loads((stage.report / "report.json").read_text())
        assert len(stage.sites.truth.still_open()) == 3
        assert named(report) == 3


async def test_the_mount_of_a_stranger_is_not_taken_for_that_of_a_task_that_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task may have failed. Where others are logged on, the listed mount may be theirs."""
    behaviour = Behaviour(
        purge_finished_after=0.0, operation_finished_share=0.0, shows_others="mounts"
    )
    site = Site(machines=2, behaviour=behaviour)
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        manager = stage.sites.managers["hq"]
        visitor = manager.logon(ACCOUNT, PASSWORD)
        assert visitor is not None
        for machine in manager.inventory.machines:
            manager.start_mount(visitor, REPLICAS, machine.points[0], machine.os)
        await anyio.sleep(100.0)
        for point in manager.inventory.points(REPLICAS):
            point.fails = "Failed to mount restore point."
        code, report = await conducted(stage)

        assert (code, {each["mount"] for each in report["targets"]}) == (3, {"unknown"})
        assert all(fate.is_open for fate in stage.sites.truth.mounts if fate.session == visitor.id)
        assert stage.sites.truth.foreign_deletes == 0
