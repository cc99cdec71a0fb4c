"""The vocabulary: the server's nouns and ours, as immutable values.

Two vocabularies, never mixed. The server's: restore point, task, mount point, logon
session, Href. Ours: mount request, result, mount state.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType, TypeVar

from msgspec import Struct

from orchestrator.core.proof import Download

T = TypeVar("T", bound=Struct)

ServerName = NewType("ServerName", str)
"""Name of one Enterprise Manager in the plan."""
BackupServerName = NewType("BackupServerName", str)
"""Name of a Veeam backup server behind an Enterprise Manager."""
WaveName = NewType("WaveName", str)
MountKey = NewType("MountKey", str)
"""Identifies a mount request across runs and journals: `wave/server/label-or-vm`."""
RestorePointId = NewType("RestorePointId", str)
"""The GUID of a restore point, lower case."""
TaskId = NewType("TaskId", str)
"""The server's task id (`task-12`): unique only within one logon session of one server."""
SessionId = NewType("SessionId", str)
"""What a logon session is called here: a short hash of its GUID, see `session_id`."""
Href = NewType("Href", str)
"""Path and query of a server resource, below `/api/`, as sent on the wire. Never a host."""
RunId = NewType("RunId", str)


class OsKind(StrEnum):
    """The guest's operating system as `StartMountSpec` takes it.

    Source: POST /vmReplicaPoints/{ID}/mounts; the server's own default is Windows.
    """

    WINDOWS = "Windows"
    LINUX = "Linux"

    @property
    def other(self) -> OsKind:
        """The one that it is not."""
        return OsKind.LINUX if self is OsKind.WINDOWS else OsKind.WINDOWS


class OsSource(StrEnum):
    """How it is known as which system a guest is mounted."""

    PLAN = "plan"
    EARLIER_RUN = "earlier_run"
    """`os: auto`: the guest was readable so when it was mounted last."""
    ASSUMED = "assumed"
    """`os: auto`: nothing is known of the machine, and most are of the default system."""
    FOUND_OUT = "found_out"
    """`os: auto`: the mount of this run was readable so."""


ASSUMED_OS = OsKind.WINDOWS
"""As which system a guest is mounted first of which nothing is known."""


class Source(StrEnum):
    """The restore-point family a target is mounted from."""

    REPLICA = "replica"
    BACKUP = "backup"
    AGENT = "agent"


class Conflict(StrEnum):
    """What becomes of a target whose machine is seen at work in a job or a restore."""

    WAIT = "wait"
    SKIP = "skip"
    FAIL = "fail"


class OnError(StrEnum):
    """What follows if not every target of a wave ends well."""

    CONTINUE = "continue"
    """The waves after it start all the same."""
    SKIP_DEPENDENTS = "skip_dependents"
    """The waves that wait for it, and those that wait for these, are skipped."""
    HALT = "halt"
    """Nothing more is submitted in the whole run."""


class Unmount(StrEnum):
    """What the plan says about removing mounts."""

    ALWAYS = "always"
    ON_SUCCESS = "on_success"
    """A mount whose verdict is not good stays open until somebody ends the hold."""
    NEVER = "never"
    """Every mount stays open until somebody ends the hold."""


class TaskState(StrEnum):
    """State of a server task. Only FINISHED is final; OPERATION_FINISHED never is."""

    RUNNING = "Running"
    OPERATION_FINISHED = "OperationFinished"
    FINISHED = "Finished"
    UNKNOWN = "unknown"
    """A word this program has not seen before: not final, worth a warning."""


class Result(StrEnum):
    """The result of one target, apart from what became of its mount."""

    VERIFIED = "verified"
    MOUNTED = "mounted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class MountState(StrEnum):
    """What became of a target's mount, apart from its result."""

    NONE = "none"
    RELEASED = "released"
    KEPT = "kept"
    LEFT = "left"
    UNKNOWN = "unknown"


