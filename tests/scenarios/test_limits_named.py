"""Limits of backup servers: any spelling counts, and a name that nobody knows ends the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.app.preview import look
from orchestrator.app.stores import store_at
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import Drill, Site, drill, every_machine, servers_yaml, staged

pytestmark = pytest.mark.anyio

SITE = Site("hq", machines=8, backup_servers=2, limit=8)


def plan_with(limits: str) -> str:
    """Return a plan's server section with such limits, to stand for the whole beginning."""
    return servers_yaml([SITE]) + f"    backup_servers: {limits}\n"


async def run_with(limits: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Drill:
    """Run a plan whose server has such limits."""
    monkeypatch.setattr("tests.scenarios.drill.servers_yaml", lambda sites: plan_with(limits))
    return await drill(directory, monkeypatch, [SITE])


async def test_a_limit_in_another_spelling_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VBR-HQ-01 is vbr-hq-01."""
    done = await run_with("{VBR-HQ-01: {mounts: 1}, Vbr-Hq-02: {mounts: 1}}", tmp_path, monkeypatch)

    assert done.outcome.code == 0
    assert done.truth.peaks["backup:hq/vbr-hq-01"] == 1
    assert done.truth.peaks["backup:hq/vbr-hq-02"] == 1


async def test_a_limit_for_a_name_that_nobody_knows_ends_the_run_before_its_first_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the nearest one there is."""
    done = await run_with("{vbr-hq-1: {mounts: 1}}", tmp_path, monkeypatch)

    assert done.outcome.code == 4
    assert not done.truth.mounts
    assert "'vbr-hq-1'; did you mean 'vbr-hq-01'?" in str(done.report["run"]["halted"])


async def test_plan_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken guard is exit code 4 of `plan`."""
    limits = "{vbr-hq-1: {mounts: 1}}"
    monkeypatch.setattr("tests.scenarios.drill.servers_yaml", lambda sites: plan_with(limits))

    async with staged(tmp_path, monkeypatch, [SITE], every_machine([SITE])) as stage:
        assert isinstance(stage.loaded, LoadedPlan)
        found = await look(stage.loaded, store_at(stage.state), world=stage.world())

    assert len(found.expansion.broken) == 1
    assert "did you mean 'vbr-hq-01'?" in found.expansion.broken[0]


async def test_a_limit_for_a_backup_server_that_nothing_is_selected_from_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrowed plan keeps the limits of the whole one; an account that may not list can ask."""
    limits = "{vbr-hq-01: {mounts: 1}, vbr-hq-02: {mounts: 1}}"
    monkeypatch.setattr("tests.scenarios.drill.servers_yaml", lambda sites: plan_with(limits))
    machine = next(
        each
        for each in SITE.manager(GroundTruth(), 0).inventory.machines
        if each.backup_server.name == "vbr-hq-02"
    )
    targets = f"targets:\n  - {{vm: {machine.name}, os: {machine.os.lower()}}}\n"

    done = await drill(tmp_path, monkeypatch, [SITE], targets)

    assert done.outcome.code == 0
    assert len(done.truth.mounts) == 1
