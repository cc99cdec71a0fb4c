"""What the engine needs from the outside, as Protocols.

`em` implements LogonSession and EnterpriseManager, `journal` implements Journal, progress
views and reports implement Observer; `cli` joins them. Nothing here has behaviour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from orchestrator.checks import Ended
from orchestrator.errors import FileNotSaved
from orchestrator.events import Event
from orchestrator.lifecycle import MountRecord
from orchestrator.model import (
    BackupServerName,
    FileSystemEntry,
    Href,
    Mount,
    OsKind,
    RestorePoint,
    RestorePointId,
    ServerName,
    SessionId,
    Source,
    Task,
    TaskId,
)
from orchestrator.proof import Measured


class LogonSession(Protocol):
    """One logon session on one Enterprise Manager.

    Tasks and mounts belong to it and are invisible to every other session. All methods
    raise subclasses of EnterpriseManagerError; reads may be repeated, `start_mount` never.
    """

    @property
    def server(self) -> ServerName:
        """The Enterprise Manager's name in the plan."""
        ...

    @property
    def id(self) -> SessionId:
        """The session's GUID (not its token)."""
        ...

    @property
    def user(self) -> str:
        """The account as the server resolved it."""
        ...

    @property
    def api_version(self) -> str:
        """The API version asked for at logon."""
        ...

    @property
    def clock_offset_s(self) -> float | None:
        """Server time minus ours at logon, in seconds, from the Date header."""
        ...

    @property
    def certificate_sha256(self) -> str | None:
        """Fingerprint of the certificate the server showed, or None without TLS."""
        ...

    @property
    def idle_s(self) -> float:
        """Seconds since the last request of this session was answered."""
        ...

    @property
    def requests(self) -> int:
        """HTTP requests sent on this session so far, logon included."""
        ...

    @property
    def retries(self) -> int:
        """How many of them repeated an earlier one."""
        ...

    async def start_mount(self, point: RestorePointId, source: Source, os_kind: OsKind) -> Task:
        """Ask the server to mount a restore point. Sent once, never repeated here.

        Raises:
            RequestNotSent: nothing reached the server.
            RequestRefused: the server declined; nothing was started.
            ResponseLost: the mount may or may not have been started.
            SessionLost: the logon session is gone.
        """
        ...

    async def task(self, task: TaskId) -> Task:
        """Read one task. NotFound means this session does not know it: nothing is proved."""
        ...

    async def tasks(self) -> Sequence[Task]:
        """Read all tasks of this session in one request."""
        ...

    async def open_tasks(self) -> Sequence[Task]:
        """Read the tasks that are not Finished, as far as the server filters."""
        ...

    async def tasks_by_id(self, ids: Iterable[TaskId]) -> Sequence[Task]:
        """Read the named tasks in one request, as far as the server filters."""
        ...

    async def mount(self, mount: Href) -> Mount:
        """Read one mount point with its volume roots."""
        ...

    async def mounts(self, point: RestorePointId, source: Source) -> Sequence[Mount]:
        """List this session's mounts of a restore point; a 404 is an empty list."""
        ...

    def mount_href(self, point: RestorePointId, source: Source, number: str) -> Href:
        """Return the address of mount `number` of a point, in the family it was posted to."""
        ...

    async def unmount(self, mount: Href) -> None:
        """Remove a mount point; a 404 counts as done. Safe to repeat."""
        ...

    async def is_mounted(self, mount: Href) -> bool:
        """Tell whether the point's list of mounts still shows this mount point."""
        ...

    def leave_open(self) -> None:
        """Do not log off at the end: something is mounted that a later process can release."""
        ...

    async def keep_alive(self) -> None:
        """Send the cheapest request there is, so that the session does not idle out."""
        ...


