"""What may follow what: the phases of a mount request, and the fold of its events.

`TRANSITIONS` is the only place that knows the rules; the live run, the replay of a journal
and the tests all go through `apply`. A target is concluded only from QUEUED (nothing open)
or OUT_OF_REACH (nobody can know, or it could not be removed), so "verified, released" can
be said only of a mount whose release was confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from orchestrator.errors import IllegalTransition
from orchestrator.events import (
    CheckMade,
    DeadlinePassed,
    FileCopied,
    MountFound,
    MountKept,
    MountLeft,
    MountReleased,
    OutOfReach,
    PointChosen,
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    TargetReopened,
    TaskAccepted,
    TaskFailed,
    TaskObserved,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
)
from orchestrator.model import (
    Href,
    MountState,
    RestorePoint,
    RestorePointId,
    Result,
    SessionId,
    TaskId,
)
from orchestrator.proof import CheckOutcome, DownloadOutcome, Fate


class Phase(StrEnum):
    """Where a target is in its life."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    IN_DOUBT = "in_doubt"
    RUNNING = "running"
    COLLECTING = "collecting"
    VERIFYING = "verifying"
    HELD = "held"
    UNMOUNTING = "unmounting"
    OUT_OF_REACH = "out_of_reach"
    DONE = "done"


