"""Asking for a mount, exactly once per intent.

The intent is on disk before the first byte leaves; one POST per session is unanswered at a
time; an answer that is lost is settled here, before anybody else may post.
"""

from __future__ import annotations

import anyio

from orchestrator.engine import recovery
from orchestrator.engine.attempt import After, Attempt
from orchestrator.engine.proving import record_found
from orchestrator.errors import (
    ForbiddenAction,
    HostExhausted,
    JournalError,
    MalformedResponse,
    RequestNotSent,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
    SessionLost,
)
from orchestrator.events import (
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    TaskAccepted,
)
from orchestrator.model import Mount, TaskId


async def submit(attempt: Attempt) -> TaskId | Mount | After:
    """Ask for the mount; return its task (or its mount, found there), or what to do instead.

    From the recorded intent to the recorded answer there is no place where a cancellation could
    tear them apart: that part is shielded, and bounded by the request's own timeout. Settling a
    lost answer may take as long as an outage, so it can be cancelled; see `releasing.abandon`.

    An intent that cannot be kept is not acted on: nothing is sent.

    Raises:
        SessionLost, ServerUnusable, Unsettled: sent, and what became of it cannot be known.
    """
    outcome: TaskId | Mount | After | HostExhausted = After.REQUEUE
    with anyio.CancelScope(shield=True) as whole:
        attempt.ledger.record(
            SubmissionStarted(
                at=attempt.now,
                key=attempt.key,
                attempt=len(attempt.record.attempts) + 1,
                session=attempt.session.id,
                point=attempt.request.point.id,
            )
        )
        try:
            await attempt.ledger.durable()
        except JournalError as exc:
            return _not_sent(attempt, str(exc))
        async with attempt.connection.posting:
            if _still_wanted(attempt):
                posted = await _post(attempt)
                whole.shield = posted is not None
                outcome = await settle(attempt) if posted is None else posted
            else:
                outcome = _not_sent(attempt, "the run or its session ended before the POST")
    if isinstance(outcome, HostExhausted):
        await attempt.site.spare(outcome)
        return After.REQUEUE
    return outcome


def _still_wanted(attempt: Attempt) -> bool:
    """Tell whether the POST should still be sent after waiting for its turn."""
    if attempt.connection.lost or attempt.ledger.broken is not None:
        return False
    return attempt.crew.accepting() and attempt.site.gate.is_open


async def _post(attempt: Attempt) -> TaskId | After | HostExhausted | None:
    """Send the request, once; return None if its answer is lost."""
    request = attempt.request
    try:
        task = await attempt.session.start_mount(
            request.point.id, request.point.source, request.os_kind
        )
    except HostExhausted as exc:
        _not_sent(attempt, str(exc))
        return exc
    except RequestNotSent as exc:
        attempt.site.trouble(exc)
        attempt.site.turned_away(attempt.connection, str(exc))
        return _not_sent(attempt, str(exc))
    except ServiceBusy as exc:
        attempt.site.trouble(exc)
        attempt.site.turned_away(attempt.connection, str(exc))
        return _refused(attempt, str(exc), busy=True)
    except (RequestRefused, ForbiddenAction) as exc:
        return _refused(attempt, str(exc))
    except SessionLost as exc:
        # Answered with 401: the server did not act on it.
        attempt.site.lose(attempt.connection)
        return _not_sent(attempt, str(exc))
    except (ResponseLost, MalformedResponse) as exc:
        attempt.ledger.record(SubmissionInDoubt(at=attempt.now, key=attempt.key, reason=str(exc)))
        return None
    attempt.site.accepted()
    if task.id in attempt.connection.watcher.claimed:
        why = f"the server answered with {task.id}, which is another target's task"
        attempt.ledger.record(SubmissionInDoubt(at=attempt.now, key=attempt.key, reason=why))
        raise recovery.Unsettled(why)
    attempt.connection.watcher.claimed.add(task.id)
    attempt.ledger.record(TaskAccepted(at=attempt.now, key=attempt.key, task=task.id))
    return task.id


async def settle(attempt: Attempt) -> TaskId | Mount | After:
    """Find out what the lost POST started; nothing is repeated before that is known.

    Only while the session's `posting` lock is held.
    """
    started = await recovery.find_started(attempt.connection, attempt.site, attempt.request.point)
    if started is not None:
        attempt.site.accepted()
    if isinstance(started, Mount):
        return record_found(attempt, started)
    if started is not None:
        attempt.ledger.record(
            TaskAccepted(at=attempt.now, key=attempt.key, task=started, adopted=True)
        )
        return started
    attempt.ledger.record(
        SubmissionRefused(
            at=attempt.now,
            key=attempt.key,
            reason="its answer was lost, and nothing came of it",
            proved_absent=True,
        )
    )
    attempt.connection.absent[attempt.key, attempt.request.point.id] = attempt.request
    attempt.site.turned_away(attempt.connection, "answers of mount requests are lost")
    return After.REQUEUE


def _not_sent(attempt: Attempt, reason: str) -> After:
    attempt.ledger.record(SubmissionNotSent(at=attempt.now, key=attempt.key, reason=reason))
    return After.REQUEUE


def _refused(attempt: Attempt, reason: str, *, busy: bool = False) -> After:
    attempt.ledger.record(
        SubmissionRefused(at=attempt.now, key=attempt.key, reason=reason, busy=busy)
    )
    return After.REQUEUE if busy else After.CONCLUDE
