"""Two runs of one state directory at the same time: they share the limits of what they mount on."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.app.outcome import Outcome
from orchestrator.app.runner import run_plan
from orchestrator.app.unmount import release_leftovers
from orchestrator.app.wiring import Choices, World
from orchestrator.core.events import Event, LimitsShared, TaskAccepted
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import RunId
from orchestrator.journal import State
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.simulator.truth import GroundTruth
from orchestrator.views.lines import LineView
from tests.scenarios.crash import Doom
from tests.scenarios.drill import ACCOUNT, START, Site, Stage, staged
from tests.virtual.sites import PORT, host

pytestmark = pytest.mark.anyio


class Noting:
    """Keeps what a run says of others."""

    def __init__(self) -> None:
        self.waits: list[LimitsShared] = []
        self.first_mount: float | None = None

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Note waits, and the first accepted mount."""
        _ = record
        if isinstance(event, LimitsShared):
            self.waits.append(event)
        if self.first_mount is None and isinstance(event, TaskAccepted):
            self.first_mount = event.at


async def beside(
    stage: Stage,
    directory: Path,
    vms: Sequence[str],
    noting: Noting,
    *,
    limit: int,
    alias: str = "main",
    extra: str = "",
    view: LineView | None = None,
    state: Path | None = None,
    address: str = f"{host('hq').upper()}:{PORT}",
) -> tuple[Outcome, dict[str, Any]]:
    """Run another plan of the same state directory, which calls the server by another name."""
    text = (
        f"version: 1\nname: other\nservers:\n  {alias}:\n"
        f"    url: https://{address}\n    username: {ACCOUNT}\n"
        f"    password: {{env: SCENARIO_PASSWORD}}\n    limits: {{mounts: {limit}}}\n{extra}"
        "targets:\n" + "".join(f"  - {{vm: {vm}, server: {alias}}}\n" for vm in vms)
    )
    report = directory / "other-report"
    outcome = await run_plan(
        load_plan_text(text.encode(), directory / "other.yaml"),
        Choices(state=state or stage.state, report=report),
        observers=[noting],
        view=view,
        world=World(
            connector=stage.sites.network.connector,
            wall_clock=lambda: START + timedelta(seconds=stage.now),
            rng=random.Random(7),
            inline=True,
            signals=False,
            run_id=RunId("20261123T060000Z-beef"),
        ),
    )
    return outcome, json.loads((report / "report.json").read_text())


async def first_run(stage: Stage) -> Outcome:
    """Run the stage's own plan; what is open then may be the other run's."""
    chosen = Choices(state=stage.state, report=stage.report)
    return await run_plan(stage.loaded, chosen, world=stage.world())


def names(site: Site) -> list[str]:
    """Return a site's machines as a plan names them."""
    return [
        f"{machine.name}, os: {machine.os.lower()}"
        for machine in site.manager(GroundTruth(), 0).inventory.machines
    ]


def targets(vms: Sequence[str]) -> str:
    """Return the targets of a plan that knows the server as hq."""
    return "targets:\n" + "".join(f"  - {{vm: {vm}, server: hq}}\n" for vm in vms)


async def test_two_runs_never_give_a_server_more_than_one_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later one waits, says for whom in its lines and its report, and goes on by itself.

    The plans call the server by different names, and mount other machines: the limits of the
    server and of its backup servers are what is shared.
    """
    site, noting, lines = Site(machines=16, limit=3), Noting(), io.StringIO()
    vms, told = names(site), []
    async with (
        staged(tmp_path, monkeypatch, [site], targets(vms[:8])) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def later() -> None:
            await anyio.sleep(20)
            told.append(
                await beside(stage, tmp_path, vms[8:], noting, limit=3, view=LineView(lines))
            )

        tasks.start_soon(later)
        done = await first_run(stage)

    outcome, report = told[0]
    first = "20261123T060000Z-0001"
    assert (done.code, outcome.code) == (0, 0)
    assert stage.sites.truth.peaks["server:hq"] == 3
    assert len(stage.sites.truth.mounts) == 16
    assert not stage.sites.truth.still_open()
    assert noting.first_mount is not None
    assert noting.first_mount > 60
    assert noting.waits[0].at < 15
    assert f"run {first} holds" in str(noting.waits[0].reason)
    assert noting.waits[-1].reason is None
    assert f"main: waits for other runs: run {first} holds" in lines.getvalue()
    assert "main: waits for no other run any more, after" in lines.getvalue()
    assert any(note.startswith("main: waited ") and first in note for note in report["warnings"]), (
        report["warnings"]
    )


async def test_one_machine_is_mounted_by_one_run_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one waits for it in the words of `check`, and mounts everything else meanwhile."""
    site, noting = Site(machines=4, limit=6, mount_s=300), Noting()
    vms, told = names(site), []
    async with (
        staged(tmp_path, monkeypatch, [site], targets(vms[:1])) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def later() -> None:
            await anyio.sleep(20)
            told.append(await beside(stage, tmp_path, vms, noting, limit=6))

        tasks.start_soon(later)
        await first_run(stage)

    outcome, _report = told[0]
    assert outcome.code == 0
    assert noting.first_mount is not None
    assert noting.first_mount < 20
    run = RunId("20261123T060000Z-0001")
    assert noting.waits[0].reason == f"run {run} has not done with this machine yet"
    assert all(
        peak == 1 for place, peak in stage.sites.truth.peaks.items() if place.startswith("vm:")
    )


async def test_a_run_that_waits_for_another_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a signal, or by its deadline; the report says what it waited for."""
    site, noting = Site(machines=4, limit=1, mount_s=2000), Noting()
    vms, told = names(site), []
    async with (
        staged(tmp_path, monkeypatch, [site], targets(vms[:1])) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def later() -> None:
            await anyio.sleep(20)
            told.append(
                await beside(
                    stage, tmp_path, vms[1:], noting, limit=1, extra="limits: {deadline: 60s}\n"
                )
            )
            assert stage.now < 200

        tasks.start_soon(later)
        await first_run(stage)

    outcome, report = told[0]
    assert outcome.code not in {0, 70}
    assert {target["result"] for target in report["targets"]} == {"skipped"}
    assert any("main: waited " in note for note in report["warnings"])
    assert len(stage.sites.truth.mounts) == 1


async def test_what_a_killed_run_left_is_waited_for_until_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be open for as long as its session; `unmount` ends the wait at once."""
    site, noting = Site(machines=4, limit=1, mount_s=30), Noting()
    vms, told = names(site), []
    async with staged(tmp_path, monkeypatch, [site], targets(vms[:1])) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=20) is None
        died_at = stage.now
        async with anyio.create_task_group() as tasks:

            async def later() -> None:
                told.append(await beside(stage, tmp_path, vms[1:2], noting, limit=1))

            tasks.start_soon(later)
            await anyio.sleep(120)
            assert noting.first_mount is None
            released = await release_leftovers(
                stage.state,
                "20261123T060000Z-0001",
                lambda started: stage.loaded.plan,
                world=stage.world(),
            )
            released_at = stage.now

    assert released.code == 0
    assert "it has ended, and they may be open until" in str(noting.waits[0].reason)
    assert "bulk-restore unmount 20261123T060000Z-0001" in str(noting.waits[0].reason)
    assert told[0][0].code == 0
    assert noting.first_mount is not None
    assert died_at + noting.first_mount <= released_at + 15


