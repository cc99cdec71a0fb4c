"""Which restore points of a machine fit a policy at all, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from msgspec import Struct, field

from orchestrator.core.model import RestorePoint, RestorePointId
from orchestrator.core.text import duration
from orchestrator.plan.file.settings import PointPolicy, PolicyName


class FittingPoints(Struct):
    """How the points of a machine, newest first, fit a policy at the time `now`.

    `reasons` say of each point that does not fit why.
    """

    points: Sequence[RestorePoint]
    policy: PointPolicy
    now: datetime
    fitting: list[RestorePoint] = field(default_factory=list)
    too_old: list[RestorePoint] = field(default_factory=list)
    excluded: int = 0
    too_new: int = 0
    reasons: dict[RestorePointId, str] = field(default_factory=dict)

    @property
    def in_time(self) -> int:
        """How many points are made in time and not excluded, however old."""
        return len(self.fitting) + len(self.too_old)


def fit_of(points: Sequence[RestorePoint], policy: PointPolicy, now: datetime) -> FittingPoints:
    """Return which of a machine's points fit `policy` at the time `now`; their order is kept."""
    fit = FittingPoints(points, policy, now)
    limit = limit_of(policy)
    for point in points:
        excluding = excluded_by(point, policy.exclude_points)
        if policy.policy is PolicyName.ID and point.id != policy.point:
            fit.reasons[point.id] = "another point is named"
        elif excluding is not None:
            fit.excluded += 1
            fit.reasons[point.id] = f"excluded by {excluding!r}"
        elif limit is not None and point.created_at > limit:
            fit.too_new += 1
            what = "the incident" if limit == policy.incident_time else "the plan's time"
            fit.reasons[point.id] = f"made after {what}"
        elif policy.max_age is not None and age_of(point, policy, now) > policy.max_age:
            fit.too_old.append(point)
            fit.reasons[point.id] = f"older than max_age {duration(policy.max_age)}"
        else:
            fit.fitting.append(point)
    return fit


def limit_of(policy: PointPolicy) -> datetime | None:
    """Return the latest moment at which a point may be made."""
    named = [time for time in (policy.incident_time, policy.time) if time is not None]
    return min(named, default=None)


def age_of(point: RestorePoint, policy: PointPolicy, now: datetime) -> float:
    """Return a point's age in seconds at the incident, else now."""
    return ((policy.incident_time or now) - point.created_at).total_seconds()


def excluded_by(point: RestorePoint, patterns: Iterable[str]) -> str | None:
    """Return the id or glob that excludes a point, or None. Ids in any case."""
    for pattern in patterns:
        bare = pattern.rpartition(":")[2] if pattern.lower().startswith("urn:veeam:") else pattern
        if bare.lower() == point.id or fnmatchcase(point.name, pattern):
            return pattern
    return None


def rfc3339(time: datetime) -> str:
    """Return a moment in UTC, to the second, as keys and files have it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
