"""The vocabulary: the server's nouns and ours, as immutable values.

Two vocabularies, never mixed. The server's: restore point, task, mount point, logon
session, Href. Ours: mount request, result, mount state.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from orchestrator.proof import Download

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
"""The GUID of a logon session. Not the token: it opens nothing by itself."""
Href = NewType("Href", str)
"""Path and query of a server resource, below `/api/`, as sent on the wire. Never a host."""
RunId = NewType("RunId", str)


class OsKind(StrEnum):
    """The guest's operating system as `StartMountSpec` takes it.

    Source: POST /vmReplicaPoints/{ID}/mounts; the server's own default is Windows.
    """

    WINDOWS = "Windows"
    LINUX = "Linux"


class Source(StrEnum):
    """The restore-point family a target is mounted from."""

    REPLICA = "replica"
    BACKUP = "backup"
    AGENT = "agent"


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
    """The one answer per target (spec: report, "Result and mount are two facts")."""

    VERIFIED = "verified"
    MOUNTED = "mounted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class MountState(StrEnum):
    """What became of the mount point itself."""

    NONE = "none"
    RELEASED = "released"
    KEPT = "kept"
    LEFT = "left"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoint:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLink:
    """The Related link of a finished mount task: where the mount point should be.

    `number` is what stands after `@` in the link's Name. The documented link of a replica
    mount points into the backup family, so the path is a hint that a GET must confirm.
    """

    href: Href
    point: RestorePointId | None
    number: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One server task as read at one moment.

    `success` is None while there is no Result. `mount` is the first Related link whose type
    ends in `PointMount`. `downloads` are the hrefs of staged files.
    """

    id: TaskId
    state: TaskState
    operation: str = ""
    success: bool | None = None
    message: str | None = None
    mount: MountLink | None = None
    downloads: tuple[Href, ...] = ()

    @property
    def is_final(self) -> bool:
        """True only for Finished with a Result: without one, nothing says that nothing is mounted.

        OperationFinished may already claim success and is not final.
        """
        return self.state is TaskState.FINISHED and self.success is not None

    @property
    def succeeded(self) -> bool:
        """True only for Finished with Result Success="true"."""
        return self.is_final and self.success is True


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystemEntry:
    """One directory or file of a mounted guest. `size` in bytes, None for directories."""

    path: str
    name: str
    href: Href
    is_directory: bool
    size: int | None = None
    owner: str | None = None
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount point: its address and the volume roots that could be read."""

    href: Href
    roots: tuple[FileSystemEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTimeouts:
    """How long each phase of a mount may take, in seconds."""

    mount: float = 1200.0
    checks: float = 600.0
    unmount: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicy:
    """How often a target may be tried for its own faults; `attempts` counts all of them."""

    attempts: int = 2
    delay: float = 30.0
    max_delay: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """Recovery objectives in seconds; None where the plan names none."""

    rto: float | None = None
    rpo: float | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which other restore points of the machine may be tried, and for which causes.

    `candidates` are all points that may be mounted, newest first, the first choice among
    them; none means that there is no other choice.
    """

    candidates: tuple[RestorePoint, ...] = ()
    on: tuple[Cause, ...] = (Cause.MOUNT_FAILED, Cause.CHECK_FAILED)
    order: Order = Order.LINEAR


NO_SEARCH = Search()


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
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
    objectives: Objectives = Objectives()
    policy: str = "latest"
    """Why this point: the plan's policy in words, for the report."""
    place: str = ""
    checks: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    search: Search = NO_SEARCH
    incident_at: datetime | None = None

    @property
    def vm(self) -> str:
        """The machine's name as the server knows it."""
        return self.point.vm

    @property
    def backup_server(self) -> BackupServerName:
        """The backup server that carries the mount."""
        return self.point.backup_server


@dataclass(frozen=True, slots=True, kw_only=True)
class UnresolvedTarget:
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


def counted(number: int, thing: str) -> str:
    """Return `1 mount`, `2 mounts`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def printable(text: str, limit: int = 300) -> str:
    """Return `text` safe to show: control and bidirectional characters escaped, shortened.

    For everything that came from a server or a plan and goes to a terminal, a log or a
    report. Newlines and tabs are escaped too: one value, one line. No CI system finds a command
    in it.
    """
    shown = "".join(
        char if char.isprintable() or char == " " else char.encode("unicode_escape").decode("ascii")
        for char in text[: limit + 1]
    )
    return inert(shown if len(text) <= limit else shown[: limit - 1] + "…")


def inert(text: str) -> str:
    """Return lines in which no CI system finds a command: one character of it is escaped.

    GitHub obeys `::` at the start of a line, after any space, and `##[` anywhere in it; Azure
    obeys `##vso[` anywhere.
    """
    return _CI_COMMAND.sub(lambda found: f"{found[1] or ''}\\x{ord(found[0][-1]):02x}", text)


def printable_json(document: str) -> str:
    """Return a JSON document that is safe to show: what could steer a terminal or CI is escaped.

    It still means the same: such characters stand only inside of its texts.
    """
    shown = _UNUSUAL.sub(
        lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], document
    )
    return _CI_MARKER.sub("\\\\u0023", shown)


_UNUSUAL = re.compile(r"[^\n\x20-\x7e]")
_CI_MARKER = re.compile(r"#(?=#[A-Za-z]*\[)")
_CI_COMMAND = re.compile(rf"{_CI_MARKER.pattern}|^([^\S\n]*):(?=:)", re.MULTILINE)
