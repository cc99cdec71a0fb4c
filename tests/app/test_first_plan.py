"""A first plan from whatever the servers list: it is checked and run as it was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.app.first_plan import FirstPlan, NoFirstPlan, make_first_plan
from orchestrator.core.model import Source
from orchestrator.plan.choose.first_plan import FirstServer
from orchestrator.plan.choose.first_waves import Wanted
from orchestrator.plan.file.access import SecretReference
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.simulator.inventory import AGENTS, BACKUPS, REPLICAS, Inventory
from tests.app.readiness.desk import asked, assert_only_read
from tests.scenarios.drill import Site, Stage, staged

pytestmark = pytest.mark.anyio

ADMINISTRATOR = "Portal Administrator"


async def first(stage: Stage, wanted: Wanted | None = None, **options: Any) -> FirstPlan:
    """Make the first plan of a stage's servers; they are only read."""
    servers = []
    for settings in stage.loaded.plan.servers.values():
        assert not isinstance(settings.password, str)
        password: SecretReference = settings.password
        servers.append(FirstServer(settings=settings, password=password, trust=settings.trust))
    made = await make_first_plan(servers, wanted or Wanted(), world=stage.world(), **options)
    assert_only_read(stage.sites.truth)
    assert not any(manager.sessions for manager in stage.sites.managers.values())
    return made


@pytest.mark.parametrize(
    ("families", "source", "selectors"),
    [
        ([REPLICAS], None, {"job"}),
        ([REPLICAS, BACKUPS], None, {"job"}),
        ([BACKUPS], None, {"vm", "match"}),
        ([BACKUPS, AGENTS], Source.BACKUP, {"vm", "match"}),
        ([AGENTS], Source.AGENT, {"vm", "match", "job"}),
    ],
)
async def test_what_is_written_is_checked_and_run_as_it_is(
    families: Sequence[str],
    source: Source | None,
    selectors: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of every family; all its machines are mounted once, and nothing is in the way."""
    site = Site(machines=12, families=families, role=ADMINISTRATOR)
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        made = await first(stage, source=source)
        again = await first(stage, source=source)
        stage.loaded = load_plan_text(made.text.encode(), tmp_path / "plan.yaml")
        ready = (await asked(stage)).readiness.is_ready
        done = await stage.run()

    assert made.text == again.text
    targets = [target for wave in yaml.safe_load(made.text)["waves"] for target in wave["targets"]]
    assert selectors >= {key for target in targets for key in target} & {"job", "vm", "match"}
    assert ready
    assert done.outcome.code == 0
    assert len(done.report["targets"]) == 12 // len(families)


def awkward(inventory: Inventory) -> None:
    """Give machines and jobs names that would break out of a file, or act."""
    names = ['a"b: ${x}', "x&action=failover", "- y\n- z", "*", "#c", "ümlaut", "no", " led"]
    for machine, name in zip(inventory.machines, names, strict=False):
        machine.name = name
    for machine in inventory.machines[:4]:
        machine.job = 'Job: "1" [&action=failover] ${y}'
    for machine in inventory.machines[4:6]:
        machine.job = "J2 #x: {y}"
    inventory.by_machine.clear()
    inventory.by_job.clear()
    for point in list(inventory.by_id.values()):
        inventory.add(point)


async def test_hostile_names_are_asked_for_only_where_that_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written or asked for is named; the rest is run, and no action is sent."""
    site = Site(machines=8, change=awkward)
    async with staged(tmp_path, monkeypatch, [site], "targets: [{vm: x}]\n") as stage:
        made = await first(stage)
        stage.loaded = load_plan_text(made.text.encode(), tmp_path / "plan.yaml")
        answers = await asked(stage)
        done = await stage.run()

    assert answers.readiness.is_ready
    assert done.outcome.code == 0
    assert len(done.report["targets"]) + len(made.waves.left_out) == 8
    assert "hq: 'x&action=failover': its name cannot be asked for" in made.waves.left_out
    assert stage.sites.truth.dangerous == 0


async def test_a_server_without_points_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others make the plan; where nobody lists anything, there is none."""

    def empty(inventory: Inventory) -> None:
        for known in (inventory.by_id, inventory.by_machine, inventory.by_job):
            known.clear()

    plan = "targets: [{vm: x, server: hq}]\n"
    sites = [Site(), Site(name="dr", change=empty)]
    async with staged(tmp_path, monkeypatch, sites, plan) as stage:
        made = await first(stage)
    async with staged(tmp_path, monkeypatch, [Site(change=empty)], plan) as stage:
        with pytest.raises(NoFirstPlan, match="hq: it lists no restore point") as caught:
            await first(stage)

    assert list(yaml.safe_load(made.text)["servers"]) == ["hq"]
    assert made.notes == ["dr: left out: it lists no restore point, or not to this account"]
    assert not caught.value.is_mistyped


async def test_one_server_that_cannot_be_asked_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan for the others alone would be taken for whole."""
    sites = [Site(), Site(name="dr", password="another")]
    async with staged(tmp_path, monkeypatch, sites) as stage:
        with pytest.raises(NoFirstPlan, match="dr answered POST") as caught:
            await first(stage)

    assert not caught.value.is_mistyped
