"""A view that breaks: it is told in the log, and the run, its result and its report go on."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from orchestrator.app.planned_limits import limits_of
from orchestrator.app.runner import resume, run_plan
from orchestrator.app.wiring import Choices
from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MountRecord
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.view import View
from tests.invariants import assert_invariants
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Site, Stage, staged

pytestmark = pytest.mark.anyio


class BrokenView(View):
    """Raises wherever it can."""

    interval_s = 1.0

    def begin(self, stats: RunStatistics) -> None:
        """Break before it begins."""
        raise RuntimeError("no plan")

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Break while it catches up."""
        raise RuntimeError("no past")

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Break while it counts."""
        raise RuntimeError("no numbers")

    def draw(self, now: float) -> None:
        """Break while it draws."""
        raise RuntimeError("no colours")

    def close(self) -> None:
        """Break when it ends."""
        raise RuntimeError("no way out")


def check(stage: Stage, code: int) -> None:
    """See that the run ended as it would have without a view."""
    report = json.loads((stage.report / "report.json").read_text())
    assert code == report["run"]["exit_code"] == 0
    assert report["totals"]["mounted"] == report["totals"]["targets"] > 0
    assert not stage.sites.truth.still_open()
    assert_invariants(stage.sites.truth, report, limits_of(stage.loaded.plan))


async def test_a_view_that_breaks_changes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks in the first second and again at the end; every target is mounted all the same."""
    async with staged(tmp_path, monkeypatch, [Site()]) as stage:
        outcome = await run_plan(
            stage.loaded,
            Choices(state=stage.state, report=stage.report),
            view=BrokenView(),
            world=stage.world(),
        )
        check(stage, outcome.code)


async def test_a_view_that_breaks_stops_no_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks before the first event of the process that goes on with a killed run."""
    async with staged(tmp_path, monkeypatch, [Site()]) as stage:
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=30.0) is None
        await anyio.sleep(10.0)
        outcome = await resume(
            "last",
            lambda begun: stage.loaded,
            Choices(state=stage.state),
            view=BrokenView(),
            world=stage.world(),
        )
        check(stage, outcome.code)
