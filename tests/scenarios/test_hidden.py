"""What a closing audit cannot read is not clean, and what nobody looked at is not closed."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.app.runner import run_plan
from orchestrator.app.wiring import Choices
from orchestrator.core.model import ServerName
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import REPLICAS
from tests.scenarios.crash import Doom
from tests.scenarios.drill import ACCOUNT, PASSWORD, Site, Stage, staged
from tests.scenarios.test_audit import conducted
from tests.scenarios.test_leftovers import kept, unmounted

pytestmark = pytest.mark.anyio

MOUNTS = "/mounts$"


@pytest.mark.parametrize("count", [None, 1, 2])
async def test_a_stray_whose_task_cannot_be_read_is_not_called_closed(
    count: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row of the tasks has no id, and it is the one of nobody's mount: nobody knows.

    A later answer may show it: then it is not forgotten that an earlier one did not.
    """
    faults = [
        Fault(kind="twice", method="POST", path=MOUNTS, count=1),
        Fault(kind="row_without_id", path="/tasks$", row="task-1<", count=count),
        Fault(kind="row_without_id", path="/query", query="Task", row="task-1<"),
    ]
    async with staged(tmp_path, monkeypatch, [Site(machines=2, faults=faults)]) as stage:
        code, report = await conducted(stage)

        truth = stage.sites.truth
        assert not truth.still_open() or (code == 3 and truth.sessions_closed == 0), report[
            "warnings"
        ]


async def test_a_server_that_cannot_be_audited_does_not_end_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tasks are never shown at the end: what a proxy sent twice may be open."""
    faults = [
        Fault(kind="twice", method="POST", path=MOUNTS, count=1),
        Fault(kind="black_hole", path="/tasks$"),
    ]
    async with staged(tmp_path, monkeypatch, [Site(machines=2, faults=faults)]) as stage:
        code, report = await conducted(stage)

        assert stage.sites.truth.still_open()
        assert stage.sites.truth.sessions_closed == 0
        assert code == 3, report["warnings"]


async def test_unmount_says_what_its_audit_has_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run could not look, and `unmount` can: it never ends with 0 and not a word."""
    faults = [
        Fault(kind="twice", method="POST", path=MOUNTS, count=1),
        Fault(kind="black_hole", path="/tasks$", until_s=400.0),
    ]
    async with staged(tmp_path, monkeypatch, [Site(machines=2, faults=faults)]) as stage:
        await conducted(stage)
        await anyio.sleep(max(0.0, 400 - stage.now))

        outcome = await unmounted(stage)

        assert outcome.code == 0
        why = "(1 mount, of a request that was carried out twice or late)"
        assert outcome.lines == (f"released: default/hq/hq-app0000 {why}",)
        assert not stage.sites.truth.still_open()


async def test_resume_audits_what_its_run_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every target is concluded, and all the same something is left to do: the session's audit."""
    faults = [
        Fault(kind="twice", method="POST", path=MOUNTS, count=1),
        Fault(kind="black_hole", path="/tasks$", until_s=400.0),
    ]
    async with staged(tmp_path, monkeypatch, [Site(machines=2, faults=faults)]) as stage:
        code, _report = await conducted(stage)
        assert code == 3
        await anyio.sleep(max(0.0, 400 - stage.now))

        done = await stage.resume()

        assert not stage.sites.truth.still_open()
        assert done.outcome.code == 0


