"""Hold a proven mount open for as long as the plan asks for it.

Held is only the mount that the target's result is about, and only once nothing else is tried
for it: the mount of a point that gives way to another one is removed at once.
"""

from __future__ import annotations

import math

from orchestrator.core.errors import SessionLost
from orchestrator.core.events import MountKept
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.point_search import next_point
from orchestrator.engine.mount.attempt import Attempt
from orchestrator.engine.mount.holds import HoldRequest

NO_TIME = "the deadline of the run leaves no time for it"


async def keep(attempt: Attempt) -> None:
    """Hold the mount of an attempt whose verdict is known; return when it is to be removed.

    One that an earlier process held is held on until the time that was said then. No hold lasts
    longer than the run's deadline allows, whatever was asked for.

    Raises:
        SessionLost: the logon session has ended, and the mount with it is out of reach.
    """
    holds, until = attempt.context.holds, attempt.record.kept_until
    last = attempt.context.deadline.last_moment(attempt.request)
    if attempt.record.phase is not Phase.HELD:
        asked = _asked(attempt)
        if asked is None:
            return
        until = None if asked.is_endless else (attempt.record.verdict_at or 0.0) + asked.seconds
        if until is not None and until <= attempt.now:
            return  # an earlier process reached the verdict
        reason = asked.reason
        if last < (math.inf if until is None else until):
            until, reason = last, f"{reason}, cut short by the deadline of the run"
        if last <= attempt.now:
            attempt.ledger.note(f"{attempt.key} was not held ({asked.reason}): {NO_TIME}")
            return
        attempt.ledger.record(
            MountKept(at=attempt.now, key=attempt.key, reason=reason, until=until)
        )
        holds.on_hold(attempt.key)
    elif last < (math.inf if until is None else until):
        until = last  # it is about another process's deadline what was said then
    await _hold(attempt, until)
    if attempt.connection.lost:
        raise SessionLost("the logon session was lost while the mount was held")


def _asked(attempt: Attempt) -> HoldRequest | None:
    """Return the hold that the mount is to get, or None."""
    record, context = attempt.record, attempt.context
    if record.verdict is None:  # it is mounted as the other system next
        return None
    if context.holds.are_over or attempt.ledger.broken is not None or not _is_the_answer(record):
        return None
    if context.accepting() and next_point(record) is not None:
        return None
    return context.holds.rule.asked(record.verdict)


def _is_the_answer(record: MountRecord) -> bool:
    """Return whether the target's result is about the attempt that was just judged."""
    return record.proven is None or record.proven is record.attempts[-1]


async def _hold(attempt: Attempt, until: float | None) -> None:
    mount = attempt.record.mount
    seconds = math.inf if until is None else until - attempt.now
    if mount is not None:
        attempt.connection.held.add(mount)
    attempt.slot.idle(endless=until is None)
    try:
        with attempt.context.readable(attempt):
            await attempt.context.holds.wait(seconds, attempt.connection.over)
    finally:
        attempt.slot.wake()
        if mount is not None:
            attempt.connection.held.discard(mount)
