"""Facts: one frozen class each, to and from JSON.

Everything that happens in a run is one of these. The journal keeps them in order, the
lifecycle table says which may follow which, and every report is a fold over them. `at` is
seconds on the run's own clock, which reads 0 at RunStarted; `key` names the mount request.

Reading old journals: fields may be added with a default, never removed or renamed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import JournalDamaged
from orchestrator.model import (
    NO_SEARCH,
    AttemptPolicy,
    BackupServerName,
    Href,
    MountKey,
    MountState,
    Objectives,
    OnError,
    OsKind,
    PhaseTimeouts,
    RestorePoint,
    RestorePointId,
    Result,
    RunId,
    Search,
    ServerName,
    SessionId,
    Source,
    TaskId,
    TaskState,
    Unmount,
    WaveName,
)
from orchestrator.proof import CheckOutcome, CheckSets, Download, DownloadOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, `at` seconds after the run began."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEvent(Event):
    """Something that happened to the mount request `key`."""

    key: MountKey


# --- the run ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What the plan says of one Enterprise Manager. `tls` is how its certificate is trusted."""

    name: ServerName
    url: str
    tls: str
    api_version: str
    mounts_limit: int | None = None
    backup_server_limits: dict[str, int]
    default_backup_server_limit: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveFacts:
    """What the plan says of one wave."""

    name: WaveName
    after: tuple[WaveName, ...] = ()
    critical: bool = False
    on_error: OnError = OnError.CONTINUE
    mounts_limit: int | None = None
    objectives: Objectives = Objectives()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run began; everything about it that does not belong to one target."""

    run: RunId
    started_at: datetime
    plan: str
    plan_path: str
    plan_sha256: str
    locked_sha256: str | None = None
    description: str | None = None
    mode: str = "drill"
    reason: str | None = None
    version: str
    user: str = ""
    host: str = ""
    pid: int = 0
    report_dir: str = ""
    servers: tuple[ServerFacts, ...] = ()
    waves: tuple[WaveFacts, ...] = ()
    objectives: Objectives = Objectives()
    mounts_limit: int | None = None
    mounts_per_vm: int = 1
    require_checks: bool = False
    overrides: dict[str, str] = field(default_factory=dict)
    """Variables of the plan that the command line set: a resume loads the plan with them."""
    only: tuple[str, ...] = ()
    keys: tuple[str, ...] | None = None
    deadline_s: float | None = None
    confirmed: bool = False
    """Whether it may begin unasked: `--yes`, or a locked plan."""
    utc_offset_s: float = 0.0
    """Local time of the machine minus UTC, for reports that people read."""
    check_sets: CheckSets = field(default_factory=dict)
    seed: int = 0
    """Of every random choice of targets and points; a resume chooses by it again."""
    unmount: Unmount = Unmount.ALWAYS
    keep_failed_s: float | None = None
    """How long a mount whose checks failed is held for a person."""
    hold_s: float | None = None
    """How long every mount is held; None: not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed(Event):
    """Another process goes on with the run; what halted or stopped it before is history."""

    resumed_at: datetime
    version: str
    user: str = ""
    host: str = ""
    pid: int = 0
    report_dir: str = ""
    retry_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(Event):
    """A logon session was opened. `clock_offset_s`: server time minus ours, if it told."""

    server: ServerName
    session: SessionId
    user: str
    api_version: str
    clock_offset_s: float | None = None
    certificate_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTakenUp(Event):
    """The logon session of an earlier process answered: its tasks and mounts are ours again."""

    server: ServerName
    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksAttributed(Event):
    """Tasks belong to targets whose mounts were found; nobody needs to know which to which.

    Without it a later process would take them for tasks that are in doubt.
    """

    server: ServerName
    session: SessionId
    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(Event):
    """A logon session ended: by our own logoff, or because the server lost it."""

    server: ServerName
    session: SessionId
    lost: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerParked(Event):
    """A server cannot be used for now; its targets wait."""

    server: ServerName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerResumed(Event):
    """A parked server answered again after `waited_s` seconds."""

    server: ServerName
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPaced(Event):
    """How many mounts a server is given from now on; None: as many as the plan allows."""

    server: ServerName
    allowed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerGivenUp(Event):
    """A server will not be used in this run any more. `refused`: it said no, not silence."""

    server: ServerName
    reason: str
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMeasured(Event):
    """What one server cost over the run."""

    server: ServerName
    requests: int
    retries: int
    peak_mounts: int
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveStarted(Event):
    """Targets of this wave may be submitted from now on."""

    wave: WaveName


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveFinished(Event):
    """Every target of this wave has a result, or a verdict while its mount is held."""

    wave: WaveName


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested(Event):
    """A person or the system asked the run to stop. `forced`: the second time."""

    signal: str
    forced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHalted(Event):
    """The run stops submitting for a reason of its own; `reason` is one word, `detail` why."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNoted(Event):
    """Something worth a line in the report that belongs to no target."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceholderReplaced(Event):
    """A target that stood for machines nobody could list gives way to the machines themselves.

    `was` is the result it had.
    """

    key: MountKey
    server: ServerName
    was: Result | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The run is over and everything about it is in the journal."""

    exit_code: int
    finished_at: datetime
    interrupted: bool = False


# --- one target ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlanned(TargetEvent):
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
    place: str = ""
    checks: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    search: Search = NO_SEARCH
    incident_at: datetime | None = None

    @property
    def backup_server(self) -> BackupServerName:
        """The backup server that would carry the mount; empty if no point was chosen."""
        return self.point.backup_server if self.point else BackupServerName("")

    @property
    def vm(self) -> str:
        """The machine's name as the server knows it, else as the plan names it."""
        return self.point.vm if self.point else self.label


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionStarted(TargetEvent):
    """The intent: about to POST. Durable before the first byte leaves."""

    attempt: int
    session: SessionId
    point: RestorePointId


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionNotSent(TargetEvent):
    """Nothing reached the server; the target waits again and has lost nothing."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionRefused(TargetEvent):
    """The server declined, or it was proved that nothing had been started."""

    reason: str
    proved_absent: bool = False
    busy: bool = False
    """The refusal was about the server, not about this target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionInDoubt(TargetEvent):
    """The answer is lost; the mount may or may not have been started."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccepted(TargetEvent):
    """The server works on it as `task`. `adopted`: found on the server after a lost answer."""

    task: TaskId
    adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskObserved(TargetEvent):
    """The task was seen in another state that is not final."""

    task: TaskId
    state: TaskState
    words: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePassed(TargetEvent):
    """The phase took longer than the plan allows; the task is still watched, to clean up."""

    phase: str
    allowed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSucceeded(TargetEvent):
    """The task is Finished with Success="true"."""

    task: TaskId
    message: str | None = None
    mount: Href | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed(TargetEvent):
    """The task is Finished without success; `message` is the server's own words."""

    task: TaskId
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MountFound(TargetEvent):
    """The mount point answered at `mount`. `roots` are the volumes it shows, maybe none."""

    mount: Href
    roots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckMade(TargetEvent):
    """One assertion about the mounted guest was judged, or could not be."""

    outcome: CheckOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCopied(TargetEvent):
    """One file was copied out of the mount, or written into the guest, or was not."""

    outcome: DownloadOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReached(TargetEvent):
    """What the content of the mount says; the mount is still open."""

    result: Result
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MountKept(TargetEvent):
    """The mount stays open because the plan asks for it; the verdict is reached.

    `until` is when it will be removed, on the run's clock; None: when somebody ends the hold.
    """

    reason: str
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmountStarted(TargetEvent):
    """The unmount request is about to be sent. It may be repeated."""

    mount: Href