async def test_strangers_who_mount_other_points_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points that nobody here asked for, shown in tasks and lists."""
    for shown in ("mounts", "tasks"):
        look = Behaviour(shows_others=shown)
        place = tmp_path / shown
        place.mkdir()
        async with staged(place, monkeypatch, [Site(machines=4, behaviour=look)]) as stage:
            manager = stage.sites.managers["hq"]
            visitor = manager.logon(ACCOUNT, PASSWORD)
            assert visitor is not None
            for machine in manager.inventory.machines:
                oldest = min(machine.points, key=lambda point: point.created_at)
                manager.start_mount(visitor, REPLICAS, oldest, machine.os)
            _code, _report = await conducted(stage)

            truth = stage.sites.truth
            assert truth.foreign_deletes == 0
            theirs = [fate for fate in truth.mounts if fate.session == visitor.id]
            assert all(fate.is_open for fate in theirs)


def moved(stage: Stage) -> Stage:
    """Return the stage with a plan whose only server has another address now."""
    plan, hq = stage.loaded.plan, ServerName("hq")
    servers = {hq: replace(plan.servers[hq], url="https://other:9398")}
    return replace(stage, loaded=replace(stage.loaded, plan=replace(plan, servers=servers)))


async def test_unmount_names_a_stray_of_a_session_that_it_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target's own mount is gone by now, and the plan's server has moved: 3, and the token."""
    faults = [
        Fault(kind="twice", method="POST", path=MOUNTS, count=1),
        Fault(kind="forbidden", method="DELETE", path="/mounts/1$"),
        Fault(kind="forbidden", method="DELETE", path="/mounts/2$", until_s=600.0),
    ]
    async with staged(tmp_path, monkeypatch, [Site(machines=1, faults=faults)]) as stage:
        await conducted(stage)
        await anyio.sleep(max(0.0, 600 - stage.now))
        first = await unmounted(stage)
        assert first.code == 3
        assert any("of no target" in line for line in first.lines), first.lines

        second = await unmounted(moved(stage))

        assert len(stage.sites.truth.still_open()) == 1
        assert second.code == 3
        assert any("of no target" in line for line in second.lines), second.lines
        assert kept(stage)


async def test_unmount_does_not_call_a_session_empty_that_it_may_not_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every target was released when the run died; what a proxy sent twice was not."""
    twice = Fault(kind="twice", method="POST", path=MOUNTS, count=1)
    slow = Fault(kind="black_hole", path="/tasks$")
    site = Site(machines=1, faults=[twice, slow], mount_s=20.0)
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=60.0) is None
        assert {fate.closed_by for fate in stage.sites.truth.mounts} == {None, "unmounted"}

        outcome = await unmounted(moved(stage))

        assert outcome.code == 3, outcome.lines
        assert not any("nothing is left mounted" in line for line in outcome.lines)
        assert kept(stage)


async def test_unmount_knows_nothing_of_a_session_that_was_never_audited_nor_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a token it cannot be asked: that is no reason to call it empty."""
    faults = [
        Fault(kind="twice", method="POST", path=MOUNTS, count=1),
        Fault(kind="black_hole", path="/tasks$"),
    ]
    async with staged(tmp_path, monkeypatch, [Site(machines=1, faults=faults)]) as stage:
        chosen = Choices(state=stage.state, report=stage.report, session_file=False)
        await run_plan(stage.loaded, chosen, world=stage.world())
        assert len(stage.sites.truth.still_open()) == 1

        outcome = await unmounted(stage)

        assert outcome.code == 3, outcome.lines
        assert not any("nothing is left mounted" in line for line in outcome.lines)


async def test_a_request_in_doubt_is_not_called_released_while_a_task_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own task may be that one, and its mount comes after the audit."""
    faults = [
        Fault(kind="drop_after", method="POST", path=MOUNTS, count=1),
        Fault(kind="row_without_id", path="/tasks$"),
        Fault(kind="row_without_id", path="/query", query="Task"),
    ]
    site = Site(machines=1, faults=faults, mount_s=900.0)
    short = "defaults: {timeouts: {mount: 60s}}\n"
    async with staged(tmp_path, monkeypatch, [site], extra=short) as stage:
        code, report = await conducted(stage)

        assert code == 3
        assert {target["mount"] for target in report["targets"]} == {"unknown"}
        assert stage.sites.truth.sessions_closed == 0
        await anyio.sleep(900.0)
        assert len(stage.sites.truth.mounts) == 1
