"""A limit that `ctl` has lowered, where mounts that cannot be removed use it up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.events import Event, RunNoted, TargetConcluded
from orchestrator.core.lifecycle import MountRecord
from orchestrator.engine.steering import WAITS_FOR_PEOPLE
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import Drill, Site
from tests.scenarios.test_steering import Watching, steered, told, until, with_a_person

pytestmark = pytest.mark.anyio

EXTRA = "defaults: {timeouts: {unmount: 1m}}\n"


class Waiting(Watching):
    """Counts the notes that the run waits for people, and its results."""

    def __init__(self) -> None:
        """Before the first event."""
        super().__init__()
        self.notes = self.results = 0

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Count."""
        super().observe(event, record)
        self.notes += isinstance(event, RunNoted) and event.message == WAITS_FOR_PEOPLE
        self.results += isinstance(event, TargetConcluded)


def stuck(count: int, **settings: Any) -> Site:
    """Return a server whose first machines cannot be unmounted."""
    inventory = Site(**settings).manager(GroundTruth(), 0).inventory
    faults = [
        Fault(kind="forbidden", method="DELETE", path=f"{point.id}/mounts")
        for machine in inventory.machines[:count]
        for point in machine.points
    ]
    return Site(faults=faults, **settings)


async def test_a_run_that_waits_for_a_lowered_limit_says_so_and_goes_on_when_it_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mount is left, one may be open: nothing begins, and the note is made once."""
    watching = Waiting()

    async def person() -> None:
        await until(lambda: watching.open >= 2)
        assert (await told(stage, "limits", "hq.mounts=1")).code == 0
        await until(lambda: watching.notes > 0)
        assert watching.results == 2
        assert (await told(stage, "limits", "hq.mounts=2")).code == 0

    site = stuck(1, machines=4, limit=2)
    async with steered(tmp_path, monkeypatch, site, extra=EXTRA) as stage:
        done = await with_a_person(stage, person, watching)

    assert set(done.results().values()) == {"mounted"}
    assert watching.notes == 1
    assert WAITS_FOR_PEOPLE in str(done.report["warnings"])


async def test_what_can_never_begin_is_skipped_where_a_limit_goes_back_to_the_plan_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two mounts are left, three were allowed, the plan allows two: the run ends."""
    watching = Waiting()
    done: Drill

    async def person() -> None:
        await until(lambda: watching.open >= 1)
        assert (await told(stage, "limits", "hq.mounts=3", beyond_plan=True)).code == 0
        assert (await told(stage, "limits", "run.mounts=2")).code == 0
        stage.max_mounts = 3
        await until(lambda: watching.results >= 2 and watching.notes > 0)
        assert (await told(stage, "limits", "hq.mounts=2")).code == 0

    site = stuck(2, machines=5, limit=2)
    async with steered(tmp_path, monkeypatch, site, extra=EXTRA) as stage:
        done = await with_a_person(stage, person, watching)

    assert sorted(done.results().values()) == ["mounted", "mounted", *["skipped"] * 3]
    assert "hold them all" in str(done.report["targets"])
