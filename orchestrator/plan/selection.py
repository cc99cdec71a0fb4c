"""Which restore point of a machine a policy means, and why: pure functions of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.model import RestorePoint
from orchestrator.plan.settings import PointPolicy, PolicyName


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The restore point that fits, and the reason in words."""

    point: RestorePoint
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoChoice:
    """No restore point fits, and the reason in words."""

    why: str


def choose(
    points: Sequence[RestorePoint], policy: PointPolicy, *, now: datetime
) -> Choice | NoChoice:
    """Return the point of one machine that `policy` means at the time `now`.

    The order of `points` does not matter; of two points made in the same moment the one with
    the greater id is taken, so that the same inventory always gives the same choice.
    """
    if not points:
        return NoChoice(why="the server lists no restore point")
    if policy.policy is PolicyName.ID:
        return _by_id(points, policy)
    newest_first = sorted(points, key=lambda point: (point.created_at, point.id), reverse=True)
    fitting = newest_first
    why = f"newest of {_counted(len(points))}"
    if policy.time is not None:
        fitting = [point for point in newest_first if point.created_at <= policy.time]
        limit = moment(policy.time)
        if not fitting:
            return NoChoice(
                why=f"none of {_counted(len(points))} is from {limit} or before; "
                f"the oldest is from {moment(newest_first[-1].created_at)}"
            )
        newer = len(newest_first) - len(fitting)
        why = f"newest of {_counted(len(fitting))} from {limit} or before"
        why += f", {newer} newer passed over" if newer else ""
    return _young_enough(fitting[0], policy, why, now)


def _by_id(points: Sequence[RestorePoint], policy: PointPolicy) -> Choice | NoChoice:
    found = next((point for point in points if point.id == policy.point), None)
    if found is None:
        return NoChoice(why=f"none of {_counted(len(points))} has the id {policy.point}")
    return Choice(point=found, why="named by its id")


def _young_enough(
    point: RestorePoint, policy: PointPolicy, why: str, now: datetime
) -> Choice | NoChoice:
    age = (now - point.created_at).total_seconds()
    if policy.max_age is not None and age > policy.max_age:
        return NoChoice(
            why=f"the newest point that fits is {span(age)} old "
            f"(from {moment(point.created_at)}), max_age is {span(policy.max_age)}"
        )
    return Choice(point=point, why=why)


def _counted(number: int) -> str:
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
