"""A forecast beside the run that it forecast: real runs, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.forecast.history import WITHOUT_HISTORY
from tests.bench.drills import Shape
from tests.bench.forecasts import ARRANGEMENTS, compared, large

FEW = ("one at a time", "more room than targets")
"""The quick ones; `make bench` measures all, with five seeds each."""


@pytest.mark.parametrize("name", FEW)
def test_after_five_runs_a_forecast_is_within_a_quarter_of_the_sixth(name: str) -> None:
    """Mounts of a machine differ from run to run, as they do in the field."""
    found = compared(ARRANGEMENTS[name], seed=2)

    assert found.error <= 0.25, found
    assert found.is_in_range, found
    assert found.recorded is not None
    assert found.recorded.makespan_s == pytest.approx(found.expected.about_s, rel=0.02)
    assert found.recorded.actual_s == pytest.approx(found.took_s, abs=1.0)


@pytest.mark.parametrize(
    "pace", ["start_interval: 25s", "ramp: {from: 1, every: 3m}"], ids=["start interval", "ramp"]
)
def test_how_fast_servers_are_given_mounts_is_part_of_the_forecast(pace: str) -> None:
    """Without it the forecast would be far too short."""
    shape = Shape(
        servers=2, machines=15, server=10, backup_server=10, seconds=(60.0, 120.0), pace=pace
    )

    found = compared(shape, seed=3)
    at_once = compared(replace(shape, pace=""), seed=3)

    assert found.error <= 0.25, found
    assert found.recorded is not None
    assert found.recorded.makespan_s == pytest.approx(found.expected.about_s, rel=0.05)
    assert found.took_s > 1.25 * at_once.took_s


def test_slow_answers_are_part_of_the_forecast() -> None:
    """Mounts of 5 s behind answers of 3 s: what the history leaves out is most of the run."""
    shape = Shape(servers=1, machines=12, server=2, seconds=(4.5, 5.5))

    found = compared(shape, seed=1, latency_s=3.0)

    assert found.error <= 0.25, found
    assert found.recorded is not None
    assert found.recorded.makespan_s == pytest.approx(found.expected.about_s, rel=0.05)


def test_thousands_of_targets_are_played_as_often_as_few() -> None:
    """5,000 targets, five runs of history."""
    _, found = large()

    assert (found.targets, found.plays, found.without_history) == (5000, 5, 0)
    assert found.limits[0].share > 0.8
    assert found.makespan.about_s > 5000 * WITHOUT_HISTORY / 150
