"""One Enterprise Manager and its logon sessions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from orchestrator.core.activity import Activity
from orchestrator.core.model import (
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
from orchestrator.core.ports.fence import Fence


class LogonSession(Protocol):
    """One logon session on one Enterprise Manager.

    Tasks and mounts belong to it and are invisible to every other session. All methods
    raise subclasses of EnterpriseManagerError; reads may be repeated, `start_mount` never. Once
    another worker has the server they raise Fenced, which is no trouble of the server's.
    """

    @property
    def server(self) -> ServerName:
        """The Enterprise Manager's name in the plan."""

    @property
    def id(self) -> SessionId:
        """What the session is called: a short hash, never its GUID, which is a secret."""

    @property
    def user(self) -> str:
        """The account as the server resolved it."""

    @property
    def api_version(self) -> str:
        """The API version asked for at logon."""

    @property
    def clock_offset_s(self) -> float | None:
        """Server time minus ours at logon, in seconds, from the Date header."""

    @property
    def simulated(self) -> bool:
        """True if the server says of itself that it is simulated."""

    @property
    def certificate_sha256(self) -> str | None:
        """Fingerprint of the certificate the server showed, or None without TLS."""

    @property
    def idle_s(self) -> float:
        """Seconds since the last request of this session was answered."""

    @property
    def requests(self) -> int:
        """HTTP requests sent on this session so far, logon included."""

    @property
    def retries(self) -> int:
        """How many of them repeated an earlier one."""

    @property
    def unread_tasks(self) -> int:
        """How many rows of the newest list of all tasks could not be read."""

    @property
    def set_aside_tasks(self) -> Collection[str]:
        """Tasks whose rows could not be read, in words that are safe to show."""

    async def start_mount(self, point: RestorePointId, source: Source, os_kind: OsKind) -> Task:
        """Ask the server to mount a restore point. Sent once, never repeated here.

        Raises:
            RequestNotSent: nothing reached the server.
            RequestRefused: the service itself declined; nothing was started.
            ResponseLost: the mount may or may not have been started; so too where anybody else
                answered in the service's place.
            SessionLost: the logon session is gone.
        """

    async def task(self, task: TaskId) -> Task:
        """Read one task. NotFound means this session does not know it: nothing is proved.

        Here as everywhere only the service's own words are NotFound; a page is not.
        """

    async def stop_task(self, task: TaskId) -> None:
        """Ask the server to stop a task. Sent once, never repeated here.

        Its answer says nothing of a mount: the task and the point's mounts are to be read.

        Raises:
            RequestNotSent: nothing reached the server.
            RequestRefused: the service itself declined, or (NotFound) does not know the task.
            ResponseLost: it may or may not have been carried out.
            SessionLost: the logon session is gone.
        """

    async def tasks(self) -> Sequence[Task]:
        """Read all tasks of this session in one request."""

    async def open_tasks(self) -> Sequence[Task]:
        """Read the tasks that are not Finished, as far as the server filters."""

    async def tasks_by_id(self, ids: Iterable[TaskId]) -> Sequence[Task]:
        """Read the named tasks in one request, as far as the server filters."""

    async def mount(self, mount: Href) -> Mount:
        """Read one mount point with its volume roots."""

    async def mounts(self, point: RestorePointId, source: Source) -> Sequence[Mount]:
        """List this session's mounts of a restore point; the service's own 404 is an empty list."""

    def mount_href(self, point: RestorePointId, source: Source, number: str) -> Href:
        """Return the address of mount `number` of a point, in the family it was posted to."""

    async def unmount(self, mount: Href) -> None:
        """Remove a mount point; the service's own 404 counts as done. Safe to repeat.

        Raises:
            RequestRefused: the service itself declined, or its task has failed.
            ResponseLost: it may or may not have been removed.
        """

    async def is_mounted(self, mount: Href) -> bool:
        """Tell whether the point's list of mounts still shows this mount point."""

    def leave_open(self) -> None:
        """Do not log off at the end: something is mounted that a later process can release."""

    async def keep_alive(self) -> None:
        """Send the cheapest request there is, so that the session does not idle out."""


