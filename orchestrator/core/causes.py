"""Why a target is not good, as far as states, statuses and sessions tell.

The server's words never decide: nobody outside has seen them. They may add advice, no more.
Source: reference 15.7.
"""

from __future__ import annotations

from enum import StrEnum

from orchestrator.core.lifecycle import AttemptRecord, MountRecord
from orchestrator.core.model import Result


class FailureCause(StrEnum):
    """The kind of a failure."""

    BUSY = "busy"
    """A job or a restore was seen at work on the machine."""
    DENIED = "denied"
    """The account may not do it: a status of 403."""
    NOT_FOUND = "not_found"
    """There is no such restore point, or not for this account."""
    WRONG_OS = "wrong_os"
    """It was mounted, and showed no volume that could be read."""
    TIMEOUT = "timeout"
    """It took longer than the plan allows."""
    LOST = "lost"
    """What became of it cannot be known."""
    CONTENT = "content"
    """It was mounted, and what is in it is not what the plan demands."""
    OTHER = "other"


FORBIDDEN, NO_SUCH_THING = 403, 404


def cause_of(record: MountRecord, result: Result) -> FailureCause | None:
    """Return why a target is not good; None if it is, or if it was never its turn."""
    if result in {Result.VERIFIED, Result.MOUNTED}:
        return None
    if record.waits and record.waits[-1].end is None:
        return FailureCause.BUSY  # the plan does not wait
    if result in {Result.SKIPPED, Result.CANCELLED}:
        return None
    if result is Result.UNKNOWN:
        return FailureCause.LOST
    if record.planned.point is None:
        return FailureCause.NOT_FOUND
    if not record.attempts:
        return FailureCause.OTHER
    told = (each for each in reversed(record.attempts) if not each.was_turned_away)
    return _of_attempt(record, next(told, record.attempts[-1]))


def _of_attempt(record: MountRecord, attempt: AttemptRecord) -> FailureCause:
    """Return why the last attempt that its server took has failed."""
    was_busy = bool(record.waits) and not record.waits[-1].is_free
    if was_busy and attempt.outcome in {"failed", "refused"}:
        return FailureCause.BUSY
    if attempt.lost:
        return FailureCause.LOST
    if attempt.late is not None:
        return FailureCause.TIMEOUT
    if attempt.status == FORBIDDEN:
        return FailureCause.DENIED
    if attempt.status == NO_SUCH_THING:
        return FailureCause.NOT_FOUND
    if attempt.unread:
        return FailureCause.WRONG_OS
    if attempt.verdict is Result.FAILED:
        return FailureCause.CONTENT if record.roots else FailureCause.WRONG_OS
    return FailureCause.OTHER
