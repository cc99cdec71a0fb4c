"""Targets of a run by their result, and a plan of just those."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from orchestrator._version import __version__
from orchestrator.events import TargetPlanned
from orchestrator.lifecycle import MountRecord, Phase
from orchestrator.model import MountKey, MountRequest, RestorePoint, Result, UnresolvedTarget
from orchestrator.plan.expansion import Expansion
from orchestrator.plan.loading import LoadedPlan
from orchestrator.plan.locked import LockedPlan, lock
from orchestrator.runstate import RunState


def chosen(state: RunState, results: Collection[Result] | None) -> list[MountRecord]:
    """Return the targets with one of `results`, or all, in the order of the plan.

    A target without a conclusion counts as the report counts it: unknown if it was ever
    submitted, else cancelled.
    """
    return [
        record
        for record in state.records.values()
        if results is None or result_of(record) in results
    ]


def result_of(record: MountRecord) -> Result:
    """Return a target's result, or what is known now of one without a conclusion."""
    if record.result is not None:
        return record.result
    if record.phase is Phase.HELD and record.standing is not None:
        return record.standing
    return Result.UNKNOWN if record.ever_submitted else Result.CANCELLED


def locked_plan_of(
    source: LoadedPlan | LockedPlan,
    records: Sequence[MountRecord],
    *,
    pointless: Collection[MountKey],
    seed: int,
    now: datetime,
) -> bytes:
    """Return a locked plan of these targets: the same restore points, waves, checks and limits.

    `source` must be the very plan of their run. `pointless` are the targets for which no
    restore point could be chosen when they were planned: the run knows too little of them to
    mount them, so they stay without one, with the reason. `seed` is what the run drew by.
    """
    expansion = Expansion(
        requests=tuple(
            _request(each.planned, each.planned.point)
            for each in records
            if each.planned.point is not None and each.planned.key not in pointless
        ),
        unresolved=tuple(_unresolved(each) for each in records if each.planned.key in pointless),
        broken=(),
        pending=(),
    )
    return lock(_loaded(source), expansion, created_at=now, version=__version__, seed=seed)


def _loaded(source: LoadedPlan | LockedPlan) -> LoadedPlan:
    """Return the plan that a locked one was made from, as far as locking it again needs it."""
    if isinstance(source, LoadedPlan):
        return source
    return LoadedPlan(
        plan=source.plan,
        path=Path(source.source),
        sha256=source.source_sha256,
        inventory_sha256=source.inventory_sha256,
    )


def _request(planned: TargetPlanned, point: RestorePoint) -> MountRequest:
    return MountRequest(
        key=planned.key,
        wave=planned.wave,
        server=planned.server,
        label=planned.label,
        point=point,
        os_kind=planned.os_kind,
        critical=planned.critical,
        timeouts=planned.timeouts,
        retries=planned.retries,
        objectives=planned.objectives,
        policy=planned.policy,
        place=planned.place,
        checks=planned.checks,
        downloads=planned.downloads,
        search=planned.search,
        incident_at=planned.incident_at,
    )


def _unresolved(record: MountRecord) -> UnresolvedTarget:
    planned = record.planned
    return UnresolvedTarget(
        key=planned.key,
        wave=planned.wave,
        server=planned.server,
        label=planned.label,
        reason=f"an earlier run had no restore point for it ({record.message or 'no reason'}); "
        "expand the plan itself again",
        critical=planned.critical,
        os_kind=planned.os_kind,
        source=planned.source,
        place=planned.place,
    )
