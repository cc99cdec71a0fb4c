"""Events of one target, from its plan to its result."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from orchestrator.core.activity import Activity
from orchestrator.core.events.base import TargetEvent
from orchestrator.core.model import (
    NO_SEARCH,
    AttemptPolicy,
    BackupServerName,
    Conflict,
    Href,
    MountRequest,
    MountState,
    Objectives,
    OsKind,
    OsSource,
    PhaseTimeouts,
    RestorePoint,
    RestorePointId,
    Result,
    Search,
    ServerName,
    SessionId,
    Source,
    TaskId,
    TaskState,
    UnresolvedTarget,
    WaveName,
    same_fields,
)
from orchestrator.core.proof import CheckOutcome, Download, DownloadOutcome
from orchestrator.core.stops import StopSeen

_OF_A_POINT = (
    *("point", "policy", "objectives", "timeouts", "retries", "conflict"),
    *("checks", "downloads", "search", "incident_at", "volumes"),
)
"""What `TargetPlanned` does not say of a target without a restore point."""


class TargetPlanned(TargetEvent, frozen=True, kw_only=True):
    """The plan and the inventory made this target. `point` is None if none could be chosen."""

    wave: WaveName
    server: ServerName
    label: str
    os_kind: OsKind
    source: Source = Source.REPLICA
    point: RestorePoint | None = None
    policy: str = "latest"
    critical: bool = False
    objectives: Objectives = Objectives()
    timeouts: PhaseTimeouts = PhaseTimeouts()
    retries: AttemptPolicy = AttemptPolicy()
    conflict: Conflict = Conflict.WAIT
    place: str = ""
    checks: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    search: Search = NO_SEARCH
    incident_at: datetime | None = None
    os_source: OsSource = OsSource.PLAN
    volumes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, target: MountRequest | UnresolvedTarget, *, at: float) -> Self:
        """Return the event that makes a target known."""
        unset = _OF_A_POINT if isinstance(target, UnresolvedTarget) else ()
        return same_fields(cls, target, unset=unset, at=at)

    @property
    def backup_server(self) -> BackupServerName:
        """The backup server that would carry the mount; empty if no point was chosen."""
        return self.point.backup_server if self.point else BackupServerName("")

    @property
    def vm(self) -> str:
        """The machine's name as the server knows it, else as the plan names it."""
        return self.point.vm if self.point else self.label


class MachineBusy(TargetEvent, frozen=True, kw_only=True):
    """The machine is seen at work in a job or a restore: it is not mounted now.

    `seen_at` is when the server showed that, on the run's clock; what it shows is as old as its
    last data collection. `excused`: the mount that has just failed costs no attempt.
    """

    activity: Activity
    seen_at: float
    excused: bool = False


class MachineFree(TargetEvent, frozen=True, kw_only=True):
    """The target waits for its machine no longer.

    `seen_at` is when the server showed nothing of it any more; None: it did not, and the time that
    the plan allows for it is over, or the run.
    """

    seen_at: float | None = None


class SubmissionStarted(TargetEvent, frozen=True, kw_only=True):
    """The intent: about to POST. Durable before the first byte leaves."""

    attempt: int
    session: SessionId
    point: RestorePointId


class SubmissionNotSent(TargetEvent, frozen=True, kw_only=True):
    """Nothing reached the server; the target waits again and has lost nothing."""

    reason: str


class SubmissionRefused(TargetEvent, frozen=True, kw_only=True):
    """The server declined, or it was proved that nothing had been started."""

    reason: str
    proved_absent: bool = False
    busy: bool = False
    """The refusal was about the server, not about this target."""
    status: int | None = None
    """The HTTP status of the server's own answer."""


class SubmissionInDoubt(TargetEvent, frozen=True, kw_only=True):
    """The answer is lost; the mount may or may not have been started."""

    reason: str


class TaskAccepted(TargetEvent, frozen=True, kw_only=True):
    """The server works on it as `task`. `adopted`: found on the server after a lost answer."""

    task: TaskId
    adopted: bool = False


class TaskObserved(TargetEvent, frozen=True, kw_only=True):
    """The task was seen in another state that is not final."""

    task: TaskId
    state: TaskState
    words: str | None = None


class DeadlinePassed(TargetEvent, frozen=True, kw_only=True):
    """The phase took longer than the plan allows; the task is still watched, to clean up.

    `by_run`: than the deadline of the whole run has left for it.
    """

    phase: str
    allowed_s: float
    by_run: bool = False


