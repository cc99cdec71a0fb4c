"""Ask for a mount, exactly once per intent.

The intent is on disk before the first byte leaves; one POST per session is unanswered at a
time. An answer that is lost is looked for while nobody else may post; if that does not settle
it, the target waits aside with its slot until nothing can come of the request any more.
"""

from __future__ import annotations

from enum import Enum, auto

import anyio

from orchestrator.core.errors import (
    AccessDenied,
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
from orchestrator.core.events import (
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    TaskAccepted,
)
from orchestrator.core.model import Mount, TaskId
from orchestrator.engine.mount import recover
from orchestrator.engine.mount.attempt import Attempt, NextStep
from orchestrator.engine.mount.find import record_found
from orchestrator.log import Log

log = Log(__name__)

LOST = "answers of mount requests are lost"

ASK_AGAIN_S = 1.5
"""Seconds after which an intent that was not granted may be tried again: what forbids it is known
by then."""


class NotGranted(Enum):
    """The run may not mount now, by what its other processes have recorded."""

    NOW = auto()


async def submit(attempt: Attempt) -> TaskId | Mount | NextStep:
    """Ask for the mount; return its task (or its mount, found there), or what to do instead.

    The intent is recorded while nobody else posts in the session, so at most one request there
    has no answer in the journal. From the recorded intent to the recorded answer there is no place
    where a cancellation could tear them apart: that part is shielded, and bounded by the request's
    own timeout. Settling a lost answer takes minutes, so it can be cancelled; see
    `release.abandon`. It holds others up only as long as that helps.

    An intent that cannot be kept is not acted on: nothing is sent.

    Raises:
        SessionLost, ServerUnusable, Unsettled: sent, and what became of it cannot be known.
    """
    async with attempt.connection.posting:
        if attempt.server.starts.left_s > 0:  # nearly never; a wait that may end early costs a task
            await attempt.context.unless_ended(attempt.server.starts.turn)
        with attempt.context.forced_end.shielded() as whole:
            if not _still_wanted(attempt):
                return NextStep.REQUEUE
            outcome = await _intend_and_post(attempt)
            if outcome is None:
                whole.shield = False
                doubt = doubt_of(attempt)
                started = await recover.first_looks(attempt.connection, attempt.server, doubt)
                if started is not None:
                    return take(attempt, started)
                attempt.server.turned_away(attempt.connection, LOST)
    if outcome is None:
        return await settle(attempt)
    if isinstance(outcome, HostExhausted):
        await attempt.server.spare(outcome)
        return NextStep.REQUEUE
    if isinstance(outcome, NotGranted):
        attempt.context.ungranted.add(attempt.key)
        await anyio.sleep(ASK_AGAIN_S)
        return NextStep.REQUEUE
    return outcome


async def _intend_and_post(
    attempt: Attempt,
) -> TaskId | NextStep | NotGranted | HostExhausted | None:
    """Record the intent, send the request, and record the answer; None if that is lost."""
    intent = SubmissionStarted(
        at=attempt.now,
        key=attempt.key,
        attempt=len(attempt.record.attempts) + 1,
        session=attempt.session.id,
        point=attempt.request.point.id,
    )
    try:
        why = await attempt.ledger.intend(intent)
    except JournalError as exc:
        return _not_sent(attempt, str(exc))
    if why is not None:
        log.info("intent.not_granted", key=attempt.key, why=why)
        return NotGranted.NOW
    attempt.context.ungranted.discard(attempt.key)
    try:
        await attempt.server.until_sure()
    except anyio.get_cancelled_exc_class():
        _not_sent(attempt, "stopped before it was sent")
        raise
    if not _still_wanted(attempt):
        return _not_sent(attempt, "the run, a person or its session ended the wait for the POST")
    return await _post(attempt)


def _still_wanted(attempt: Attempt) -> bool:
    """Return whether the POST should still be sent after waiting for its turn."""
    if attempt.connection.lost or attempt.ledger.broken is not None:
        return False
    if not attempt.context.deadline.has_time(attempt.request):
        return False  # it has waited for its turn
    if attempt.context.scheduler.holds_back(attempt.request):
        return False  # a person has paused the run or lowered a limit meanwhile
    return attempt.context.accepting() and attempt.server.gate.is_open


async def _post(attempt: Attempt) -> TaskId | NextStep | HostExhausted | None:
    """Send the request, once; return None if its answer is lost."""
    request, server = attempt.request, attempt.server
    server.pace.begin(attempt.now)
    try:
        with server.starts.sending():
            task = await attempt.session.start_mount(
                request.point.id, request.point.source, attempt.os_kind
            )
    except HostExhausted as exc:
        _not_sent(attempt, str(exc))
        return exc
    except RequestNotSent as exc:
        attempt.server.trouble(exc)
        attempt.server.turned_away(attempt.connection, str(exc))
        return _not_sent(attempt, str(exc))
    except ServiceBusy as exc:
        attempt.server.trouble(exc)
        attempt.server.turned_away(attempt.connection, str(exc))
        return _refused(attempt, str(exc), busy=True)
    except (RequestRefused, ForbiddenAction) as exc:
        after = _refused(attempt, str(exc), status=exc.status)
        if isinstance(exc, AccessDenied):
            attempt.server.denied(str(exc))
        return after
    except SessionLost as exc:
        # Answered with 401: the server did not act on it.
        attempt.server.lose(attempt.connection)
        return _not_sent(attempt, str(exc))
    except (ResponseLost, MalformedResponse) as exc:
        attempt.ledger.record(SubmissionInDoubt(at=attempt.now, key=attempt.key, reason=str(exc)))
        return None
    except anyio.get_cancelled_exc_class():
        why = "stopped before its answer came"
        attempt.ledger.record(SubmissionInDoubt(at=attempt.now, key=attempt.key, reason=why))
        raise
    attempt.server.accepted()
    if task.id in attempt.connection.watcher.claimed:
        why = f"the server answered with {task.id}, which is another target's task"
        attempt.ledger.record(SubmissionInDoubt(at=attempt.now, key=attempt.key, reason=why))
        raise recover.Unsettled(why)
    attempt.connection.watcher.claimed.add(task.id)
    attempt.ledger.record(TaskAccepted(at=attempt.now, key=attempt.key, task=task.id))
    return task.id


def doubt_of(attempt: Attempt) -> recover.Doubt:
    """Return what is in doubt: the attempt's own request."""
    return recover.Doubt(
        key=attempt.key,
        point=attempt.request.point,
        sent_at=attempt.record.attempts[-1].submitted_at,
        sent_by=attempt.server.sent_by(attempt.record.attempts[-1]),
        ends_within=2 * attempt.request.timeouts.mount,
        is_alone=attempt.is_alone,
    )


async def settle(attempt: Attempt) -> TaskId | Mount | NextStep:
    """Find out what the lost POST started, beside all others; nothing is repeated before.

    Raises:
        SessionLost, ServerUnusable, Unsettled: what became of it cannot be known.
    """
    started = await recover.outcome(attempt.connection, attempt.server, doubt_of(attempt))
    if started is not None:
        return take(attempt, started)
    record_absent(attempt)
    return NextStep.REQUEUE


def record_absent(attempt: Attempt) -> None:
    """Record that nothing came of the lost POST, and nothing can any more."""
    attempt.ledger.record(
        SubmissionRefused(
            at=attempt.now,
            key=attempt.key,
            reason="its answer was lost, and nothing came of it",
            proved_absent=True,
        )
    )
    attempt.server.turned_away(attempt.connection, LOST)


def take(attempt: Attempt, started: TaskId | Mount) -> TaskId | Mount:
    """Record what the lost POST was found to have started."""
    attempt.server.accepted()
    if isinstance(started, Mount):
        return record_found(attempt, started)
    attempt.ledger.record(TaskAccepted(at=attempt.now, key=attempt.key, task=started, adopted=True))
    return started


def _not_sent(attempt: Attempt, reason: str) -> NextStep:
    attempt.ledger.record(SubmissionNotSent(at=attempt.now, key=attempt.key, reason=reason))
    return NextStep.REQUEUE


def _refused(
    attempt: Attempt, reason: str, *, busy: bool = False, status: int | None = None
) -> NextStep:
    attempt.ledger.record(
        SubmissionRefused(at=attempt.now, key=attempt.key, reason=reason, busy=busy, status=status)
    )
    return NextStep.REQUEUE if busy else NextStep.CONCLUDE
