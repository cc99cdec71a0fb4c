"""From a chosen target to the event that makes it known."""

from __future__ import annotations

from orchestrator.events import TargetPlanned
from orchestrator.model import MountRequest, UnresolvedTarget


def planned(at: float, request: MountRequest) -> TargetPlanned:
    """Return the event that makes a target with its chosen restore point known."""
    return TargetPlanned(
        at=at,
        key=request.key,
        wave=request.wave,
        server=request.server,
        label=request.label,
        os_kind=request.os_kind,
        source=request.point.source,
        point=request.point,
        policy=request.policy,
        critical=request.critical,
        objectives=request.objectives,
        timeouts=request.timeouts,
        retries=request.retries,
        place=request.place,
        checks=request.checks,
        downloads=request.downloads,
        search=request.search,
        incident_at=request.incident_at,
    )


def planned_without_point(at: float, target: UnresolvedTarget) -> TargetPlanned:
    """Return the event that makes a target known for which no point could be chosen."""
    return TargetPlanned(
        at=at,
        key=target.key,
        wave=target.wave,
        server=target.server,
        label=target.label,
        os_kind=target.os_kind,
        source=target.source,
        critical=target.critical,
        place=target.place,
    )
