"""Which restore point of a target is tried next, and what the tries so far amount to.

Everything is read from the target's record, so a run that was killed between two points goes
on exactly where it was. One restore point is tried until it is settled: it is good, or it is
bad for a cause, or nobody can know. Then:

    LINEAR   the next older candidate, while the cause is one the plan falls back for
    BISECT   the newest; if that is bad, the middle of those that are still in question. This
             assumes that every point before a good one is good, and says so. A point that
             cannot be mounted counts as bad. Of n points at most 1 + log2(n), rounded up, are
             tried: 7 of 64.

The newest good point wins. An attempt whose fate is unknown ends the search: what was proven
before stands. Where files are to be copied, bisection gives way to the linear order, for it
would copy them from every good point that it comes across.
"""

from __future__ import annotations

from enum import Enum, auto

from msgspec import Struct

from orchestrator.core.lifecycle import FIRM_RESULTS, AttemptRecord, MountRecord, Phase
from orchestrator.core.model import Cause, Order, RestorePoint, RestorePointId, Result
from orchestrator.core.proof import Fate
from orchestrator.core.text import counted

ASSUMPTION = "assuming that every point before a good one is good"


class NextPoint(Struct, frozen=True, kw_only=True):
    """The restore point to try next, and why, in words for the report."""

    point: RestorePoint
    why: str


class _PointStanding(Enum):
    """What is known of one restore point."""

    OPEN = auto()
    """Not tried, or to be tried once more."""
    GOOD = auto()
    BAD = auto()
    UNKNOWN = auto()


class _PointFacts(Struct, frozen=True):
    standing: _PointStanding
    cause: Cause | None = None
    """Why it is bad; None also where that is no reason to try another one."""


def is_settled(record: MountRecord) -> bool:
    """Tell whether the restore point that is tried now needs no further attempt."""
    return record.point is not None and _known(record, record.point.id).standing is not (
        _PointStanding.OPEN
    )


def next_point(record: MountRecord) -> NextPoint | None:
    """Return the restore point to try once the present one is settled; None: the search is over.

    Nothing follows a point whose mount may be open, or whose fate is unknown.
    """
    if record.phase in {Phase.OUT_OF_REACH, Phase.DONE}:
        return None
    return _next(record)


def is_unfinished(record: MountRecord) -> bool:
    """Tell whether restore points are left that the plan would have had tried too."""
    if not is_settled(record):
        return bool(record.tries) and len(record.planned.search.candidates) > 1
    return _next(record) is not None


def points_ahead(record: MountRecord) -> int:
    """Return how many restore points are probably tried yet, the present one included.

    The first is mostly good. After bad ones bisection goes on to its end; in the linear order
    as many more are expected as were bad.
    """
    candidates, point = record.planned.search.candidates, record.point
    if point is None or not points_tried(record) or not candidates:
        return 1
    known = [_known(record, each.id) for each in candidates]
    bad = sum(each.standing is _PointStanding.BAD for each in known)
    if _is_bisected(record):
        newest_open, oldest_open = _in_question(known)
        return max(1, (oldest_open - newest_open - 1).bit_length())
    place = next((n for n, each in enumerate(candidates) if each.id == point.id), 0)
    return max(1, min(bad, len(candidates) - place))


def about(record: MountRecord) -> RestorePointId | None:
    """Return the restore point that a conclusion now is about: proven, else tried last."""
    if record.proven is not None:
        return record.proven.point
    if record.tries:
        return record.tries[-1].point
    return record.point.id if record.point is not None else None


def found_how(record: MountRecord) -> str:
    """Return how the point that a conclusion is about was found, in words for the report."""
    point = about(record)
    if record.proven is not None and _is_bisected(record) and points_tried(record) > 1:
        if is_unfinished(record) or record.phase is Phase.OUT_OF_REACH:
            return f"newest good one of {_tried(record)} by bisection, not finished, {ASSUMPTION}"
        return f"newest passing of {_tried(record)} by bisection, {ASSUMPTION}"
    if record.point is not None and point == record.point.id:
        return record.point_why
    return record.planned.policy


def points_tried(record: MountRecord) -> int:
    """Return how many restore points a mount was asked for."""
    return len({attempt.point for attempt in record.tries if attempt.outcome != "not_sent"})


def _tried(record: MountRecord) -> str:
    return f"{len(record.planned.search.candidates)} points ({points_tried(record)} tried)"


# --- one restore point ----------------------------------------------------------------------


def _tries_of(record: MountRecord, point: RestorePointId) -> list[AttemptRecord]:
    return [attempt for attempt in record.tries if attempt.point == point]


