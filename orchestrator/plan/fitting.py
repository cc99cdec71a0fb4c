"""Which restore points of a machine fit a policy at all, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from orchestrator.model import RestorePoint, RestorePointId
from orchestrator.plan.settings import PointPolicy, PolicyName


@dataclass(slots=True)
class Sorted:
    """The points of a machine, newest first: those that fit, and why the others do not."""

    fitting: list[RestorePoint] = field(default_factory=list)
    too_old: list[RestorePoint] = field(default_factory=list)
    excluded: int = 0
    too_new: int = 0
    reasons: dict[RestorePointId, str] = field(default_factory=dict)

    @property
    def right(self) -> int:
        """How many points are made in time and not excluded, however old."""
        return len(self.fitting) + len(self.too_old)


def sorted_out(points: Iterable[RestorePoint], policy: PointPolicy, now: datetime) -> Sorted:
    """Return which of a machine's points fit `policy` at the time `now`; their order is kept."""
    found = Sorted()
    limit = limit_of(policy)
    for point in points:
        excluding = excluded_by(point, policy.exclude_points)
        if policy.policy is PolicyName.ID and point.id != policy.point:
            found.reasons[point.id] = "another point is named"
        elif excluding is not None:
            found.excluded += 1
            found.reasons[point.id] = f"excluded by {excluding!r}"
        elif limit is not None and point.created_at > limit:
            found.too_new += 1
            what = "the incident" if limit == policy.incident_time else "the plan's time"
            found.reasons[point.id] = f"made after {what}"
        elif policy.max_age is not None and age_of(point, policy, now) > policy.max_age:
            found.too_old.append(point)
            found.reasons[point.id] = f"older than max_age {span(policy.max_age)}"
        else:
            found.fitting.append(point)
    return found


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


# --- words ---------------------------------------------------------------------------------


def counted(number: int) -> str:
    """Return how many points there are, in words."""
    return "1 point" if number == 1 else f"{number} points"


def moment(time: datetime) -> str:
    """Return a moment in UTC, to the second, as RFC 3339."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """Return a duration in its two greatest units: `1d 3h`, `20m`, `45s`."""
    rest = max(0, round(seconds))
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, rest = divmod(rest, length)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"
