"""From a plan and a person's choices to the first record of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.app.wiring import (
    Choices,
    Plan,
    World,
    beginning,
    orders_of,
    require_allowed_writes,
)
from orchestrator.core.errors import PlanError
from orchestrator.core.events import RunStarted, from_json, to_json
from orchestrator.core.model import RunId, Unmount
from orchestrator.plan.choose.expansion import expand
from orchestrator.plan.choose.inventory import Inventory
from orchestrator.plan.choose.locked import load_locked, lock
from tests.plan.builders import HQ, NOW, load, point

BODY = """mode: recovery
cleanup: {unmount: on_success, keep_failed: 30m}
checks:
  a: [{path: 'C:\\a', magic: 4D 5A}, {dir: 'C:\\d', absent: ['*x']}]
  b: [{baseline: 'C:\\d'}, {exec: [judge], timeout: 9s}]
targets:
  - {vm: dc01, checks: [b], download: [{path: 'C:\\b', write: original}]}
  - vm: dc02
"""


def both_kinds(body: str = BODY) -> list[Plan]:
    """Return a plan, and the same one locked."""
    loaded = load(body)
    inventory = Inventory([point("dc01"), point("dc02")])
    expansion = expand(loaded.plan, {HQ: inventory}, now=NOW)
    data = lock(loaded, expansion, created_at=NOW, version="9.9")
    return [loaded, load_locked(data, Path("plan.lock.json"))]


def started(plan: Plan, **choices: float) -> RunStarted:
    """Return the first record of a run."""
    world = World(wall_clock=lambda: datetime(2026, 11, 23, tzinfo=UTC), run_id=RunId("r"))
    return beginning(plan, Choices(state=Path("state"), **choices), world)  # type: ignore[arg-type]  # only `hold`


@pytest.mark.parametrize("kind", [0, 1], ids=["plan", "locked"])
def test_the_first_record_holds_all_that_a_resume_needs(kind: int) -> None:
    """Check sets, mode and what stays mounted are in the journal before anything is sent."""
    plan = both_kinds()[kind]

    record = started(plan, hold=90.0)

    assert record.check_sets == load(BODY).plan.checks
    assert record.mode == "recovery"
    assert (record.unmount, record.keep_failed_s) == (Unmount.ON_SUCCESS, 1800)
    assert record.hold_s == 90
    assert from_json("RunStarted", to_json(record)) == record
    assert orders_of(plan, record, World()).started.check_sets["b"] == plan.plan.checks["b"]


def test_without_a_word_nothing_is_checked_or_held() -> None:
    """The defaults of the contract."""
    record = started(load("targets: [{vm: a}]\n"))

    assert (record.check_sets, record.mode) == ({}, "drill")
    assert (record.unmount, record.keep_failed_s, record.hold_s) == (Unmount.ALWAYS, None, None)


@pytest.mark.parametrize(
    ("kind", "named"), [(0, "vm 'dc01' (11:5)"), (1, "default/hq/dc01")], ids=["plan", "locked"]
)
def test_writing_into_a_guest_needs_a_word_of_its_own(kind: int, named: str) -> None:
    """Neither the plan's mode nor --yes nor a locked plan is enough."""
    plan = both_kinds()[kind]

    with pytest.raises(PlanError, match="--yes-write") as caught:
        require_allowed_writes(plan, Choices(state=Path("state")))

    assert named in str(caught.value)
    assert "dc02" not in str(caught.value)
    require_allowed_writes(plan, Choices(state=Path("state"), yes_write=True))


def test_a_drill_that_would_write_is_refused_whoever_allows_it() -> None:
    """The loader lets none through; should one come another way, it ends here."""
    loaded = load(BODY)
    drill = replace(loaded, plan=replace(loaded.plan, mode="drill"))

    with pytest.raises(PlanError, match="a drill cannot write into guests"):
        require_allowed_writes(drill, Choices(state=Path("state"), yes_write=True))


def test_copying_out_needs_no_such_word() -> None:
    """A drill that only reads is not stopped."""
    body = "targets: [{vm: dc01, download: [{path: 'C:\\b', to: out/}]}, {vm: dc02}]\n"

    for plan in both_kinds(body):
        require_allowed_writes(plan, Choices(state=Path("state")))