class RestorePoint(Struct, frozen=True, kw_only=True):
    """One restore point as the server's inventory lists it.

    `vm` is VmDisplayName (ComputerName for agents); `job` the replication or backup job's
    name where the server names it. `backup_server` comes from the point's Up link, so it
    works for a File Restore Operator, who may not list backup servers.
    """

    id: RestorePointId
    name: str
    vm: str
    created_at: datetime
    source: Source = Source.REPLICA
    backup_server: BackupServerName = BackupServerName("")
    backup_server_id: str = ""
    job: str = ""
    job_id: str = ""


class MountLink(Struct, frozen=True, kw_only=True):
    """The Related link of a finished mount task: where the mount point should be.

    `number` is what stands after `@` in the link's Name. The documented link of a replica
    mount points into the backup family, so the path is a hint that a GET must confirm.
    """

    href: Href
    point: RestorePointId | None
    number: str | None


class Task(Struct, frozen=True, kw_only=True):
    """One server task as read at one moment.

    `success` is None while there is no Result, or one that is `unclear`: it says neither success
    nor failure. `mount` is the first Related link whose type ends in `PointMount`. `downloads`
    are the hrefs of staged files. `odd_state` is the server's word for a state that this program
    does not know, safe to show.
    """

    id: TaskId
    state: TaskState
    operation: str = ""
    success: bool | None = None
    message: str | None = None
    mount: MountLink | None = None
    downloads: tuple[Href, ...] = ()
    odd_state: str = ""
    unclear: bool = False

    @property
    def is_final(self) -> bool:
        """True only for Finished with a Result: without one, nothing says that nothing is mounted.

        OperationFinished may already claim success and is not final.
        """
        return self.state is TaskState.FINISHED and (self.success is not None or self.unclear)

    @property
    def succeeded(self) -> bool:
        """True only for Finished with Result Success="true"."""
        return self.is_final and self.success is True

    @property
    def may_be_mounted(self) -> bool:
        """True for one that has ended and did not say that it failed."""
        return self.is_final and self.success is not False


class FileSystemEntry(Struct, frozen=True, kw_only=True):
    """One directory or file of a mounted guest. `size` in bytes, None for directories."""

    path: str
    name: str
    href: Href
    is_directory: bool
    size: int | None = None
    owner: str | None = None
    modified_at: datetime | None = None


class Mount(Struct, frozen=True, kw_only=True):
    """One mount point: its address and the volume roots that could be read."""

    href: Href
    roots: tuple[FileSystemEntry, ...] = ()


class PhaseTimeouts(Struct, frozen=True, kw_only=True):
    """How long each phase of a mount may take, in seconds.

    `busy` is how long a target waits for a machine that is at work, over all its attempts.
    """

    mount: float = 1200.0
    checks: float = 600.0
    unmount: float = 300.0
    busy: float = 3600.0


class AttemptPolicy(Struct, frozen=True, kw_only=True):
    """How often a target may be tried for its own faults; `attempts` counts all of them."""

    attempts: int = 2
    delay: float = 30.0
    max_delay: float = 300.0


class Objectives(Struct, frozen=True, kw_only=True):
    """Recovery objectives in seconds; None where the plan names none."""

    rto: float | None = None
    rpo: float | None = None


class WaveFacts(Struct, frozen=True, kw_only=True):
    """One wave of the plan."""

    name: WaveName
    after: tuple[WaveName, ...] = ()
    critical: bool = False
    on_error: OnError = OnError.CONTINUE
    mounts_limit: int | None = None
    objectives: Objectives = Objectives()


class OnTimeout(StrEnum):
    """What follows if a gate is not opened in time."""

    HALT = "halt"
    """Nothing more is submitted in the whole run."""
    SKIP = "skip"
    """The wave behind it is skipped, and so are those that wait for it."""


class Gate(Struct, frozen=True, kw_only=True):
    """A wave starts only once so many people have approved it, within `timeout` seconds."""

    before: WaveName
    approvals: int = 1
    timeout: float
    on_timeout: OnTimeout