class InventorySession(LogonSession, Protocol):
    """The reads that find restore points."""

    @property
    def set_aside_points(self) -> Collection[str]:
        """Restore points whose rows could not be read, in words that are safe to show."""

    async def point(self, point: RestorePointId, source: Source) -> RestorePoint:
        """Read one restore point by id.

        Raises:
            NotFound: the server does not list it, or not to this account.
        """

    async def points_of_machines(
        self, names: Sequence[str], source: Source
    ) -> Sequence[RestorePoint]:
        """Read all points of the named machines, newest first, all pages."""

    async def points_of_job(self, job: str, source: Source) -> Sequence[RestorePoint]:
        """Read all points that a job made, newest first, all pages."""

    async def points_of_family(
        self, source: Source, backup_server: BackupServerName | None
    ) -> Sequence[RestorePoint]:
        """Read all points of a family, or those behind one backup server, all pages."""

    async def points_of_query(self, condition: str, source: Source) -> Sequence[RestorePoint]:
        """Read all points that a filter in the server's own language finds, all pages.

        Raises:
            RequestRefused: the server does not understand the filter.
        """

    async def see_mounts(self, point: RestorePointId, source: Source) -> None:
        """Return if this account may list a point's mounts: the same roles may make them.

        Raises:
            AccessDenied: its role may not.
            NotFound: nothing is said of the role; some servers have no list before a mount.
        """

    async def has_points_behind(self, backup_server: BackupServerName, source: Source) -> bool:
        """Tell whether any restore point of a family is behind a backup server; reads one row.

        Raises:
            RequestRefused: the server does not say.
        """


class GuestSession(InventorySession, Protocol):
    """The verbs for the files of a mounted guest, and a look at who else is there."""

    async def restores(self, *, since: datetime | None = None) -> Sequence[Activity]:
        """Read the restores that are not over, and all that began at `since` or later.

        They are as old as the server's last data collection: nothing shown proves nothing.

        Raises:
            AccessDenied: not to this role.
            RequestRefused: the server does not say, or not in words that can be read.
        """

    async def replications(self) -> Sequence[Activity]:
        """Read the machines that replication jobs work on, or will in a run that has begun.

        As old as `restores`, and it raises the same.
        """

    @property
    def endpoints(self) -> frozenset[str]:
        """IP addresses and ports where the server answers, as `address:port`; empty: not known."""

    async def other_sessions(self, known: Container[str]) -> int:
        """Count the open sessions of this account that are neither this one nor `known`."""

    async def is_alone(self, *own: Container[str]) -> bool:
        """Tell whether the server shows no logon session but this and our `own`, of any account.

        Raises:
            RequestRefused: the server does not say.
        """

    def guest_href(self, mount: Href, path: str) -> Href:
        """Return the address of a guest path below a mount; `path` begins with the volume."""

    async def entry(self, file: Href) -> FileSystemEntry:
        """Read one file or directory of a mounted guest.

        Raises:
            NotFound: there is no such path, or no such mount.
        """

    async def browse(self, directory: Href) -> Sequence[FileSystemEntry]:
        """List a directory of a mounted guest, all pages.

        Raises:
            NotFound: there is no such directory, or no such mount.
        """

    async def stage(self, file: Href) -> Task:
        """Ask for a file to be staged for download: changes nothing in the guest; repeatable.

        The finished task's `downloads` are the addresses to fetch.
        """

    async def fetch(self, download: Href, take: Callable[[bytes], None], *, limit: int) -> int:
        """Read a staged file in pieces and return its size in bytes. Repeatable from the start.

        Raises:
            MalformedResponse: it is larger than `limit` bytes, or ends before its own length.
        """

    async def restore_to_guest(self, file: Href, *, overwrite: bool) -> Task:
        """Ask for a file to be written into the original guest. Sent once, never repeated here.

        Raises:
            ForbiddenAction: this client was not told that it may write; nothing was sent.
            ResponseLost: it may or may not have been started.
        """


class EnterpriseManager(Protocol):
    """One Enterprise Manager that can be logged on to."""

    @property
    def server(self) -> ServerName:
        """Its name in the plan."""

    @property
    def fence(self) -> Fence:
        """Whether something may still be sent to it by this process."""

    @property
    def stops_tasks(self) -> bool:
        """Whether the plan lets the tasks of mounts be asked to stop there."""

    @property
    def kept(self) -> tuple[SessionId, ...]:
        """The sessions that earlier processes of this run left, as far as their tokens are known.

        The oldest first; some may be over.
        """

    def take_up(self, session: SessionId) -> AbstractAsyncContextManager[GuestSession]:
        """Use a session again that was kept, or opened here; leaving it logs off as `logon` does.

        Raises (on entering):
            SessionLost: the server has forgotten it, or nobody knows its token.
            EnterpriseManagerError: the server cannot be asked; may be tried again.
        """

    def logon(self) -> AbstractAsyncContextManager[GuestSession]:
        """Open a logon session; leaving the context logs off, shielded and bounded.

        Raises (on entering):
            RequestNotSent: unreachable, or logged on to often enough for now (LogonTooSoon, which
                says for how long): may be tried again.
            ServiceBusy: overloaded; may be tried again.
            ResponseLost, MalformedResponse: the answer cannot be used; may be tried again.
            LogonRefused, AddressUnusable, AccessDenied, CredentialError: never repeat.
        """
