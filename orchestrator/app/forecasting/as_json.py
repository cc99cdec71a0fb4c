"""A forecast as plain JSON values."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from orchestrator.app.forecasting.asking import Answer
from orchestrator.app.forecasting.json_schema import VERSION
from orchestrator.engine.forecast.history import WITHOUT_HISTORY
from orchestrator.engine.forecast.outlook import Forecast

OPEN_MOUNTS = "open_mounts"
"""Only for the picture: it has two rows for each mount."""

DIGITS = 3


def as_values(answer: Answer) -> dict[str, Any]:
    """Return a forecast as its published schema says; times are seconds since the run's start."""
    values = {
        "v": VERSION,
        "plan": answer.plan,
        "limits_changed": dict(answer.changes),
        **_values(answer.forecast),
        "seconds_without_history": WITHOUT_HISTORY,
        "overheads_of_run": answer.overheads.run,
        "deadline_s": answer.deadline,
        "exceeds_deadline": answer.exceeds_deadline,
        "without_restore_point": [each.key for each in answer.targets.unresolved],
        "broken": list(answer.targets.broken),
        "missing": {name: str(why) for name, why in answer.targets.missing.items()},
    }
    if answer.as_planned is not None:
        values["as_planned"] = _values(answer.as_planned)
    return values


def _values(forecast: Forecast) -> dict[str, Any]:
    values: dict[str, Any] = to_builtins(forecast)
    del values[OPEN_MOUNTS]
    rounded: dict[str, Any] = _rounded(values)
    return rounded


def _rounded(value: Any) -> Any:
    """Return values with every number as exact as it can be meant."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
