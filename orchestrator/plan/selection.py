"""Which restore point of a machine a policy means, and why: pure functions of a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.model import NO_SEARCH, Order, RestorePoint, RestorePointId, Search
from orchestrator.plan.fitting import Sorted, age_of, counted, limit_of, moment, sorted_out, span
from orchestrator.plan.settings import BOTH_CAUSES, Fallback, PointPolicy, PolicyName

Lots = Callable[[int | None, RestorePointId], bytes]
"""The lot of a point under the policy's own seed, or the run's where that is None."""

OLDER = "older than the chosen"
"""Why most points are passed over: nothing is wrong with them but their age."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A restore point that was not chosen, and the reason in words.

    `in_reserve` where it may be tried later: the search has it too.
    """

    point: RestorePoint
    why: str
    in_reserve: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The restore point that fits, and the reason in words.

    `search` are the points that may be tried in its place; `passed` are all others of the
    machine, newest first.
    """

    point: RestorePoint
    why: str
    search: Search = NO_SEARCH
    passed: tuple[PassedOver, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoChoice:
    """No restore point fits, and the reason in words."""

    why: str
    passed: tuple[PassedOver, ...] = field(default=(), compare=False)


def choose(
    points: Sequence[RestorePoint],
    policy: PointPolicy,
    *,
    now: datetime,
    lots: Lots | None = None,
) -> Choice | NoChoice:
    """Return the point of one machine that `policy` means at the time `now`.

    Of `every` point, the newest. The order of `points` does not matter; of two points made in
    the same moment the one with the greater id is taken, so that the same inventory always
    gives the same choice.
    """
    found = choose_all(points, policy, now=now, lots=lots)
    return found if isinstance(found, NoChoice) else found[0]


def choose_all(
    points: Sequence[RestorePoint],
    policy: PointPolicy,
    *,
    now: datetime,
    lots: Lots | None = None,
) -> tuple[Choice, ...] | NoChoice:
    """Return the points of one machine that are targets: one, or with `every` all that fit."""
    newest_first = sorted(points, key=lambda point: (point.created_at, point.id), reverse=True)
    if not newest_first:
        return NoChoice(why="the server lists no restore point")
    if policy.policy is PolicyName.ID and all(p.id != policy.point for p in newest_first):
        why = f"none of {counted(len(points))} has the id {policy.point}"
        return NoChoice(why=why, passed=_passed(newest_first, {}, "another point is named"))
    found = sorted_out(newest_first, policy, now)
    if not found.fitting:
        return _none(newest_first, found, policy, now)
    match policy.policy:
        case PolicyName.EVERY:
            return _every(newest_first, found, policy)
        case PolicyName.NEWEST_PASSING:
            return (_newest_passing(newest_first, found, policy),)
        case PolicyName.RANDOM:
            return (_random(newest_first, found, policy, now, lots or _lot_of_id),)
        case _:
            return (_newest(newest_first, found, policy, now),)


def _none(
    points: Sequence[RestorePoint], found: Sorted, policy: PointPolicy, now: datetime
) -> NoChoice:
    passed = _passed(points, found.reasons, "")
    limit = limit_of(policy)
    if found.too_old:
        newest = found.too_old[0]
        age = span(age_of(newest, policy, now))
        at = f"{age} older than the incident" if policy.incident_time else f"{age} old"
        why = (
            f"the newest point that fits is {at} (from {moment(newest.created_at)}), "
            f"max_age is {span(policy.max_age or 0)}"
        )
    elif policy.policy is PolicyName.ID:
        why = (
            f"the point {policy.point} does not fit: {found.reasons[policy.point or points[0].id]}"
        )
    elif found.too_new and limit is not None:
        why = f"none of {counted(len(points))} is from {moment(limit)} or before"
        why += f" and not excluded ({found.excluded} are)" if found.excluded else ""
        why += f"; the oldest is from {moment(points[-1].created_at)}"
    else:
        why = f"exclude_points leaves none of {counted(len(points))}"
    return NoChoice(why=why, passed=passed)


# --- policies ----------------------------------------------------------------------------


def _newest(
    points: Sequence[RestorePoint], found: Sorted, policy: PointPolicy, now: datetime
) -> Choice:
    """Return the choice of `latest`, `before` and `id`."""
    point = found.fitting[0]
    if policy.policy is PolicyName.ID:
        passed = _others(_passed(points, found.reasons, ""), [point])
        return Choice(point=point, why="named by its id", passed=passed)
    why = f"newest of {counted(found.right)}" + _around(found, policy)
    return _with_fallback(point, why, points, found, policy, now, rest=OLDER)


def _around(found: Sorted, policy: PointPolicy) -> str:
    """Return, as the end of a reason, what bounds the choice and what it left out."""
    limit = limit_of(policy)
    words = f" from {moment(limit)} or before" if limit is not None else ""
    words += f", {found.too_new} newer passed over" if found.too_new else ""
    return words + (f", {found.excluded} excluded" if found.excluded else "")


def _newest_passing(points: Sequence[RestorePoint], found: Sorted, policy: PointPolicy) -> Choice:
    search = Search(candidates=tuple(found.fitting), on=BOTH_CAUSES, order=policy.search)
    how = "by halves" if policy.search is Order.BISECT else "one by one"
    why = f"newest of {counted(len(found.fitting))}" + _around(found, policy)
    why += _old(found) + f"; older ones are tried {how} until one passes"
    passed = _passed(points, found.reasons, "", found.fitting)
    return Choice(
        point=found.fitting[0], why=why, search=search, passed=_others(passed, found.fitting[:1])
    )


def _every(
    points: Sequence[RestorePoint], found: Sorted, policy: PointPolicy
) -> tuple[Choice, ...]:
    taken = found.fitting[: policy.count]
    which = "every one" if len(taken) == len(found.fitting) else f"the newest {len(taken)}"
    why = f"{which} of {counted(len(found.fitting))}" + _around(found, policy) + _old(found)
    passed = _passed(points, found.reasons, f"not among the newest {len(taken)}")
    return tuple(
        # What was passed over is told once for all of them.
        Choice(point=point, why=why, passed=() if place else _others(passed, taken))
        for place, point in enumerate(taken)
    )


def _random(
    points: Sequence[RestorePoint],
    found: Sorted,
    policy: PointPolicy,
    now: datetime,
    lots: Lots,
) -> Choice:
    point = min(found.fitting, key=lambda each: lots(policy.seed, each.id))
    why = f"drawn from {counted(len(found.fitting))}" + _around(found, policy) + _old(found)
    return _with_fallback(point, why, points, found, policy, now, rest="not drawn")


def _lot_of_id(_seed: int | None, point: RestorePointId) -> bytes:
    return point.encode()


def _with_fallback(
    point: RestorePoint,
    why: str,
    points: Sequence[RestorePoint],
    found: Sorted,
    policy: PointPolicy,
    now: datetime,
    *,
    rest: str,
) -> Choice:
    """Return the choice of `point` with the older points that may be tried after it."""
    older = _older(point, points, found, policy, policy.fallback, now) if policy.fallback else []
    search = NO_SEARCH
    if older and policy.fallback is not None:
        search = Search(candidates=(point, *older), on=policy.fallback.on)
        why += f"; {len(older)} older as fallback"
    elif policy.fallback is not None:
        why += "; no older one fits as fallback"
    passed = _passed(points, found.reasons, rest, older)
    return Choice(point=point, why=why, search=search, passed=_others(passed, [point]))


def _older(
    point: RestorePoint,
    points: Sequence[RestorePoint],
    found: Sorted,
    policy: PointPolicy,
    fallback: Fallback,
    now: datetime,
) -> list[RestorePoint]:
    """Return the next older points that the fallback allows, newest first."""
    max_age = policy.max_age if fallback.max_age is None else fallback.max_age
    fit = {each.id for each in (*found.fitting, *found.too_old)}
    older = [
        each
        for each in points[points.index(point) + 1 :]
        if each.id in fit and (max_age is None or age_of(each, policy, now) <= max_age)
    ]
    return older[: fallback.count]


# --- words ---------------------------------------------------------------------------------


def _old(found: Sorted) -> str:
    return f", {len(found.too_old)} too old" if found.too_old else ""


def _passed(
    points: Iterable[RestorePoint],
    reasons: Mapping[RestorePointId, str],
    rest: str,
    reserve: Iterable[RestorePoint] = (),
) -> tuple[PassedOver, ...]:
    """Return every point with its reason: one of `reasons`, of being in `reserve`, or `rest`."""
    kept = {point.id for point in reserve}
    return tuple(
        PassedOver(
            point=each,
            why="tried if a newer one fails" if each.id in kept else reasons.get(each.id, rest),
            in_reserve=each.id in kept,
        )
        for each in points
    )


def _others(passed: Iterable[PassedOver], chosen: Iterable[RestorePoint]) -> tuple[PassedOver, ...]:
    taken = {point.id for point in chosen}
    return tuple(each for each in passed if each.point.id not in taken)
