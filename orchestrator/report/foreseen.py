"""The forecast of a run beside what it took."""

from __future__ import annotations

from orchestrator.core.run_state import RunState
from orchestrator.core.text import duration
from orchestrator.report.described import seconds
from orchestrator.report.values import ForecastReport


def forecast_of(state: RunState) -> ForecastReport | None:
    """Return what was expected, and what came; nothing if nothing was expected.

    A run that was stopped, halted, resumed or steered, or waited for an approval, took another time
    than was forecast, and says nothing about the forecast.
    """
    expected, ended = state.forecast, state.finished
    if expected is None:
        return None
    is_whole = not (state.stops or state.halted or state.resumed or state.steered or state.awaited)
    return ForecastReport(
        makespan_s=seconds(expected.makespan_s),
        low_s=seconds(expected.low_s),
        high_s=seconds(expected.high_s),
        actual_s=seconds(ended.at) if ended is not None and is_whole else None,
        targets=expected.targets,
        without_history=expected.without_history,
    )


def error_of(forecast: ForecastReport) -> float | None:
    """Return how much longer the run took than expected, as a fraction; negative: shorter."""
    if forecast.actual_s is None or not forecast.makespan_s:
        return None
    return forecast.actual_s / forecast.makespan_s - 1


def forecast_in_words(forecast: ForecastReport) -> str:
    """Return `20 min (18 min to 24 min); it took 21 min, 5% longer`."""
    low, high = duration(forecast.low_s), duration(forecast.high_s)
    text = f"{duration(forecast.makespan_s)} ({low} to {high})"
    error = error_of(forecast)
    if forecast.actual_s is None or error is None:
        return text
    return f"{text}; it took {duration(forecast.actual_s)}, {difference(error)}"


def difference(error: float) -> str:
    """Return `5% longer`, `5% shorter` or `as expected`."""
    if abs(error) < 0.005:
        return "as expected"
    return f"{abs(error):.0%} {'longer' if error > 0 else 'shorter'}"