class TaskStopAsked(TargetEvent, frozen=True, kw_only=True):
    """The task is about to be asked to stop. Durable before the request leaves; once per task."""

    task: TaskId


class TaskStopSeen(TargetEvent, frozen=True, kw_only=True):
    """The answer to that request, or what was seen of the task afterwards."""

    task: TaskId
    seen: StopSeen
    words: str | None = None


class TaskSucceeded(TargetEvent, frozen=True, kw_only=True):
    """The task is Finished with Success="true"."""

    task: TaskId
    message: str | None = None
    mount: Href | None = None


class TaskFailed(TargetEvent, frozen=True, kw_only=True):
    """The task is Finished without success; `message` is the server's own words."""

    task: TaskId
    message: str | None = None


class MountFound(TargetEvent, frozen=True, kw_only=True):
    """The mount point answered at `mount`. `roots` are the volumes it shows, maybe none."""

    mount: Href
    roots: tuple[str, ...] = ()


class NothingReadable(TargetEvent, frozen=True, kw_only=True):
    """Nothing of the guest is readable as `os_kind`, which the plan leaves open.

    Its mount is removed, and then it is mounted once as the other system: that is no attempt of
    the plan's.
    """

    os_kind: OsKind


class SystemFound(TargetEvent, frozen=True, kw_only=True):
    """The guest is readable as `os_kind`, and earlier runs did not know it: later ones do.

    The machine is `vm` behind `backup_server`, on a server that may be `simulated`.
    """

    os_kind: OsKind
    server: ServerName
    vm: str
    backup_server: BackupServerName = BackupServerName("")
    simulated: bool = False


class CheckMade(TargetEvent, frozen=True, kw_only=True):
    """One assertion about the mounted guest was judged, or could not be."""

    outcome: CheckOutcome


class FileCopied(TargetEvent, frozen=True, kw_only=True):
    """One file was copied out of the mount, or written into the guest, or was not."""

    outcome: DownloadOutcome


class VerdictReached(TargetEvent, frozen=True, kw_only=True):
    """The verdict on the content of the mount; the mount is still open."""

    result: Result
    message: str | None = None


class MountKept(TargetEvent, frozen=True, kw_only=True):
    """The mount stays open because the plan asks for it; the verdict is reached.

    `until` is when it will be removed, on the run's clock; None: when somebody ends the hold.
    """

    reason: str
    until: float | None = None


class UnmountStarted(TargetEvent, frozen=True, kw_only=True):
    """The unmount request is about to be sent. It may be repeated."""

    mount: Href


class MountReleased(TargetEvent, frozen=True, kw_only=True):
    """The mount is gone: the server confirmed it and its mounts no longer list it."""

    by_hand: bool = False
    """Released by the `unmount` command after the run."""


class MountLeft(TargetEvent, frozen=True, kw_only=True):
    """The mount is known to be open and could not be removed."""

    mount: Href
    reason: str


class OutOfReach(TargetEvent, frozen=True, kw_only=True):
    """The outcome of the attempt cannot be determined any more (session lost, task vanished).

    `lost`: the server denies the session. It may live: its mounts count in every limit until the
    server must have forgotten it.
    """

    reason: str
    lost: bool = False


class OrphanEnded(TargetEvent, frozen=True, kw_only=True):
    """The mount of a lost session is gone: its restore session was shown to have ended.

    `seen_at` is when the server showed that, on the run's clock. The attempt counts.
    """

    seen_at: float


class PointChosen(TargetEvent, frozen=True, kw_only=True):
    """Another restore point is tried from now on; nothing of the target is mounted."""

    point: RestorePoint
    why: str


class TargetConcluded(TargetEvent, frozen=True, kw_only=True):
    """The final answer for this target.

    `point` is the one that the answer is about, where another was tried after it; `point_why`
    says how it was found, where more is known by now than when it was chosen. `no_time`: the
    target, or another try of it, was not begun because of the run's deadline.
    """

    result: Result
    mount: MountState
    message: str | None = None
    point: RestorePointId | None = None
    point_why: str = ""
    no_time: bool = False


class TargetReopened(TargetEvent, frozen=True, kw_only=True):
    """A resumed run takes up a concluded target again; nothing of it is mounted.

    `was` is the result it loses. `point` is set where none could be chosen before.
    """

    was: Result
    point: RestorePoint | None = None
    policy: str = ""