TRANSITIONS: Mapping[Phase, Mapping[type[TargetEvent], Phase]] = {
    Phase.QUEUED: {
        SubmissionStarted: Phase.SUBMITTING,
        PointChosen: Phase.QUEUED,
        TargetConcluded: Phase.DONE,
    },
    Phase.SUBMITTING: {
        TaskAccepted: Phase.RUNNING,
        SubmissionNotSent: Phase.QUEUED,
        SubmissionRefused: Phase.QUEUED,
        SubmissionInDoubt: Phase.IN_DOUBT,
    },
    Phase.IN_DOUBT: {
        TaskAccepted: Phase.RUNNING,  # found on the server: adopted
        SubmissionRefused: Phase.QUEUED,  # proved absent
        MountFound: Phase.VERIFYING,  # the point's mounts list shows it
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.RUNNING: {
        TaskObserved: Phase.RUNNING,
        DeadlinePassed: Phase.RUNNING,
        TaskSucceeded: Phase.COLLECTING,
        TaskFailed: Phase.QUEUED,
        MountFound: Phase.VERIFYING,  # the task vanished, its mount did not
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.COLLECTING: {
        MountFound: Phase.VERIFYING,
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.VERIFYING: {
        DeadlinePassed: Phase.VERIFYING,
        CheckMade: Phase.VERIFYING,
        FileCopied: Phase.VERIFYING,
        VerdictReached: Phase.VERIFYING,
        MountKept: Phase.HELD,  # the plan asks for it
        UnmountStarted: Phase.UNMOUNTING,
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.HELD: {
        UnmountStarted: Phase.UNMOUNTING,
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.UNMOUNTING: {
        UnmountStarted: Phase.UNMOUNTING,
        MountReleased: Phase.QUEUED,
        MountLeft: Phase.OUT_OF_REACH,
        OutOfReach: Phase.OUT_OF_REACH,
    },
    Phase.OUT_OF_REACH: {
        UnmountStarted: Phase.OUT_OF_REACH,
        MountReleased: Phase.OUT_OF_REACH,
        TargetConcluded: Phase.DONE,
    },
    Phase.DONE: {
        MountReleased: Phase.DONE,  # by the `unmount` command, or a resumed run
        MountLeft: Phase.DONE,  # by a lost request that was carried out late
        OutOfReach: Phase.DONE,  # perhaps so
        TargetReopened: Phase.QUEUED,  # by a resumed run
    },
}

FINAL_PHASES = frozenset({Phase.DONE})
HOLDING_PHASES = frozenset(
    {
        Phase.SUBMITTING,
        Phase.IN_DOUBT,
        Phase.RUNNING,
        Phase.COLLECTING,
        Phase.VERIFYING,
        Phase.HELD,
        Phase.UNMOUNTING,
    }
)
"""Phases in which a mount may exist on the server, so the slot is held."""

FIRM_RESULTS = frozenset({Result.VERIFIED, Result.MOUNTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt to mount one point. Times are seconds on the run's clock."""

    number: int
    point: RestorePointId
    session: SessionId
    submitted_at: float
    accepted_at: float | None = None
    finished_at: float | None = None
    task: TaskId | None = None
    adopted: bool = False
    outcome: str = "unknown"
    """success, failed, refused, not_sent, or unknown while nothing is certain."""
    message: str | None = None
    checks: tuple[CheckOutcome, ...] = ()
    downloads: tuple[DownloadOutcome, ...] = ()
    verdict: Result | None = None
    verdict_at: float | None = None
    fault: bool = False
    """The mount failed or was refused for a reason of the target's own."""
    late: str | None = None
    """The first phase that took longer than the plan allows: mount or checks."""


class Span(NamedTuple):
    """A phase of a target's life, from `start` to `end` seconds on the run's clock."""

    phase: Phase
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRecord:
    """Everything known of one target: the fold of its events. Times as in AttemptRecord."""

    planned: TargetPlanned
    point: RestorePoint | None
    """The restore point that is tried now, or that the result is about."""
    point_why: str = ""
    phase: Phase = Phase.QUEUED
    since: float = 0.0
    spans: tuple[Span, ...] = ()
    """The phases that are over, in order; the present one began at `since`."""
    attempts: tuple[AttemptRecord, ...] = ()
    mount: Href | None = None
    mount_state: MountState = MountState.NONE
    roots: tuple[str, ...] = ()
    verdict: Result | None = None
    """Of the newest attempt; see `proven` for the best one."""
    verdict_at: float | None = None
    overdue: bool = False
    kept_until: float | None = None
    """While HELD: when it will be removed, on the run's clock; None: when somebody says so."""
    result: Result | None = None
    concluded_at: float | None = None
    message: str | None = None
    anew_from: int = 0
    """How many attempts there were when the target was last taken up again."""

    @property
    def phases_s(self) -> Mapping[Phase, float]:
        """Seconds spent in each phase that is over."""
        spent: dict[Phase, float] = {}
        for span in self.spans:
            spent[span.phase] = spent.get(span.phase, 0.0) + span.end - span.start
        return spent

    @property
    def is_final(self) -> bool:
        """True once the target has its one result."""
        return self.phase is Phase.DONE

    @property
    def tries(self) -> tuple[AttemptRecord, ...]:
        """The attempts since the target was last taken up again: only these count against it."""
        return self.attempts[self.anew_from :]

    @property
    def standing(self) -> Result | None:
        """The best verdict so far, which is the result if nothing more is tried."""
        return self.proven.verdict if self.proven is not None else self.verdict

    @property
    def open_point(self) -> RestorePoint | None:
        """The restore point that was asked for last: a mount that may be open is one of it."""
        if not self.attempts:
            return self.point
        asked = self.attempts[-1].point
        known = (self.point, self.planned.point, *self.planned.search.candidates)
        return next((each for each in known if each is not None and each.id == asked), self.point)

    @property
    def proven(self) -> AttemptRecord | None:
        """The attempt with a good verdict; of several, the one with the newest restore point.

        Only the last attempt at a point says anything about it.
        """
        last = {each.point: each for each in self.attempts}
        good = [each for each in last.values() if each.verdict in FIRM_RESULTS]
        candidates = [point.id for point in self.planned.search.candidates]
        if len(good) > 1 and candidates:
            return min(good, key=lambda each: candidates.index(each.point))
        return good[-1] if good else None

    @property
    def may_be_open(self) -> bool:
        """True while a mount of this target is, or may be, open on the server."""
        return self.mount_state in {MountState.LEFT, MountState.UNKNOWN, MountState.KEPT}

    @property
    def ever_submitted(self) -> bool:
        """True if a mount request of this target may ever have reached the server."""
        return any(attempt.outcome != "not_sent" for attempt in self.attempts)


def begin(planned: TargetPlanned) -> MountRecord:
    """Return the record of a target that was just planned."""
    return MountRecord(
        planned=planned,
        point=planned.point,
        point_why=planned.policy,
        since=planned.at,
    )


def apply(record: MountRecord, event: TargetEvent) -> MountRecord:
    """Return the record after `event`.

    Raises:
        IllegalTransition: the table does not allow it, or it claims more than was seen.
    """
    after = TRANSITIONS[record.phase].get(type(event))
    if after is None:
        raise IllegalTransition(
            f"{record.planned.key}: {type(event).__name__} is not allowed while {record.phase}"
        )
    changed = _CHANGES[type(event)](record, event)
    if after is record.phase:
        return changed
    over = Span(record.phase, record.since, event.at)
    return replace(changed, phase=after, since=event.at, spans=(*record.spans, over))


def _attempt(record: MountRecord, **changes: object) -> tuple[AttemptRecord, ...]:
    """Return the attempts with the newest one changed."""
    *earlier, newest = record.attempts
    return (*earlier, replace(newest, **changes))  # type: ignore[arg-type]  # names are ours


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
    )
    return replace(record, attempts=attempts, mount_state=_before(record), message=event.reason)


def _before(record: MountRecord) -> MountState:
    """Return what earlier attempts left: released if one of them had been mounted."""
    mounted_before = any(attempt.outcome == "success" for attempt in record.attempts)
    return MountState.RELEASED if mounted_before else MountState.NONE


def _in_doubt(record: MountRecord, event: SubmissionInDoubt) -> MountRecord:
    return replace(record, attempts=_attempt(record, message=event.reason), message=event.reason)


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
    why = _overclaimed(record, event.result) if event.result in FIRM_RESULTS else None
    if why is not None:
        raise IllegalTransition(f"{record.planned.key}: {event.result} {why}")
    attempts = _attempt(record, verdict=event.result, verdict_at=event.at)
    return replace(
        record,
        attempts=attempts,
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
    if record.result in {Result.SKIPPED, Result.CANCELLED}:
        raise IllegalTransition(f"{record.planned.key}: {record.result} with a mount in doubt")


def _released(record: MountRecord, _event: MountReleased) -> MountRecord:
    return replace(record, mount_state=MountState.RELEASED)


def _left(record: MountRecord, event: MountLeft) -> MountRecord:
    _require_submitted(record)
    return replace(record, mount=event.mount, mount_state=MountState.LEFT, message=event.reason)


def _out_of_reach(record: MountRecord, event: OutOfReach) -> MountRecord:
    _require_submitted(record)
    return replace(record, mount_state=MountState.UNKNOWN, message=event.reason)


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
        message=None,
        anew_from=len(record.attempts),
    )


def _overdue(record: MountRecord, event: DeadlinePassed) -> MountRecord:
    late = record.attempts[-1].late or event.phase
    return replace(
        record,
        attempts=_attempt(record, late=late),
        overdue=True,
        message=f"{event.phase} took longer than the {event.allowed_s:g} s that the plan allows",
    )


def _unchanged(record: MountRecord, _event: TargetEvent) -> MountRecord:
    return record


# Each function takes exactly the event type of its key, which a mapping's type cannot say.
_CHANGES: Mapping[type[TargetEvent], Callable[[MountRecord, Any], MountRecord]] = {
    SubmissionStarted: _started,
    SubmissionNotSent: _not_sent,
    SubmissionRefused: _refused,
    SubmissionInDoubt: _in_doubt,
    TaskAccepted: _accepted,
    TaskObserved: _unchanged,
    DeadlinePassed: _overdue,
    TaskSucceeded: _succeeded,
    TaskFailed: _task_failed,
    MountFound: _found,
    CheckMade: _checked,
    FileCopied: _copied,
    VerdictReached: _verdict,
    MountKept: _kept,
    UnmountStarted: _unchanged,
    MountReleased: _released,
    MountLeft: _left,
    OutOfReach: _out_of_reach,
    PointChosen: _point_chosen,
    TargetConcluded: _concluded,
    TargetReopened: _reopened,
}
