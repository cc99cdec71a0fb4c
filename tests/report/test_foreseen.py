"""The forecast of a run in its report: beside what it took, or without if that says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core.events import (
    ApprovalAwaited,
    Event,
    RunForecast,
    RunHalted,
    RunResumed,
    StopRequested,
)
from orchestrator.core.model import WaveName
from orchestrator.core.text import escape_markdown
from orchestrator.report import as_html, as_markdown
from orchestrator.report.summary import summarize
from orchestrator.report.text import text
from tests.report.builders import STARTED_AT, finished, life, run_of, values
from tests.report.history.runs import beginning, called, keep

EXPECTED = RunForecast(
    at=5.0, makespan_s=100.0, low_s=90.0, high_s=125.0, targets=2, without_history=1
)


def test_the_report_shows_what_was_expected_beside_what_came() -> None:
    """In JSON, text, HTML and Markdown, and as a value of the Python API."""
    report = summarize(run_of([EXPECTED], life("dc01"), [finished(at=120.0)]))

    assert values(report)["run"]["forecast"] == {
        "makespan_s": 100.0,
        "low_s": 90.0,
        "high_s": 125.0,
        "actual_s": 120.0,
        "targets": 2,
        "without_history": 1,
    }
    words = "1 min 40 s (1 min 30 s to 2 min 5 s); it took 2 min, 20% longer"
    assert f"Forecast: {words}" in text(report)
    assert words in as_html.render(report)
    assert f"Forecast: {escape_markdown(words)}\n" in as_markdown.render(report)
    assert report.run.forecast is not None
    assert (report.run.forecast.makespan_s, report.run.forecast.actual_s) == (100.0, 120.0)


def test_a_run_without_a_forecast_says_nothing_of_one() -> None:
    """Its machines had hardly any history, or it is an older run."""
    report = summarize(run_of(life("dc01"), [finished(at=120.0)]))

    assert "forecast" not in values(report)["run"]
    assert "orecast" not in text(report) + as_html.render(report) + as_markdown.render(report)


@pytest.mark.parametrize(
    "broken",
    [
        [RunHalted(at=6.0, reason="failures", detail="1 failed")],
        [StopRequested(at=6.0, signal="SIGINT", forced=False)],
        [RunResumed(at=6.0, resumed_at=STARTED_AT, version="1")],
        [ApprovalAwaited(at=6.0, wave=WaveName("databases"), approvals=1, until=66.0)],
    ],
    ids=lambda events: type(events[0]).__name__,
)
def test_a_run_that_did_not_go_through_says_nothing_about_its_forecast(
    broken: list[Event],
) -> None:
    """What it took is no measure of what was expected."""
    report = summarize(run_of([EXPECTED], life("dc01"), broken, [finished(at=120.0)]))

    assert values(report)["run"]["forecast"]["actual_s"] is None
    assert "Forecast: 1 min 40 s (1 min 30 s to 2 min 5 s)\n" in text(report)


def test_trend_says_how_good_the_forecasts_were(tmp_path: Path) -> None:
    """The first run had none; of the others one ended outside its range."""
    keep(tmp_path, beginning(1), [life("dc01")], seconds=100)
    keep(tmp_path, beginning(2), [[EXPECTED], life("dc01")], seconds=110)
    keep(tmp_path, beginning(3), [[EXPECTED], life("dc01")], seconds=130)

    last = called(tmp_path, "trend").output.splitlines()[-1]

    assert last.startswith("forecasts of 2 runs: 20% off (median), 30% at most; 1 of 2 within")