async def test_unmount_releases_a_killed_run_beside_a_living_one_of_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the run that waits says: the lock of the plan is the living run's, not the dead one's."""
    site, noting = Site(machines=1, mount_s=30), Noting()
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=20) is None
        first = State(stage.state).summary("last")
        async with anyio.create_task_group() as tasks:

            async def later() -> None:
                world = replace(stage.world(), run_id=RunId("20261123T060000Z-beef"))
                choices = Choices(state=stage.state, report=tmp_path / "second")
                second = await run_plan(stage.loaded, choices, observers=[noting], world=world)
                codes.append(second.code)

            codes: list[int] = []
            tasks.start_soon(later)
            await anyio.sleep(120)
            assert noting.first_mount is None
            assert f"release them: bulk-restore unmount {first.run})" in str(noting.waits[0].reason)
            released = await release_leftovers(
                stage.state, first.run, lambda started: stage.loaded.plan, world=stage.world()
            )
            released_at = stage.now

    assert (released.code, codes) == (0, [0])
    assert stage.now < released_at + 120
    assert {fate.closed_by for fate in stage.sites.truth.mounts} == {"unmounted"}
    assert not list(stage.state.glob("run-*.lock"))


async def test_what_a_killed_run_left_is_waited_for_no_longer_than_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever for a run that is gone."""
    site, noting = Site(machines=4, limit=1, mount_s=30), Noting()
    vms = names(site)
    async with staged(tmp_path, monkeypatch, [site], targets(vms[:1])) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=20) is None

        outcome, _report = await beside(stage, tmp_path, vms[1:2], noting, limit=1)

    assert outcome.code == 0
    assert noting.first_mount is not None
    assert 880 < noting.first_mount < 920


async def test_a_run_whose_mounts_do_not_count_is_said_to_be_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it has the same --state is not enough: nothing shows that its server is the same.

    The network of this test has no IP addresses by which two names could be known as one.
    """
    site, told = Site(machines=4, mount_s=300), []
    vms, alias = names(site), f"backup.example.net:{PORT}"
    async with (
        staged(tmp_path, monkeypatch, [site], targets(vms[:1])) as stage,
        anyio.create_task_group() as tasks,
    ):
        stage.sites.network.name_anew(host("hq"), PORT, alias.partition(":")[0])

        async def later() -> None:
            await anyio.sleep(20)
            run = beside(stage, tmp_path, vms[1:2], Noting(), limit=6, address=alias)
            told.append(await run)

        tasks.start_soon(later)
        await first_run(stage)

    outcome, report = told[0]
    said = [note for note in report["warnings"] if "other session" in note]
    assert outcome.code == 0
    assert said == [
        "main: 1 other session of this account open at logon, of no run that is known to share "
        "limits with this one; what they have mounted is not known and counts in no limit"
    ]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same --state", "another --state"])
async def test_what_a_run_of_another_state_directory_has_open_is_said_to_be_unknown(
    elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report counts the account's other sessions, and names none; our own runs are known."""
    site, told = Site(machines=4, mount_s=300), []
    vms, state = names(site), tmp_path / "elsewhere" if elsewhere else None
    async with (
        staged(tmp_path, monkeypatch, [site], targets(vms[:1])) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def later() -> None:
            await anyio.sleep(20)
            told.append(await beside(stage, tmp_path, vms[1:2], Noting(), limit=6, state=state))

        tasks.start_soon(later)
        await first_run(stage)
        sessions = [session.id for session in stage.sites.managers["hq"].sessions.values()]

    outcome, report = told[0]
    said = [note for note in report["warnings"] if "other session" in note]
    assert outcome.code == 0
    assert len(said) == elsewhere
    assert all(note.startswith("main: 1 other session of this account open") for note in said)
    assert not any(session in str(report["warnings"]) for session in sessions)
