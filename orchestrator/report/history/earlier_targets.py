"""The targets of an earlier run, as a locked plan that is only compared with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from orchestrator.core.model import (
    MountKey,
    MountRequest,
    RestorePoint,
    UnresolvedTarget,
    same_fields,
)
from orchestrator.core.run_state import RunState
from orchestrator.core.text import moment
from orchestrator.plan.choose.locked import LockedPlan
from orchestrator.plan.file.loading import LoadedPlan


class TargetsOfRun(LockedPlan, frozen=True, kw_only=True):
    """The targets of a run; as a locked plan it is only compared with, never carried out."""

    def why_gone(self, point: RestorePoint) -> str:
        """Return what to say of a point of the run that its server does not list any more."""
        at = moment(point.created_at)
        return f"the run's restore point of {at} has gone: the server does not list it any more"


def targets_of_run(
    state: RunState, now: LoadedPlan, *, pointless: Collection[MountKey]
) -> TargetsOfRun:
    """Return the targets and restore points that a run chose.

    Servers and settings are those of the plan as it is `now`, which may have changed since:
    keys tell which targets are the same. `pointless` are the targets that never had a point.
    """
    started = state.started
    planned = [record.planned for record in state.records.values()]
    waves = tuple(replace(wave, entries=()) for wave in now.plan.waves)
    return TargetsOfRun(
        version=started.version,
        created_at=started.started_at,
        source=started.plan_path,
        source_sha256=started.plan_sha256,
        inventory_sha256={},
        plan=replace(now.plan, waves=waves),
        requests=tuple(
            same_fields(MountRequest, each)
            for each in planned
            if each.point is not None and each.key not in pointless
        ),
        unresolved=tuple(
            same_fields(UnresolvedTarget, each, reason="the run had no restore point for it")
            for each in planned
            if each.key in pointless
        ),
        seed=started.seed,
        path=Path(started.plan_path),
        sha256="",
    )
