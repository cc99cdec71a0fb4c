"""Whatever fails beside a run is told, and the run ends as if it had been alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from orchestrator.assembly import Choices
from orchestrator.conducting import conduct, resume
from orchestrator.engine.run import Run
from orchestrator.events import Event
from orchestrator.lifecycle import MountRecord
from orchestrator.outlook import Expected
from orchestrator.runstate import RunState
from orchestrator.serving import Page, Showing
from orchestrator.serving.site import Site
from tests.scenarios.drill import staged

pytestmark = pytest.mark.anyio


class Broken:
    """A companion that fails at everything."""

    def __init__(self) -> None:
        """Nothing has failed yet."""
        self.failed: list[str] = []

    def expect(self, expected: Expected) -> None:
        """Note that it is known."""
        self.failed.append("expect")

    def take_over(self, found: RunState) -> None:
        """Fail."""
        self.failed.append("take_over")
        raise RuntimeError

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Fail."""
        self.failed.append("observe")
        raise RuntimeError

    async def accompany(self, now: Callable[[], float]) -> None:
        """Fail."""
        self.failed.append("accompany")
        raise RuntimeError


async def test_a_broken_companion_changes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run, and its resume, end with every target as good as without it."""
    async with staged(tmp_path, monkeypatch) as stage, anyio.create_task_group() as tasks:
        broken = Broken()
        chosen = Choices(state=stage.state, report=stage.report)

        async def stop(run: Run) -> None:
            await anyio.sleep(10)
            run.stop("SIGTERM")

        def begin(run: Run) -> None:
            tasks.start_soon(stop, run)

        outcome = await conduct(
            stage.loaded,
            chosen,
            companions=[broken],
            world=stage.world(begin),
        )
        drill = stage.checked(outcome)
        assert set(drill.results().values()) == {"mounted", "cancelled"}
        outcome = await resume(
            "last", lambda begun: stage.loaded, chosen, companions=[broken], world=stage.world()
        )
        drill = stage.checked(outcome)

    assert set(drill.results().values()) == {"mounted"}
    assert set(broken.failed) == {"expect", "take_over", "observe", "accompany"}


async def test_the_board_has_what_the_report_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a whole drill the page's counts are the report's."""
    showing = Showing(page=None, metrics_file=None, tell=pytest.fail)
    async with staged(tmp_path, monkeypatch) as stage:
        chosen = Choices(state=stage.state, report=stage.report)
        outcome = await conduct(stage.loaded, chosen, companions=[showing], world=stage.world())
        drill = stage.checked(outcome)

    board, totals = showing.board, drill.report["totals"]
    assert board.state == "finished"
    assert board.tally.targets == totals["targets"]
    assert {result.value: count for result, count in board.tally.results.items()} == {
        result: totals[result] for result in ("mounted",)
    }


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_page_that_dies_is_told(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    """The server is gone, its companion goes on, and a person knows."""
    _ = anyio_backend
    told: list[str] = []

    def tick(self: Site, now: float) -> None:
        raise RuntimeError(now)

    monkeypatch.setattr(Site, "tick", tick)
    with anyio.fail_after(5):
        await Showing(page=Page(), metrics_file=None, tell=told.append).accompany(lambda: 0.0)

    assert "Web view: http://127.0.0.1:" in told[0]
    assert "served no more; the run goes on" in told[1]