def _known(record: MountRecord, point: RestorePointId) -> _PointFacts:
    """Return what the attempts at one point amount to."""
    tries = _tries_of(record, point)
    for attempt in tries:
        if attempt.verdict in FIRM_RESULTS:
            return _PointFacts(_PointStanding.GOOD)
        if attempt.verdict is Result.FAILED:
            return _PointFacts(_PointStanding.BAD, _cause(record, attempt))
        is_open = attempt.outcome == "unknown" and not attempt.fault  # else it was seen to end
        if attempt.verdict is not None or is_open:
            return _PointFacts(_PointStanding.UNKNOWN)
    refused = any(attempt.fault and attempt.outcome == "refused" for attempt in tries)
    late = any(
        attempt.late and attempt.outcome == "failed" and not attempt.excused for attempt in tries
    )
    if refused or late or _faults(tries) >= record.planned.retries.attempts:
        return _PointFacts(_PointStanding.BAD, Cause.MOUNT_FAILED)
    return _PointFacts(_PointStanding.OPEN)


def _faults(tries: list[AttemptRecord]) -> int:
    return sum(attempt.fault for attempt in tries)


def faults_of_point(record: MountRecord) -> int:
    """Return how many attempts the present restore point has used up by faults of its own."""
    return _faults(_tries_of(record, record.point.id)) if record.point is not None else 0


def _cause(record: MountRecord, attempt: AttemptRecord) -> Cause | None:
    """Return why a mount was judged bad, as far as another restore point may do better.

    A file that could not be copied says nothing about the point; and what was written into
    the guest is not written over from another one.
    """
    if any(copied.fate in {Fate.RESTORED, Fate.UNKNOWN} for copied in attempt.downloads):
        return None
    if attempt.late == "mount":
        return Cause.MOUNT_FAILED
    made = {outcome.name for outcome in attempt.checks}
    if set(record.planned.checks) - made or not all(each.passed for each in attempt.checks):
        unread = not attempt.checks and attempt.late is None
        return Cause.MOUNT_FAILED if unread else Cause.CHECK_FAILED
    if attempt.downloads or (attempt.late and record.planned.downloads):
        return None
    return Cause.CHECK_FAILED if attempt.late else Cause.MOUNT_FAILED


# --- all of them ----------------------------------------------------------------------------


def _is_bisected(record: MountRecord) -> bool:
    return record.planned.search.order is Order.BISECT and not record.planned.downloads


def _next(record: MountRecord) -> NextPoint | None:
    candidates, point = record.planned.search.candidates, record.point
    if point is None or not candidates:
        return None
    now = _known(record, point.id)
    if now.standing in {_PointStanding.OPEN, _PointStanding.UNKNOWN}:
        return None
    if now.standing is _PointStanding.BAD and now.cause not in record.planned.search.on:
        return None
    known = [_known(record, each.id) for each in candidates]
    if any(each.standing is _PointStanding.UNKNOWN for each in known):
        return None
    if _is_bisected(record):
        return _by_halves(record, known)
    return _next_older(record, known, point.id)


def _next_older(
    record: MountRecord, known: list[_PointFacts], now: RestorePointId
) -> NextPoint | None:
    """Return the next older candidate that was not tried, unless the present one is good."""
    candidates = record.planned.search.candidates
    place = next((n for n, each in enumerate(candidates) if each.id == now), -1)
    if place >= 0 and known[place].standing is _PointStanding.GOOD:
        return None
    for candidate in candidates[place + 1 :]:
        if not _tries_of(record, candidate.id):
            count = points_tried(record)
            newer = counted(count, "newer point")
            asked = record.planned.policy
            return NextPoint(point=candidate, why=f"{asked}, fallback: {newer} tried and not good")
    return None


def _by_halves(record: MountRecord, known: list[_PointFacts]) -> NextPoint | None:
    """Return the middle of the candidates that lie between the bad ones and the good ones."""
    newest_open, oldest_open = _in_question(known)
    middle = (newest_open + oldest_open) // 2
    if not newest_open < middle < oldest_open:
        return None
    why = f"{record.planned.policy}, bisection of {len(known)} points, {ASSUMPTION}"
    return NextPoint(point=record.planned.search.candidates[middle], why=why)


def _in_question(known: list[_PointFacts]) -> tuple[int, int]:
    """Return the places that bound the candidates in question: newest bad, then oldest good."""
    good = [place for place, each in enumerate(known) if each.standing is _PointStanding.GOOD]
    oldest_open = min(good, default=len(known))
    bad = [place for place, each in enumerate(known) if each.standing is _PointStanding.BAD]
    newest_open = max((place for place in bad if place < oldest_open), default=-1)
    return newest_open, oldest_open