class InventorySession(LogonSession, Protocol):
    """The reads that find restore points."""

    async def point(self, point: RestorePointId, source: Source) -> RestorePoint:
        """Read one restore point by id.

        Raises:
            NotFound: the server does not list it, or not to this account.
        """
        ...

    async def points_of_machines(
        self, names: Sequence[str], source: Source
    ) -> Sequence[RestorePoint]:
        """Read all points of the named machines, newest first, all pages."""
        ...

    async def points_of_job(self, job: str, source: Source) -> Sequence[RestorePoint]:
        """Read all points that a job made, newest first, all pages."""
        ...

    async def points_of_family(
        self, source: Source, backup_server: BackupServerName | None
    ) -> Sequence[RestorePoint]:
        """Read all points of a family, or those behind one backup server, all pages."""
        ...

    async def points_of_query(self, condition: str, source: Source) -> Sequence[RestorePoint]:
        """Read all points that a filter in the server's own language finds, all pages.

        Raises:
            RequestRefused: the server does not understand the filter.
        """
        ...


class GuestSession(InventorySession, Protocol):
    """The verbs for the files of a mounted guest."""

    def guest_href(self, mount: Href, path: str) -> Href:
        """Return the address of a guest path below a mount; `path` begins with the volume."""
        ...

    async def entry(self, file: Href) -> FileSystemEntry:
        """Read one file or directory of a mounted guest.

        Raises:
            NotFound: there is no such path, or no such mount.
        """
        ...

    async def browse(self, directory: Href) -> Sequence[FileSystemEntry]:
        """List a directory of a mounted guest, all pages.

        Raises:
            NotFound: there is no such directory, or no such mount.
        """
        ...

    async def stage(self, file: Href) -> Task:
        """Ask for a file to be staged for download: changes nothing in the guest; repeatable.

        The finished task's `downloads` are the addresses to fetch.
        """
        ...

    async def fetch(self, download: Href, take: Callable[[bytes], None], *, limit: int) -> int:
        """Read a staged file in pieces and return its size in bytes. Repeatable from the start.

        Raises:
            MalformedResponse: it is larger than `limit` bytes, or ends before its own length.
        """
        ...

    async def restore_to_guest(self, file: Href, *, overwrite: bool) -> Task:
        """Ask for a file to be written into the original guest. Sent once, never repeated here.

        Raises:
            ForbiddenAction: this client was not told that it may write; nothing was sent.
            ResponseLost: it may or may not have been started.
        """
        ...


class EnterpriseManager(Protocol):
    """One Enterprise Manager that can be logged on to."""

    @property
    def server(self) -> ServerName:
        """Its name in the plan."""
        ...

    @property
    def kept(self) -> SessionId | None:
        """The session that an earlier process of this run left, if its token is known."""
        ...

    def take_up(self) -> AbstractAsyncContextManager[GuestSession]:
        """Use the kept session again; leaving the context logs off as `logon` does.

        Raises (on entering):
            SessionLost: the server has forgotten it, or none is kept.
            EnterpriseManagerError: the server cannot be asked; may be tried again.
        """
        ...

    def logon(self) -> AbstractAsyncContextManager[GuestSession]:
        """Open a logon session; leaving the context logs off, shielded and bounded.

        Raises (on entering):
            RequestNotSent: unreachable; may be tried again.
            ServiceBusy: overloaded; may be tried again.
            ResponseLost, MalformedResponse: the answer cannot be used; may be tried again.
            LogonRefused, CertificateRefused, AccessDenied, CredentialError: never repeat.
        """
        ...


class Journal(Protocol):
    """Where events become durable, in order."""

    def append(self, event: Event) -> None:
        """Take the event; it is on disk after the next `durable()`.

        Raises:
            JournalError: the journal cannot take anything any more.
        """
        ...

    async def durable(self) -> None:
        """Return when everything appended so far is on disk.

        Raises:
            JournalError: it is not, and never will be.
        """
        ...


class Observer(Protocol):
    """Somebody who is told of every event after it was recorded. Must not block."""

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note; `record` is the target's state after the event, if it has a target."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A file that is on the disk. `was_there`: one with exactly these bytes was there before."""

    size: int
    sha256: str
    was_there: bool = False