class Ramp(Struct, frozen=True, kw_only=True):
    """How a server is given its slots: `mounts` at first, and as many more each `every` seconds."""

    mounts: int
    every: float


class Cause(StrEnum):
    """Why another restore point may be tried in place of one."""

    MOUNT_FAILED = "mount_failed"
    """It was refused, or its task failed as often as the plan allows."""
    CHECK_FAILED = "check_failed"


class Order(StrEnum):
    """In which order a target's restore points are tried."""

    LINEAR = "linear"
    """From the newest back, until one is good: nothing is assumed."""
    BISECT = "bisect"
    """The newest, then by halves: assumes that every point before a good one is good."""


class Search(Struct, frozen=True, kw_only=True):
    """Which other restore points of the machine may be tried, and for which causes.

    `candidates` are all points that may be mounted, newest first, the first choice among
    them; none means that there is no other choice.
    """

    candidates: tuple[RestorePoint, ...] = ()
    on: tuple[Cause, ...] = tuple(Cause)
    order: Order = Order.LINEAR


NO_SEARCH = Search()


class MountRequest(Struct, frozen=True, kw_only=True):
    """One restore point to mount, as expanded from the plan.

    `key` identifies the request across runs and journals; it depends only on the plan entry
    and the machine, never on position or time. `label` is what people call the target.
    `place` is `line:column` of the plan entry, for messages. `checks` are names of check
    sets. The RPO counts back from `incident_at` where the plan names one.
    """

    key: MountKey
    wave: WaveName
    server: ServerName
    label: str
    point: RestorePoint
    os_kind: OsKind
    critical: bool = False
    timeouts: PhaseTimeouts = PhaseTimeouts()
    retries: AttemptPolicy = AttemptPolicy()
    conflict: Conflict = Conflict.WAIT
    objectives: Objectives = Objectives()
    policy: str = "latest"
    """Why this point: the plan's policy in words, for the report."""
    place: str = ""
    checks: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    search: Search = NO_SEARCH
    incident_at: datetime | None = None
    os_source: OsSource = OsSource.PLAN
    """How `os_kind` is known; unless by the plan, the guest may turn out to be of the other."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Drive letters, upper case, and the names of the volumes that have them where a mount shows
    none."""

    @property
    def vm(self) -> str:
        """The machine's name as the server knows it."""
        return self.point.vm

    @property
    def backup_server(self) -> BackupServerName:
        """The backup server that carries the mount."""
        return self.point.backup_server

    @property
    def source(self) -> Source:
        """The family of the restore point."""
        return self.point.source


class UnresolvedTarget(Struct, frozen=True, kw_only=True):
    """A plan entry for which no restore point could be chosen, and why.

    In `plan` and `check` it is an error; in `run` it is a target that `failed` (or was
    `skipped` where its server could not be used).
    """

    key: MountKey
    wave: WaveName
    server: ServerName
    label: str
    reason: str
    critical: bool = False
    os_kind: OsKind = OsKind.WINDOWS
    source: Source = Source.REPLICA
    place: str = ""
    os_source: OsSource = OsSource.PLAN


def same_fields(kind: type[T], origin: object, *, unset: Collection[str] = (), **own: Any) -> T:
    """Return a `kind` with the fields in `own`, and all others as `origin` has them.

    A default of `kind` counts only for the fields named in `unset`, so a field that is added
    to `kind` cannot be forgotten.

    Raises:
        AttributeError: `origin` lacks a field.
    """
    for name in kind.__struct_fields__:
        if name not in own and name not in unset:
            own[name] = getattr(origin, name)
    return kind(**own)


_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def session_id(guid: str) -> SessionId:
    """Return what the logon session `guid` is called outside of its owner-only side file.

    A public client makes its token from the GUID, so the GUID is as secret as the token. What
    is no GUID is such a name already. Source: reference 2.2, trap 42.
    """
    if not _GUID.fullmatch(guid):
        return SessionId(guid)
    return SessionId(hashlib.sha256(guid.lower().encode()).hexdigest()[:16])
