"""Whatever fails beside a run is told, and the run ends as if it had been alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from orchestrator.app.runner import resume, run_plan
from orchestrator.app.wiring import Choices
from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MountRecord
from orchestrator.engine.run import Run
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.web.server import WebServer
from orchestrator.views.web.web_view import PageOptions, WebView
from tests.scenarios.drill import staged

pytestmark = pytest.mark.anyio


class Broken(WebView):
    """A background view that fails at everything."""

    def __init__(self) -> None:
        """Nothing has failed yet."""
        super().__init__(page=None, metrics_file=None, show_line=pytest.fail)
        self.failed: list[str] = []

    def begin(self, stats: RunStatistics) -> None:
        """Note that it is known."""
        self.failed.append("begin")

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Fail."""
        self.failed.append("catch_up")
        raise RuntimeError

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Fail."""
        self.failed.append("observe")
        raise RuntimeError

    async def serve(self, now: Callable[[], float]) -> None:
        """Fail."""
        self.failed.append("accompany")
        raise RuntimeError


async def test_a_broken_background_view_changes_no_result(
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

        outcome = await run_plan(
            stage.loaded,
            chosen,
            background=[broken],
            world=stage.world(begin),
        )
        drill = stage.checked(outcome)
        assert set(drill.results().values()) == {"mounted", "cancelled"}
        outcome = await resume(
            "last",
            lambda begun: stage.loaded,
            chosen,
            background=[broken],
            world=stage.world(),
        )
        drill = stage.checked(outcome)

    assert set(drill.results().values()) == {"mounted"}
    assert set(broken.failed) == {"begin", "catch_up", "observe", "accompany"}
    assert broken.failed.count("catch_up") == 1, "it is told no more"


async def test_the_board_has_what_the_report_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a whole drill the page's counts are the report's."""
    web_view = WebView(page=None, metrics_file=None, show_line=pytest.fail)
    async with staged(tmp_path, monkeypatch) as stage:
        chosen = Choices(state=stage.state, report=stage.report)
        outcome = await run_plan(stage.loaded, chosen, background=[web_view], world=stage.world())
        drill = stage.checked(outcome)

    page_state, totals = web_view.page_state, drill.report["totals"]
    assert page_state.state == "finished"
    assert page_state.stats.targets == totals["targets"]
    assert {result.value: count for result, count in page_state.stats.results.items()} == {
        result: totals[result] for result in ("mounted",)
    }


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_page_that_dies_is_told(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    """The server is gone, what runs beside it goes on, and a person knows."""
    _ = anyio_backend
    told: list[str] = []

    def tick(self: WebServer, now: float) -> None:
        raise RuntimeError(now)

    monkeypatch.setattr(WebServer, "tick", tick)
    with anyio.fail_after(60):
        await WebView(page=PageOptions(), metrics_file=None, show_line=told.append).serve(
            lambda: 0.0
        )

    assert "Web view: http://127.0.0.1:" in told[0]
    assert "served no more; the run goes on" in told[1]
