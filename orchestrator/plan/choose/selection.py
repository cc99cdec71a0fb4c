"""Which restore point of a machine a policy means, and why: pure functions of a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from msgspec import Struct

from orchestrator.core.model import NO_SEARCH, Order, RestorePoint, RestorePointId, Search
from orchestrator.core.text import counted, duration, moment
from orchestrator.plan.choose.fitting import FittingPoints, age_of, fit_of, limit_of
from orchestrator.plan.file.settings import Fallback, PointPolicy, PolicyName

Lots = Callable[[int | None, RestorePointId], bytes]
"""The lot of a point under the policy's own seed, or the run's where that is None."""

OLDER = "older than the chosen"
"""Why most points are passed over: nothing is wrong with them but their age."""


class PointPassedOver(Struct, frozen=True, kw_only=True):
    """A restore point that was not chosen, and the reason in words.

    `in_reserve` where it may be tried later: the search has it too.
    """

    point: RestorePoint
    why: str
    in_reserve: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PointChoice:
    """The restore point that fits, and the reason in words.

    `search` are the points that may be tried in its place; `passed` are all others of the
    machine, newest first.
    """

    point: RestorePoint
    why: str
    search: Search = NO_SEARCH
    passed: tuple[PointPassedOver, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoChoice:
    """No restore point fits, and the reason in words."""

    why: str
    passed: tuple[PointPassedOver, ...] = field(default=(), compare=False)


def choose(
    points: Sequence[RestorePoint], policy: PointPolicy, *, now: datetime, lots: Lots
) -> tuple[PointChoice, ...] | NoChoice:
    """Return the points of one machine that `policy` means at `now`: one, or all for `every`.

    The order of `points` does not matter; of two points made in the same moment the one with the
    greater id is taken, so that the same inventory always gives the same choice.
    """
    newest_first = sorted(points, key=lambda point: (point.created_at, point.id), reverse=True)
    if not newest_first:
        return NoChoice(why="the server lists no restore point")
    if policy.policy is PolicyName.ID and all(p.id != policy.point for p in newest_first):
        why = f"none of {counted(len(points), 'point')} has the id {policy.point}"
        passed = _passed(
            FittingPoints(newest_first, policy, now), "another point is named", chosen=()
        )
        return NoChoice(why=why, passed=passed)
    fit = fit_of(newest_first, policy, now)
    if not fit.fitting:
        return NoChoice(why=_why_none(fit), passed=_passed(fit, "", chosen=()))
    match policy.policy:
        case PolicyName.EVERY:
            return _every(fit)
        case PolicyName.NEWEST_PASSING:
            return (_newest_passing(fit),)
        case PolicyName.RANDOM:
            return (_random(fit, lots),)
        case PolicyName.ID:
            others = _passed(fit, "", chosen=fit.fitting[:1])
            return (PointChoice(point=fit.fitting[0], why="named by its id", passed=others),)
        case PolicyName.LATEST | PolicyName.BEFORE:
            why = f"newest of {counted(fit.in_time, 'point')}" + _around(fit)
            return (_with_fallback(fit, fit.fitting[0], why, rest=OLDER),)
        case _:
            assert_never(policy.policy)


def _why_none(fit: FittingPoints) -> str:
    """Say why none of the points fits."""
    policy, points, limit = fit.policy, fit.points, limit_of(fit.policy)
    if fit.too_old:
        newest = fit.too_old[0]
        age = duration(age_of(newest, policy, fit.now))
        at = f"{age} older than the incident" if policy.incident_time else f"{age} old"
        return (
            f"the newest point that fits is {at} (from {moment(newest.created_at)}), "
            f"max_age is {duration(policy.max_age or 0)}"
        )
    if policy.policy is PolicyName.ID:
        return f"the point {policy.point} does not fit: {fit.reasons[policy.point or points[0].id]}"
    if fit.too_new and limit is not None:
        why = f"none of {counted(len(points), 'point')} is from {moment(limit)} or before"
        why += f" and not excluded ({fit.excluded} are)" if fit.excluded else ""
        return f"{why}; the oldest is from {moment(points[-1].created_at)}"
    return f"exclude_points leaves none of {counted(len(points), 'point')}"


# --- policies ----------------------------------------------------------------------------


def _newest_passing(fit: FittingPoints) -> PointChoice:
    search = Search(candidates=tuple(fit.fitting), order=fit.policy.search)
    how = "by halves" if search.order is Order.BISECT else "one by one"
    why = f"newest of {counted(len(fit.fitting), 'point')}" + _around(fit) + _old(fit)
    why += f"; older ones are tried {how} until one passes"
    passed = _passed(fit, "", fit.fitting, chosen=fit.fitting[:1])
    return PointChoice(point=fit.fitting[0], why=why, search=search, passed=passed)


def _every(fit: FittingPoints) -> tuple[PointChoice, ...]:
    taken = fit.fitting[: fit.policy.count]
    which = "every one" if len(taken) == len(fit.fitting) else f"the newest {len(taken)}"
    why = f"{which} of {counted(len(fit.fitting), 'point')}" + _around(fit) + _old(fit)
    passed = _passed(fit, f"not among the newest {len(taken)}", chosen=taken)
    return tuple(
        # What was passed over is told once for all of them.
        PointChoice(point=point, why=why, passed=() if place else passed)
        for place, point in enumerate(taken)
    )


def _random(fit: FittingPoints, lots: Lots) -> PointChoice:
    point = min(fit.fitting, key=lambda point: lots(fit.policy.seed, point.id))
    why = f"drawn from {counted(len(fit.fitting), 'point')}" + _around(fit) + _old(fit)
    return _with_fallback(fit, point, why, rest="not drawn")


def _with_fallback(fit: FittingPoints, point: RestorePoint, why: str, *, rest: str) -> PointChoice:
    """Return the choice of `point` with the older points that may be tried after it."""
    fallback, search = fit.policy.fallback, NO_SEARCH
    older = _older(fit, point, fallback) if fallback is not None else []
    if older and fallback is not None:
        search = Search(candidates=(point, *older), on=fallback.on)
        why += f"; {len(older)} older as fallback"
    elif fallback is not None:
        why += "; no older one fits as fallback"
    passed = _passed(fit, rest, older, chosen=[point])
    return PointChoice(point=point, why=why, search=search, passed=passed)


def _older(fit: FittingPoints, point: RestorePoint, fallback: Fallback) -> list[RestorePoint]:
    """Return the next older points that the fallback allows, newest first."""
    policy = fit.policy
    max_age = policy.max_age if fallback.max_age is None else fallback.max_age
    ids = {each.id for each in (*fit.fitting, *fit.too_old)}
    older = [
        other
        for other in fit.points[fit.points.index(point) + 1 :]
        if other.id in ids and (max_age is None or age_of(other, policy, fit.now) <= max_age)
    ]
    return older[: fallback.count]


# --- words ---------------------------------------------------------------------------------


def _around(fit: FittingPoints) -> str:
    """Return, as the end of a reason, what bounds the choice and what it left out."""
    limit = limit_of(fit.policy)
    words = f" from {moment(limit)} or before" if limit is not None else ""
    words += f", {fit.too_new} newer passed over" if fit.too_new else ""
    return words + (f", {fit.excluded} excluded" if fit.excluded else "")


def _old(fit: FittingPoints) -> str:
    return f", {len(fit.too_old)} too old" if fit.too_old else ""


def _passed(
    fit: FittingPoints,
    rest: str,
    reserve: Iterable[RestorePoint] = (),
    *,
    chosen: Iterable[RestorePoint],
) -> tuple[PointPassedOver, ...]:
    """Return all but the `chosen` with their reasons: no fit, in `reserve`, or `rest`."""
    ids, taken = {point.id for point in reserve}, {point.id for point in chosen}
    return tuple(
        PointPassedOver(
            point=point,
            why="tried if a newer one fails"
            if point.id in ids
            else fit.reasons.get(point.id, rest),
            in_reserve=point.id in ids,
        )
        for point in fit.points
        if point.id not in taken
    )