class ShelfFile(Protocol):
    """A file of a guest while it is written on this machine. Raises FileNotSaved only."""

    @property
    def path(self) -> str:
        """Where it will be."""
        ...

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        ...

    def take(self, piece: bytes) -> None:
        """Write one more piece."""
        ...

    def restart(self) -> None:
        """Forget everything taken so far."""
        ...

    async def keep(self) -> Kept:
        """Bring it to the disk under its name; what is not kept vanishes."""
        ...


class Shelf(Protocol):
    """Where files of guests are saved on this machine."""

    def layout(
        self, to: str, names: Sequence[str], *, many: bool, tag: str = ""
    ) -> Mapping[str, str]:
        """Return for each guest file name a path of its own, safe and within `to`.

        `tag` becomes part of every name.
        """
        ...

    def remember(self, path: str, owner: str) -> None:
        """Note that an earlier process of the run saved a file of `owner` there."""
        ...

    def place(
        self, path: str, size: int | None, *, owner: str, overwrite: bool
    ) -> AbstractContextManager[ShelfFile]:
        """Make room for a file of `size` bytes at `path`; it is empty, and named when kept.

        Raises (on entering):
            FileNotSaved: it cannot be, for a reason on this machine.
        """
        ...


class NoShelf:
    """No disk: nothing is saved."""

    def layout(
        self, to: str, names: Sequence[str], *, many: bool, tag: str = ""
    ) -> Mapping[str, str]:
        """Return the path as it is."""
        _ = many, tag
        return dict.fromkeys(names, to)

    def remember(self, path: str, owner: str) -> None:
        """Do nothing."""

    def place(
        self, path: str, size: int | None, *, owner: str, overwrite: bool
    ) -> AbstractContextManager[ShelfFile]:
        """Refuse the file."""
        _ = size, owner, overwrite
        raise FileNotSaved(f"{path}: nothing is saved here")


class HoldRequests(Protocol):
    """How another process asks that the mounts that are held be removed."""

    def taken(self) -> bool:
        """Tell whether somebody has asked since the last call."""
        ...


class NoHoldRequests:
    """Nobody can ask."""

    def taken(self) -> bool:
        """Return False."""
        return False


class Durations(Protocol):
    """What earlier runs say about how long a machine's mount takes."""

    def expected(self, server: ServerName, vm: str) -> float | None:
        """Return the expected seconds from submission to release, or None if never seen."""
        ...


class NoDurations:
    """No history: every machine is unknown."""

    def expected(self, server: ServerName, vm: str) -> float | None:
        """Return None."""
        _ = server, vm
        return None


class Baselines(Protocol):
    """What earlier runs measured in the directories of a machine."""

    def measured(self, server: ServerName, vm: str, path: str) -> Measured | None:
        """Return what the last verified run found at `path`, or None if none ever looked."""
        ...


class NoBaselines:
    """No history: nothing was ever measured."""

    def measured(self, server: ServerName, vm: str, path: str) -> Measured | None:
        """Return None."""
        _ = server, vm, path
        return None


Answering = Callable[[Mapping[str, object]], Awaitable[Mapping[str, object]]]
"""Answers one request of a program: what it wants read, and what was read."""


class Programs(Protocol):
    """Runs programs of the user's that judge a mounted guest."""

    async def run(
        self,
        argv: Sequence[str],
        briefing: Mapping[str, object],
        answer: Answering,
        *,
        timeout: float,
    ) -> Ended:
        """Run `argv`, tell it `briefing`, answer what it asks, and return how it ended.

        It does not outlive this call, however that ends. What `answer` raises is raised.
        """
        ...


class NoPrograms:
    """Nothing can be run here: a check that needs a program has failed."""

    async def run(
        self,
        argv: Sequence[str],
        briefing: Mapping[str, object],
        answer: Answering,
        *,
        timeout: float,
    ) -> Ended:
        """Say that it was not run."""
        _ = argv, briefing, answer, timeout
        return Ended(why="programs cannot be run here")
