"""What is known of one target: its phase, its attempts, its mount, its result."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from orchestrator.core.activity import Activity
from orchestrator.core.events import TargetPlanned
from orchestrator.core.model import (
    Href,
    MountState,
    OsKind,
    OsSource,
    RestorePoint,
    RestorePointId,
    Result,
    SessionId,
    Source,
    TaskId,
)
from orchestrator.core.proof import CheckOutcome, DownloadOutcome
from orchestrator.core.stops import StopSeen


class Phase(StrEnum):
    """The phase that a target is in."""

    QUEUED = "queued"
    BUSY = "busy"
    """Its machine is at work in a job or a restore: it waits, and takes no slot."""
    SUBMITTING = "submitting"
    IN_DOUBT = "in_doubt"
    RUNNING = "running"
    COLLECTING = "collecting"
    VERIFYING = "verifying"
    HELD = "held"
    UNMOUNTING = "unmounting"
    OUT_OF_REACH = "out_of_reach"
    DONE = "done"

    @property
    def words(self) -> str:
        """Return it as people read it everywhere: what is queued waits."""
        waiting = {Phase.QUEUED: "waiting", Phase.BUSY: "waiting for its machine"}
        return waiting.get(self, self.value.replace("_", " "))


FIRM_RESULTS = frozenset({Result.VERIFIED, Result.MOUNTED})


class TaskStop(Struct, frozen=True, kw_only=True):
    """That a task was asked to stop, and what was seen of it. Times as in AttemptRecord."""

    asked_at: float
    answer: StopSeen | None = None
    """One of the answers; None: none was recorded, and nobody knows whether it was sent."""
    answered_at: float | None = None
    seen: StopSeen | None = None
    """What was seen of the task last; None: it was not read since."""
    words: str | None = None
    """The service's own, or why nothing is known."""

    @property
    def may_act(self) -> bool:
        """False only if it is certain that nothing came of the request."""
        return self.answer not in {StopSeen.REFUSED, StopSeen.NOT_SENT}


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """One attempt to mount one point. Times are seconds on the run's clock."""

    number: int
    point: RestorePointId
    session: SessionId
    submitted_at: float
    doubted_at: float | None = None
    """When its request was first in doubt: it was sent before that, if it was sent at all."""
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
    status: int | None = None
    """The HTTP status of a refusal."""
    lost: bool = False
    """The server denied its session, in which it may have been mounted."""
    excused: Activity | None = None
    """The job or restore that its machine was seen at work in when it failed."""
    absent: bool = False
    """Its answer was lost, and nothing came of it for as long as it was looked for."""
    os_kind: OsKind | None = None
    """As which system the guest was mounted; None: the target has no system that is left open."""
    unread: bool = False
    """Nothing was readable as that system, so it says nothing of the restore point."""
    stop: TaskStop | None = None
    """The request that its task stops; at most one is ever sent."""

    @property
    def says_nothing(self) -> bool:
        """True if it tells nothing of the restore point, by no fault of the target's own.

        It began nothing on the server, or a mount of the wrong system, which is gone.
        """
        return self.unread or (self.outcome in {"not_sent", "refused"} and not self.fault)

    @property
    def was_turned_away(self) -> bool:
        """True if nothing was begun, by no fault of its own.

        It was not sent, the server answered "not now", or it was seen that nothing came of it.
        """
        is_none = self.outcome in {"not_sent", "refused"}
        return is_none and not self.fault and self.excused is None


class Span(NamedTuple):
    """A phase of a target's life, from `start` to `end` seconds on the run's clock."""

    phase: Phase
    start: float
    end: float


class Wait(Struct, frozen=True, kw_only=True):
    """One time that a target waited for its machine; seconds on the run's clock."""

    activity: Activity
    start: float
    seen_at: float
    """When the server showed it."""
    end: float | None = None
    is_free: bool = False
    """Whether the server was seen to show it no more."""


class MountRecord(Struct, frozen=True, kw_only=True):
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
    released_at: float | None = None
    """When the mount of the newest attempt was seen gone."""
    kept_until: float | None = None
    """While HELD: when it will be removed, on the run's clock; None: when the hold is ended."""
    waits: tuple[Wait, ...] = ()
    result: Result | None = None
    concluded_at: float | None = None
    message: str | None = None
    no_time: bool = False
    """Whether it, or another try of it, was not begun because of the run's deadline."""
    anew_from: int = 0
    """How many attempts there were when the target was last taken up again."""
    os_found: OsKind | None = None
    """As which system it is mounted from now on; None: as planned."""
    os_noted: OsKind | None = None
    """The system that this run has recorded for later ones."""

    @property
    def os_kind(self) -> OsKind:
        """As which system the guest is mounted next, or is mounted now."""
        return self.os_found or self.planned.os_kind

    @property
    def os_is_open(self) -> bool:
        """True while nothing is readable and the point was not tried as the other system.

        Source: restore points of agents are mounted without naming a system (reference 7).
        """
        planned, point = self.planned, self.point
        if planned.os_source is OsSource.PLAN or planned.source is Source.AGENT or point is None:
            return False
        return not any(each.unread for each in self.tries if each.point == point.id)

    @property
    def os_source(self) -> OsSource:
        """How `os_mounted` is known by now."""
        planned = self.planned
        if planned.os_source is OsSource.PLAN or not self._was_readable:
            return planned.os_source
        if planned.os_source is OsSource.EARLIER_RUN and self.os_mounted is planned.os_kind:
            return planned.os_source
        return OsSource.FOUND_OUT

    @property
    def os_mounted(self) -> OsKind:
        """As which system the guest was readable; as planned while it was not, whatever is next."""
        if self.proven is not None:
            return self.os_noted or self.proven.os_kind or self.os_kind
        return self.os_kind if self._was_readable else self.planned.os_kind

    @property
    def _was_readable(self) -> bool:
        """True if a mount showed what it should, or the newest one shows volumes."""
        is_read = bool(self.attempts) and bool(self.roots) and not self.attempts[-1].unread
        return is_read or self.proven is not None

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
        return next((each for each in self.known_points if each.id == asked), self.point)

    @property
    def known_points(self) -> tuple[RestorePoint, ...]:
        """The restore points that may have been asked for; some may be listed twice."""
        known = (self.point, self.planned.point, *self.planned.search.candidates)
        return tuple(each for each in known if each is not None)

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

    @property
    def was_taken(self) -> bool:
        """True if a server took a mount request of it, or may have, or refused it for good.

        Such a target is never called skipped or cancelled. One that its server only turned away
        is: nothing was begun.
        """
        return not all(attempt.was_turned_away for attempt in self.attempts)

    @property
    def was_cut_short(self) -> bool:
        """True if it failed only because the run ended: no attempt says anything of its point."""
        is_busy = bool(self.waits) and self.waits[-1].end is None
        tries = self.tries or self.attempts
        if self.result is not Result.FAILED or not tries or is_busy:
            return False
        return all(attempt.says_nothing for attempt in tries)