@dataclass(frozen=True, slots=True, kw_only=True)
class MountReleased(TargetEvent):
    """The mount is gone: the server confirmed it and its mounts no longer list it."""

    by_hand: bool = False
    """Released by the `unmount` command after the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLeft(TargetEvent):
    """The mount is known to be open and could not be removed."""

    mount: Href
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfReach(TargetEvent):
    """What became of the attempt cannot be known any more (session lost, task vanished)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PointChosen(TargetEvent):
    """Another restore point is tried from now on; nothing of the target is mounted."""

    point: RestorePoint
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetConcluded(TargetEvent):
    """The final answer for this target.

    `point` is the one that the answer is about, where another was tried after it; `point_why`
    says how it was found, where more is known by now than when it was chosen.
    """

    result: Result
    mount: MountState
    message: str | None = None
    point: RestorePointId | None = None
    point_why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReopened(TargetEvent):
    """A resumed run takes up a concluded target again; nothing of it is mounted.

    `was` is the result it loses. `point` is set where none could be chosen before.
    """

    was: Result
    point: RestorePoint | None = None
    policy: str = ""


_ALL: tuple[type[Event], ...] = (
    RunStarted,
    RunResumed,
    SessionOpened,
    SessionTakenUp,
    TasksAttributed,
    SessionEnded,
    ServerParked,
    ServerResumed,
    ServerPaced,
    ServerGivenUp,
    ServerMeasured,
    WaveStarted,
    WaveFinished,
    StopRequested,
    RunHalted,
    RunNoted,
    PlaceholderReplaced,
    RunFinished,
    TargetPlanned,
    SubmissionStarted,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionInDoubt,
    TaskAccepted,
    TaskObserved,
    DeadlinePassed,
    TaskSucceeded,
    TaskFailed,
    MountFound,
    CheckMade,
    FileCopied,
    VerdictReached,
    MountKept,
    UnmountStarted,
    MountReleased,
    MountLeft,
    OutOfReach,
    PointChosen,
    TargetConcluded,
    TargetReopened,
)
EVENT_TYPES: dict[str, type[Event]] = {kind.__name__: kind for kind in _ALL}


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(EVENT_TYPES[kind])


def to_json(event: Event) -> bytes:
    """Return the event's fields as compact JSON; the type's name is kept beside it."""
    return _adapter(type(event).__name__).dump_json(event, exclude_defaults=True)


def from_json(kind: str, text: bytes | str) -> Event:
    """Return the event that `to_json` wrote.

    Raises:
        JournalDamaged: the type is unknown or the fields do not fit it.
    """
    if kind not in EVENT_TYPES:
        raise JournalDamaged(f"unknown event type {kind!r}")
    try:
        event: Event = _adapter(kind).validate_json(text)
    except (ValidationError, json.JSONDecodeError) as exc:
        raise JournalDamaged(f"the record is not a {kind} event") from exc
    return event
