"""When the restore points of a rehearsed machine were made: so that its policy finds one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from orchestrator.plan.file.settings import Entry, PolicyName

NEWEST_S = 300.0
"""Seconds; how old the newest point is where nothing asks for a newer one."""
DAY_S = 86_400.0
USUAL_POINTS = 4
SEARCHED_POINTS = 8
MOST = 200


def point_times(entry: Entry, now: datetime) -> Iterator[tuple[datetime, bool]]:
    """Yield when the points of a machine were made, and whether the policy may choose them.

    The newest come first. `now` is what the clock of the server shows.
    """
    policy = entry.point
    named = [time for time in (policy.time, policy.incident_time) if time is not None]
    latest = min([now, *named])
    if latest < now - timedelta(seconds=2 * NEWEST_S):
        yield _whole(now - timedelta(seconds=NEWEST_S)), False
    ages = [policy.max_age, entry.objectives.rpo]
    first = min([NEWEST_S, *(age / 4 for age in ages if age is not None)])
    wanted = _wanted(entry)
    oldest = policy.max_age
    if policy.fallback is not None and policy.fallback.max_age is not None:
        oldest = policy.fallback.max_age
    step = DAY_S if oldest is None else min(DAY_S, max(1.0, (oldest - first) / (wanted + 1)))
    for number in range(wanted):
        yield _whole(latest - timedelta(seconds=first + number * step)), True


def _wanted(entry: Entry) -> int:
    policy = entry.point
    if policy.policy is PolicyName.EVERY:
        return min(MOST, policy.count or USUAL_POINTS)
    if policy.policy is PolicyName.NEWEST_PASSING:
        return SEARCHED_POINTS
    older = policy.fallback.count if policy.fallback is not None else 0
    return min(MOST, max(USUAL_POINTS, older + 1))


def _whole(time: datetime) -> datetime:
    return time.replace(microsecond=0)
