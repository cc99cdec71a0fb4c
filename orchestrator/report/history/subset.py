"""Targets of a run by their result, and a plan of just those."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import MountKey, MountRequest, Result, UnresolvedTarget, same_fields
from orchestrator.core.run_state import RunState
from orchestrator.core.version import __version__
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.locked import LockedPlan, lock
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.report.summary import result_of


def chosen(state: RunState, results: Collection[Result] | None) -> list[MountRecord]:
    """Return the targets with one of `results`, or all, in the order of the plan.

    A target without a conclusion counts as the report counts it, once nobody works on the run:
    unknown if it was ever submitted, else cancelled. Until then only one that is held counts, by
    its verdict: any other may still have every result.
    """
    return [
        record
        for record in state.records.values()
        if results is None
        or (
            (state.process_gone or record.is_final or record.phase is Phase.HELD)
            and result_of(record) in results
        )
    ]


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
            same_fields(MountRequest, each.planned)
            for each in records
            if each.planned.point is not None and each.planned.key not in pointless
        ),
        unresolved=tuple(_unresolved(each) for each in records if each.planned.key in pointless),
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


def _unresolved(record: MountRecord) -> UnresolvedTarget:
    planned = record.planned
    return same_fields(
        UnresolvedTarget,
        planned,
        reason=f"an earlier run had no restore point for it ({record.message or 'no reason'}); "
        "expand the plan itself again",
    )
