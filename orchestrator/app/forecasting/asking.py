"""From a plan or a locked plan to its forecast: what is mounted, and what earlier runs say."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from msgspec import Struct, field

from orchestrator.app.forecasting.overheads import Overheads, measured_overheads
from orchestrator.app.forecasting.what_if import Changes, changed
from orchestrator.app.planned_limits import limits_of
from orchestrator.app.preview import look
from orchestrator.app.wiring import Plan, World
from orchestrator.core.earlier_runs.naming import Naming
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.model import MountRequest, ServerName, UnresolvedTarget
from orchestrator.core.ports.store import Store
from orchestrator.engine.forecast.outlook import Forecast, Job, forecast
from orchestrator.plan.choose.locked import LockedPlan
from orchestrator.plan.choose.targets import Narrowing


class Wanted(Struct, frozen=True, kw_only=True):
    """The options of a forecast; `hold` in seconds."""

    only: tuple[str, ...] = ()
    seed: int | None = None
    max_mounts: int | None = None
    hold: float = 0.0
    changes: Changes = field(default_factory=dict)


class Targets(Struct, frozen=True, kw_only=True):
    """What a plan would mount now; as in `Expansion` and `Preview`."""

    requests: Sequence[MountRequest]
    unresolved: Sequence[UnresolvedTarget]
    broken: Sequence[str] = ()
    missing: Mapping[ServerName, OrchestratorError] = field(default_factory=dict)


class Answer(Struct, frozen=True, kw_only=True):
    """A forecast. `as_planned` is that of the plan's own limits, where others were asked for."""

    plan: str
    targets: Targets
    overheads: Overheads
    changes: Changes
    deadline: float | None
    forecast: Forecast
    as_planned: Forecast | None = None
    is_paced: bool = False
    """Whether a start interval or a ramp of the plan is counted."""

    @property
    def exceeds_deadline(self) -> bool:
        """Whether the plan's deadline is expected to end the run."""
        return self.deadline is not None and self.forecast.makespan.low_s > self.deadline


async def targets_of(
    source: Plan, store: Store, wanted: Wanted, *, world: World | None = None
) -> Targets:
    """Return what a plan mounts: a locked plan says so itself, for another one log on and look.

    Raises:
        OrchestratorError: no server can be used.
    """
    if isinstance(source, LockedPlan):
        takes = Narrowing(only=wanted.only).takes
        return Targets(
            requests=[each for each in source.requests if takes(each)],
            unresolved=[each for each in source.unresolved if takes(each)],
        )
    found = await look(source, store, only=wanted.only, seed=wanted.seed, world=world)
    expansion = found.expansion
    return Targets(
        requests=expansion.requests,
        unresolved=expansion.unresolved,
        broken=expansion.broken,
        missing=found.missing,
    )


def answer(source: Plan, targets: Targets, store: Store, wanted: Wanted) -> Answer:
    """Return the forecast of a plan; the store is only read.

    Raises:
        JournalError: it cannot be.
        LimitUnknown: `wanted` names a limit that is not there.
    """
    plan = source.plan
    own = limits_of(plan, wanted.max_mounts)
    other = changed(own, plan, targets.requests, wanted.changes)
    naming = Naming(urls={name: server.url for name, server in plan.servers.items()})
    overheads = measured_overheads(store, plan.name)
    job = partial(
        Job,
        requests=targets.requests,
        waves=plan.waves,
        objectives=plan.objectives,
        without_point=targets.unresolved,
        unasked=tuple(targets.missing),
        begins=overheads.begins,
        per_mount=overheads.per_mount,
        hold=wanted.hold,
    )
    durations = store.durations(naming)
    with _without_collections():
        forecasts = [forecast(job(limits=other), durations)]
        if wanted.changes:
            forecasts.append(forecast(job(limits=own), durations))
    return Answer(
        plan=plan.name,
        targets=targets,
        overheads=overheads,
        changes=wanted.changes,
        deadline=plan.limits.deadline,
        forecast=forecasts[0],
        is_paced=bool(own.start_interval) or own.ramp is not None,
        as_planned=forecasts[1] if wanted.changes else None,
    )


@contextmanager
def _without_collections() -> Iterator[None]:
    """Look for no garbage in the context: plays make many values, and hardly any of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
