"""What each event changes in the record of its target, and what it may not claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from orchestrator.core.errors import IllegalTransition
from orchestrator.core.events import (
    CheckMade,
    DeadlinePassed,
    FileCopied,
    MachineBusy,
    MachineFree,
    MountFound,
    MountKept,
    MountLeft,
    MountReleased,
    NothingReadable,
    OrphanEnded,
    OutOfReach,
    PointChosen,
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    SystemFound,
    TargetConcluded,
    TargetEvent,
    TargetReopened,
    TaskAccepted,
    TaskFailed,
    TaskObserved,
    TaskStopAsked,
    TaskStopSeen,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
)
from orchestrator.core.lifecycle import stops
from orchestrator.core.lifecycle.record import FIRM_RESULTS, AttemptRecord, MountRecord, Wait
from orchestrator.core.model import MountState, OsSource, RestorePoint, RestorePointId, Result
from orchestrator.core.proof import Fate
from orchestrator.core.text import duration


def _attempt(record: MountRecord, **changes: object) -> tuple[AttemptRecord, ...]:
    """Return the attempts with the newest one changed."""
    *earlier, newest = record.attempts
    return (*earlier, replace(newest, **changes))


def _started(record: MountRecord, event: SubmissionStarted) -> MountRecord:
    if record.point is not None and record.point.id != event.point:
        raise IllegalTransition(
            f"{record.planned.key}: about to mount {event.point}, which was not chosen"
        )
    attempt = AttemptRecord(
        number=event.attempt,
        point=event.point,
        session=event.session,
        submitted_at=event.at,
        os_kind=None if record.planned.os_source is OsSource.PLAN else record.os_kind,
    )
    return replace(
        record,
        attempts=(*record.attempts, attempt),
        mount=None,
        mount_state=MountState.UNKNOWN,
        roots=(),
        verdict=None,
        verdict_at=None,
        overdue=False,
        released_at=None,
        kept_until=None,
        message=None,
    )


def _not_sent(record: MountRecord, event: SubmissionNotSent) -> MountRecord:
    attempts = _attempt(record, outcome="not_sent", finished_at=event.at, message=event.reason)
    return replace(record, attempts=attempts, mount_state=_before(record), message=event.reason)


def _refused(record: MountRecord, event: SubmissionRefused) -> MountRecord:
    attempts = _attempt(
        record,
        outcome="refused",
        finished_at=event.at,
        message=event.reason,
        fault=not (event.busy or event.proved_absent),
        status=event.status,
        absent=event.proved_absent,
    )
    return replace(record, attempts=attempts, mount_state=_before(record), message=event.reason)


def _before(record: MountRecord) -> MountState:
    """Return what earlier attempts left: released if one of them had been mounted."""
    mounted_before = any(attempt.outcome == "success" for attempt in record.attempts)
    return MountState.RELEASED if mounted_before else MountState.NONE


def _in_doubt(record: MountRecord, event: SubmissionInDoubt) -> MountRecord:
    """Note that the request may or may not have begun; a task it was given is not its own."""
    before = record.attempts[-1].doubted_at
    attempts = _attempt(
        record,
        message=event.reason,
        task=None,
        adopted=False,
        accepted_at=None,
        late=None,
        doubted_at=event.at if before is None else before,
    )
    return replace(record, attempts=attempts, message=event.reason, overdue=False)


def _accepted(record: MountRecord, event: TaskAccepted) -> MountRecord:
    attempts = _attempt(
        record, task=event.task, accepted_at=event.at, adopted=event.adopted, message=None
    )
    return replace(record, attempts=attempts, message=None)


def _succeeded(record: MountRecord, event: TaskSucceeded) -> MountRecord:
    attempts = _attempt(record, outcome="success", finished_at=event.at, message=event.message)
    return replace(record, attempts=attempts, mount=event.mount, mount_state=MountState.LEFT)


def _task_failed(record: MountRecord, event: TaskFailed) -> MountRecord:
    words = event.message or "the server gave no reason"
    if stops.may_act(record):
        words = f"{words} (its task had been asked to stop)"
        if record.overdue and record.message:
            words = f"{record.message}: {words}"
    attempts = _attempt(
        record, outcome="failed", finished_at=event.at, message=event.message, fault=True
    )
    return replace(record, attempts=attempts, mount_state=_before(record), message=words)


def _found(record: MountRecord, event: MountFound) -> MountRecord:
    attempts = record.attempts
    if attempts and attempts[-1].outcome == "unknown":
        attempts = _attempt(record, outcome="success", finished_at=event.at)
    return replace(
        record,
        attempts=attempts,
        mount=event.mount,
        mount_state=MountState.LEFT,
        roots=event.roots,
    )


def _nothing_readable(record: MountRecord, event: NothingReadable) -> MountRecord:
    if not record.os_is_open or event.os_kind is not record.os_kind:
        raise IllegalTransition(f"{record.planned.key}: its system is not left open any more")
    if record.attempts[-1].checks or record.verdict is not None:
        raise IllegalTransition(f"{record.planned.key}: judged, and nothing of it readable")
    words = f"mounted as {event.os_kind}, and nothing was readable"
    return replace(
        record,
        attempts=_attempt(record, unread=True, message=words),
        os_found=event.os_kind.other,
        message=words,
    )


def _system_found(record: MountRecord, event: SystemFound) -> MountRecord:
    planned = record.planned
    if not record.roots or record.attempts[-1].unread:
        raise IllegalTransition(f"{planned.key}: {event.os_kind} without one readable volume")
    if planned.os_source is OsSource.PLAN and event.os_kind is not planned.os_kind:
        raise IllegalTransition(f"{planned.key}: {event.os_kind}, but the plan names its system")
    return replace(record, os_found=event.os_kind, os_noted=event.os_kind)


def _checked(record: MountRecord, event: CheckMade) -> MountRecord:
    made = (*record.attempts[-1].checks, event.outcome)
    return replace(record, attempts=_attempt(record, checks=made))


def _copied(record: MountRecord, event: FileCopied) -> MountRecord:
    """Add one outcome; it takes the place of an unknown one of the same file."""
    new = event.outcome
    said = record.attempts[-1].downloads
    known = (
        old
        for old in said
        if old.fate is not Fate.UNKNOWN or (old.path, old.to) != (new.path, new.to)
    )
    made = (*known, new)
    return replace(record, attempts=_attempt(record, downloads=made))


def _verdict(record: MountRecord, event: VerdictReached) -> MountRecord:
    if record.attempts[-1].unread:
        raise IllegalTransition(f"{record.planned.key}: judged, and mounted as the wrong system")
    why = _overclaimed(record, event.result) if event.result in FIRM_RESULTS else None
    if why is not None:
        raise IllegalTransition(f"{record.planned.key}: {event.result} {why}")
    attempts = _attempt(record, verdict=event.result, verdict_at=event.at)
    return replace(
        record,
        attempts=attempts,
        os_found=record.os_found if record.roots else None,  # then nothing was learnt of it
        verdict=event.result,
        verdict_at=event.at,
        message=event.message,
    )


def _overclaimed(record: MountRecord, result: Result) -> str | None:
    """Return what a good verdict claims beyond what was seen, or None."""
    attempt, asked = record.attempts[-1], set(record.planned.checks)
    if not record.roots:
        return "without one readable volume"
    if (result is Result.VERIFIED) is not bool(asked):
        return "with checks that were asked for" if asked else "without a check"
    if asked - {outcome.name for outcome in attempt.checks}:
        return "before every check was made"
    if not all(outcome.passed for outcome in attempt.checks):
        return "with a check that failed"
    if any(outcome.fate in {Fate.FAILED, Fate.UNKNOWN} for outcome in attempt.downloads):
        return "with a file that was not copied"
    return None


def _kept(record: MountRecord, event: MountKept) -> MountRecord:
    if record.verdict is None:
        raise IllegalTransition(f"{record.planned.key}: held before its verdict")
    return replace(record, mount_state=MountState.KEPT, kept_until=event.until)


def _require_submitted(record: MountRecord) -> None:
    """Refuse what cannot be: of a target that was never asked for, nothing can be mounted.

    One that ended skipped or cancelled may have been, and what it asked for may begin late.
    """
    if not record.attempts:
        raise IllegalTransition(f"{record.planned.key}: {record.result} with a mount in doubt")


def _released(record: MountRecord, event: MountReleased) -> MountRecord:
    return replace(record, mount_state=MountState.RELEASED, released_at=event.at)


def _left(record: MountRecord, event: MountLeft) -> MountRecord:
    _require_submitted(record)
    return replace(record, mount=event.mount, mount_state=MountState.LEFT, message=event.reason)


def _out_of_reach(record: MountRecord, event: OutOfReach) -> MountRecord:
    _require_submitted(record)
    return replace(
        record,
        attempts=_attempt(record, lost=event.lost),
        mount_state=MountState.UNKNOWN,
        message=event.reason,
    )


def _orphan_ended(record: MountRecord, event: OrphanEnded) -> MountRecord:
    attempt = record.attempts[-1]
    if not attempt.lost or record.standing is not None:
        raise IllegalTransition(f"{record.planned.key}: nothing was lost that could have ended")
    words = f"{record.message}; its mount was seen to have ended"
    attempts = _attempt(record, finished_at=event.at, message=words, fault=True)
    return replace(
        record,
        attempts=attempts,
        mount_state=MountState.RELEASED,
        released_at=event.seen_at,
        message=words,
    )


def _busy(record: MountRecord, event: MachineBusy) -> MountRecord:
    attempts = record.attempts
    if event.excused:
        if not attempts or not attempts[-1].fault:
            raise IllegalTransition(f"{record.planned.key}: nothing failed that could be excused")
        attempts = _attempt(record, fault=False, excused=event.activity)
    wait = Wait(activity=event.activity, start=event.at, seen_at=event.seen_at)
    return replace(record, attempts=attempts, waits=(*record.waits, wait))


def _free(record: MountRecord, event: MachineFree) -> MountRecord:
    *earlier, newest = record.waits
    over = replace(newest, end=event.at, is_free=event.seen_at is not None)
    return replace(record, waits=(*earlier, over))


def _point_chosen(record: MountRecord, event: PointChosen) -> MountRecord:
    return replace(record, point=event.point, point_why=event.why)


def _concluded(record: MountRecord, event: TargetConcluded) -> MountRecord:
    about = event.point or (record.attempts[-1].point if record.attempts else None)
    verdict = next((e.verdict for e in reversed(record.attempts) if e.point == about), None)
    if event.result in FIRM_RESULTS and event.result is not verdict:
        raise IllegalTransition(
            f"{record.planned.key}: concluded {event.result}, but the verdict is {verdict}"
        )
    if record.may_be_open and event.mount in {MountState.NONE, MountState.RELEASED}:
        raise IllegalTransition(
            f"{record.planned.key}: concluded with mount {event.mount}, but it may be open"
        )
    never_submitted = event.result in {Result.SKIPPED, Result.CANCELLED}
    if never_submitted and record.may_be_open:
        raise IllegalTransition(f"{record.planned.key}: {event.result} with a mount in doubt")
    return replace(
        record,
        point=_about(record, about),
        point_why=event.point_why or record.point_why,
        result=event.result,
        mount_state=event.mount,
        message=event.message if event.message is not None else record.message,
        concluded_at=event.at,
        no_time=event.no_time,
    )


def _about(record: MountRecord, point: RestorePointId | None) -> RestorePoint | None:
    """Return the restore point that a conclusion is about; None: the one chosen last."""
    if point is None or record.point is None:
        return record.point
    for known in (record.point, record.planned.point, *record.planned.search.candidates):
        if known is not None and known.id == point:
            return known
    raise IllegalTransition(f"{record.planned.key}: concluded about a point it never had")


def _reopened(record: MountRecord, event: TargetReopened) -> MountRecord:
    if record.may_be_open:
        raise IllegalTransition(f"{record.planned.key}: reopened, but a mount of it may be open")
    if record.result in FIRM_RESULTS or record.result is not event.was:
        raise IllegalTransition(f"{record.planned.key}: reopened, but it ended {record.result}")
    planned = record.planned
    if event.point is not None:
        planned = replace(planned, point=event.point, policy=event.policy)
    return replace(
        record,
        planned=planned,
        point=planned.point,
        point_why=planned.policy,
        mount_state=_before(record),
        verdict=None,
        verdict_at=None,
        overdue=False,
        result=None,
        concluded_at=None,
        no_time=False,
        message=None,
        anew_from=len(record.attempts),
    )


def _overdue(record: MountRecord, event: DeadlinePassed) -> MountRecord:
    late = record.attempts[-1].late or event.phase
    return replace(
        record,
        attempts=_attempt(record, late=late),
        overdue=True,
        message=(
            f"{event.phase} took longer than the {duration(event.allowed_s)} that "
            f"{'the deadline of the run left' if event.by_run else 'the plan allows'}"
        ),
    )


def _unchanged(record: MountRecord, _event: TargetEvent) -> MountRecord:
    return record


# Each function takes exactly the event type of its key, which a mapping's type cannot say.
CHANGES: Mapping[type[TargetEvent], Callable[[MountRecord, Any], MountRecord]] = {
    MachineBusy: _busy,
    MachineFree: _free,
    SubmissionStarted: _started,
    SubmissionNotSent: _not_sent,
    SubmissionRefused: _refused,
    SubmissionInDoubt: _in_doubt,
    TaskAccepted: _accepted,
    TaskObserved: _unchanged,
    DeadlinePassed: _overdue,
    TaskStopAsked: stops.asked,
    TaskStopSeen: stops.seen,
    TaskSucceeded: _succeeded,
    TaskFailed: _task_failed,
    MountFound: _found,
    NothingReadable: _nothing_readable,
    SystemFound: _system_found,
    CheckMade: _checked,
    FileCopied: _copied,
    VerdictReached: _verdict,
    MountKept: _kept,
    UnmountStarted: _unchanged,
    MountReleased: _released,
    MountLeft: _left,
    OutOfReach: _out_of_reach,
    OrphanEnded: _orphan_ended,
    PointChosen: _point_chosen,
    TargetConcluded: _concluded,
    TargetReopened: _reopened,
}
