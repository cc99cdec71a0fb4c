"""What a run records of its own forecast, so that its report can show both beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.core.events import RunForecast
from orchestrator.core.model import MountRequest
from orchestrator.core.ports.journal import Durations
from orchestrator.engine.forecast.outlook import Job, forecast
from orchestrator.engine.orders import Orders


def recorded_forecast(
    orders: Orders,
    requests: Sequence[MountRequest],
    durations: Durations,
    *,
    begins: float,
    per_mount: Callable[[], float],
) -> RunForecast | None:
    """Return the forecast of a run whose first wave begins at second `begins` of its clock.

    None where most of its machines were never mounted: that would be a guess.
    """
    known = sum(bool(durations.recent(each.server, each.vm)) for each in requests)
    if not requests or 2 * known < len(requests):
        return None
    started = orders.started
    job = Job(
        requests=requests,
        waves=started.waves,
        limits=orders.limits,
        begins=begins,
        per_mount=per_mount(),
        hold=started.hold_s or 0.0,
    )
    found = forecast(job, durations)
    return RunForecast(
        at=begins,
        makespan_s=found.makespan.about_s,
        low_s=found.makespan.low_s,
        high_s=found.makespan.high_s,
        targets=found.targets,
        without_history=found.without_history,
    )
