"""Recovery objectives against what was measured. Seconds throughout.

RTO: run start to the last verdict. RPO: run start on the server's clock, or the plan's
`incident_time`, minus the creation of the point that was proven; that of a point from the future is
not known, and not met. A target without a good verdict has met no RTO; nothing
is invented for it.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import Objectives, RestorePoint, ServerName
from orchestrator.core.policy import FUTURE_SLACK, clock_correction
from orchestrator.core.run_state import RunState
from orchestrator.report.fields import seconds
from orchestrator.report.values import Objective


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
    return objectives


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
