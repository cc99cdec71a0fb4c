"""Recovery objectives against what was measured. Seconds throughout.

RTO: run start to the last verdict. RPO: run start on the server's clock, or the plan's
`incident_time`, minus the creation of the point that was proven; that of a point from the future is
not known, and not met. A target without a good verdict has met no RTO; nothing
is invented for it.

Regression: the time from the first wave's beginning to the last one's end, against the median of
the last whole runs of the plan. They are in the run's first record, so the journal alone tells.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from statistics import median

from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.makespan import NOT_TRIED, makespan
from orchestrator.core.model import Objectives, RestorePoint, ServerName
from orchestrator.core.policy import FUTURE_SLACK, clock_correction
from orchestrator.core.run_state import RunState
from orchestrator.report.described import seconds
from orchestrator.report.objective_values import Objective


def target_objectives(record: MountRecord, state: RunState) -> list[Objective]:
    """Return the objectives of one target."""
    planned = record.planned
    return _objectives_of(planned.key, planned.objectives, [record], state)


def common_objectives(state: RunState) -> list[Objective]:
    """Return the objectives of the run, then those of its waves: as slow as the slowest target.

    A wave without targets in this run (`--only`) has missed nothing and is left out.
    """
    records = state.records.values()
    objectives = _objectives_of("run", state.started.objectives, records, state)
    for facts in state.started.waves:
        of_wave = [each for each in records if each.planned.wave == facts.name]
        if of_wave:
            objectives += _objectives_of(f"wave {facts.name}", facts.objectives, of_wave, state)
    return [*objectives, *_regression(state)]


LEAST_RUNS = 3
"""Earlier whole runs without which nothing is said of a longer time."""


def _regression(state: RunState) -> list[Objective]:
    """Return the objective that the run takes hardly longer than earlier ones, if it is judged."""
    regression, usual = state.started.regression, usual_s(state)
    if regression is None or usual is None:
        return []
    took, allowed = makespan_s(state), usual * (1 + regression)
    return [
        Objective(
            scope="run",
            kind="regression",
            target_s=seconds(allowed),
            actual_s=None if took is None else seconds(took),
            met=took is not None and took <= allowed,
            median_s=seconds(usual),
            runs=len(earlier_makespans(state)),
        )
    ]


def usual_s(state: RunState) -> float | None:
    """Return the median with which the run's time is compared; None: it is not compared."""
    is_compared = state.started.regression is not None and why_not_compared(state) is None
    return median(earlier_makespans(state)) if is_compared else None


def why_not_compared(state: RunState) -> str | None:
    """Return why the run's time says nothing beside that of earlier ones; None: it is compared.

    What was not compared has missed nothing; the report names it.
    """
    started = state.started
    if started.only or started.keys is not None or started.part is not None:
        return "the run was narrowed"
    if state.steered:
        return "people steered the run"
    if state.resumed:
        return "the run was resumed, and somebody may have waited with that"
    found = len(earlier_makespans(state))
    if found < LEAST_RUNS:
        return f"there are {found} earlier whole runs, and it takes {LEAST_RUNS}"
    return None


def earlier_makespans(state: RunState) -> tuple[float, ...]:
    """Return what the run is compared with: real runs with real ones, simulated with simulated."""
    sessions = (each for server in state.servers.values() for each in server.sessions)
    past = state.started.makespans
    return past.simulated if any(each.simulated for each in sessions) else past.real


def makespan_s(state: RunState) -> float | None:
    """Return the seconds from the first wave's beginning to the last one's end.

    None for a run that did not try all of its targets: that it was quick means nothing.
    """
    if state.halted is not None or state.stops:
        return None
    if any(record.result in NOT_TRIED for record in state.records.values()):
        return None
    times = {name: (wave.started_at, wave.finished_at) for name, wave in state.waves.items()}
    return makespan(
        {name: began for name, (began, _) in times.items() if began is not None},
        {name: ended for name, (_, ended) in times.items() if ended is not None},
    )


def _objectives_of(
    scope: str, wanted: Objectives, records: Collection[MountRecord], state: RunState
) -> list[Objective]:
    if wanted.rto is None and wanted.rpo is None:
        return []
    objectives = []
    rto, rpo = measured_over(records, state)
    for kind, target, actual in (("rto", wanted.rto, rto), ("rpo", wanted.rpo, rpo)):
        if target is not None:
            met = actual is not None and actual <= target
            shown = None if actual is None else seconds(actual)
            objectives.append(
                Objective(scope=scope, kind=kind, target_s=target, actual_s=shown, met=met)
            )
    return objectives


def measured_over(
    records: Collection[MountRecord], state: RunState
) -> tuple[float | None, float | None]:
    """Return RTO and RPO of targets together: of the slowest one, and of the oldest point.

    None if a target was not proven, for then there is no such time.
    """
    both = [measured(record, state) for record in records]
    worst = (max(each, key=lambda s: inf if s is None else s) for each in zip(*both, strict=True))
    return next(worst, None), next(worst, None)


def _rto(record: MountRecord) -> float | None:
    proven = record.proven
    if proven is None:
        return None
    return record.verdict_at if record.verdict_at is not None else proven.verdict_at


def _rpo(record: MountRecord, state: RunState) -> float | None:
    proven, point = record.proven, record.point
    if proven is None or point is None:
        return None
    if point.id != proven.point:  # not concluded yet: another point is being tried
        point = next(each for each in record.planned.search.candidates if each.id == proven.point)
    if record.planned.incident_at is not None:
        return max(0.0, (record.planned.incident_at - point.created_at).total_seconds())
    age = age_s(point, record.planned.server, state)
    if age < -(record.planned.at + FUTURE_SLACK):  # it was made after it was listed
        return None
    return max(0.0, age)


def age_s(point: RestorePoint, name: ServerName, state: RunState) -> float:
    """Return how old a point was at the start of the run, by the clock of its server.

    The clocks were compared at the first logon, so shortly after the start.
    """
    server = state.servers.get(name)
    first = server.sessions[0].clock_offset_s if server is not None and server.sessions else None
    return (state.started.started_at - point.created_at).total_seconds() + clock_correction(first)


def measured(record: MountRecord, state: RunState) -> tuple[float | None, float | None]:
    """Return RTO and RPO of a target as they were, whether or not the plan names objectives."""
    return _rto(record), _rpo(record, state)
