"""The verbs of one logon session: find points, mount, watch tasks, read guests, unmount."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote

import anyio

from orchestrator.em import guests
from orchestrator.em import transport as limits
from orchestrator.em.facts import BackupServer, OpenSession
from orchestrator.em.families import FAMILIES, Family
from orchestrator.em.line import Line
from orchestrator.em.logon import (
    Opened,
    Token,
)
from orchestrator.em.queries import batches, quoted
from orchestrator.em.wire import Codec
from orchestrator.errors import (
    ForbiddenAction,
    GuestUnreadable,
    MalformedResponse,
    NotFound,
    RequestRefused,
    Unreadable,
)
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
    TaskState,
)

T = TypeVar("T")

UNMOUNT_TASK_TICK = 1.0
"""Seconds between looks at the task of an unmount."""


class Session:
    """One logon session; implements `ports.InventorySession`."""

    def __init__(
        self,
        line: Line,
        codec: Codec,
        opened: Opened,
        version: str,
        *,
        may_write: bool = False,
    ) -> None:
        """Made by `Client.logon` and `Client.take_up`."""
        self.server: ServerName = line.server
        self.id: SessionId = opened.id
        self.token: Token = opened.token
        self.user = opened.user
        self.api_version = version
        self.clock_offset_s = opened.clock_offset_s
        self.collections = opened.collections
        """Paths below /api/ that the account may use, lower case; empty where none were told."""
        self._line = line
        self._codec = codec
        self._may_write = may_write

    @property
    def certificate_sha256(self) -> str | None:
        """SHA-256 of the certificate the server showed."""
        return self._line.transport.certificate_sha256

    @property
    def idle_s(self) -> float:
        """Seconds since this session was last used, those of a suspended machine included."""
        return self._line.idle_s

    @property
    def requests(self) -> int:
        """HTTP requests of this session so far."""
        return self._line.transport.requests

    @property
    def retries(self) -> int:
        """How many of them repeated an earlier one."""
        return self._line.transport.retries

    # --- restore points ------------------------------------------------------------------

    async def point(self, point: RestorePointId, source: Source) -> RestorePoint:
        """Read one restore point by id.

        Raises:
            NotFound: the server does not list it, or not to this account.
        """
        family = FAMILIES[source]
        target = f"/api/{family.path}/{point}?format=Entity"
        page = await self._line.get(target, lambda: self._codec.points(family))
        if len(page.rows) != 1:
            raise MalformedResponse(f"{self.server} answered with {len(page.rows)} points, not 1")
        if page.rows[0].id != point.lower():
            raise MalformedResponse(f"{self.server} answered with another restore point")
        return page.rows[0]

    async def points_of_machines(
        self, names: Sequence[str], source: Source
    ) -> Sequence[RestorePoint]:
        """Read all points of the named machines, newest first within each request."""
        family = FAMILIES[source]
        wanted = {name.casefold() for name in names}
        found: list[RestorePoint] = []
        for batch in batches(family.machine_field, names):
            found += await self._points(family, batch)
        return [point for point in found if point.vm.casefold() in wanted]

    async def points_of_job(self, job: str, source: Source) -> Sequence[RestorePoint]:
        """Read all points that a job made, newest first.

        Agents' points do not name their job: that it was asked for is how it is known.

        Raises:
            RequestRefused: the query has no field for the jobs of this family.
        """
        family = FAMILIES[source]
        if family.job_field is None:
            raise RequestRefused(f"{family.path} cannot be asked for by job", server=self.server)
        points = await self._points(family, f"{family.job_field}=={quoted(job)}")
        return [point if point.job else replace(point, job=job) for point in points]

    async def points_of_family(
        self, source: Source, backup_server: BackupServerName | None
    ) -> Sequence[RestorePoint]:
        """Read all points of a family, or those behind one backup server, newest first."""
        condition = f"BackupServerName=={quoted(backup_server)}" if backup_server else None
        return await self._points(FAMILIES[source], condition)

    async def points_of_query(self, condition: str, source: Source) -> Sequence[RestorePoint]:
        """Read all points that a filter finds, newest first; nothing in it is changed.

        Raises:
            RequestRefused: the server does not understand it, or lists too much.
        """
        return await self._points(FAMILIES[source], condition)

    async def _points(self, family: Family, condition: str | None) -> list[RestorePoint]:
        """Read every page of one query; pages are no snapshot, so each point counts once."""
        found: dict[RestorePointId, RestorePoint] = {}
        base = f"/api/query?type={family.entity}&format=Entities&sortDesc=CreationTime"
        if condition is not None:
            base += f"&filter={quote(condition, safe='')}"
        too_many = "restore points here: select fewer, by 'backup_server' or a query"
        async for page in self._line.pages(base, lambda: self._codec.points(family), too_many):
            for point in page.rows:
                found.setdefault(point.id, point)
        return list(found.values())

    async def newest_point(self, source: Source) -> RestorePoint | None:
        """Read the newest restore point that the server lists of a family, or None.

        Raises:
            AccessDenied: the role may not list this family.
        """
        family = FAMILIES[source]
        page = await self._line.get(
            f"/api/query?type={family.entity}&format=Entities&sortDesc=CreationTime"
            "&pageSize=1&page=1",
            lambda: self._codec.points(family),
            large=True,
        )
        return max(page.rows, key=lambda point: point.created_at, default=None)

    # --- the server itself ------------------------------------------------------------------

    async def open_sessions(self) -> Sequence[OpenSession]:
        """List the logon sessions that are open, also those of other programs and accounts."""
        return await self._line.get("/api/logonSessions", self._codec.open_sessions, large=True)

    async def backup_servers(self) -> Sequence[BackupServer]:
        """List the backup servers behind this one.

        Raises:
            AccessDenied: not to this role; a File Restore Operator may not. Source: reference 2.7.
        """
        target = "/api/backupServers?format=Entity"
        return await self._line.get(target, self._codec.backup_servers, large=True)

    # --- tasks and mounts ------------------------------------------------------------------

    async def start_mount(self, point: RestorePointId, source: Source, os_kind: OsKind) -> Task:
        """Ask for a mount; sent once, never repeated here.

        Source: POST /vmReplicaPoints/{ID}/mounts answers 202 with a task that names no point.
        """
        family = FAMILIES[source]
        body = self._codec.mount_spec(os_kind) if family.takes_os_kind else b""
        _, task = await self._line.send(
            "POST",
            f"/api/{family.path}/{point}/mounts",
            self._codec.task,
            body=body,
            timeout=limits.POST,
            mount_post=True,
        )
        return task

    async def task(self, task: TaskId) -> Task:
        """Read one task."""
        found = await self._line.get(f"/api/tasks/{quote(task, safe='')}", self._codec.task)
        if found.id != task:
            raise MalformedResponse(f"{self.server} answered with another task than {task}")
        return found

    async def tasks(self) -> Sequence[Task]:
        """Read all tasks of this session in one request."""
        page = await self._line.get("/api/tasks", self._codec.tasks, large=True)
        return page.rows

    async def open_tasks(self) -> Sequence[Task]:
        """Read the tasks that are not Finished; an old server may ignore the filter."""
        return await self._tasks("State!=Finished")

    async def tasks_by_id(self, ids: Iterable[TaskId]) -> Sequence[Task]:
        """Read the named tasks in one request; an old server may answer with others."""
        return await self._tasks(",".join(f"TaskId=={quoted(task)}" for task in ids))

    async def _tasks(self, condition: str) -> Sequence[Task]:
        found: dict[TaskId, Task] = {}
        base = f"/api/query?type=Task&filter={quote(condition, safe='')}"
        async for page in self._line.pages(base, self._codec.tasks):
            for task in page.rows:
                found[task.id] = task
        return list(found.values())

    async def mount(self, mount: Href) -> Mount:
        """Read one mount point with its volume roots."""
        found = await self._line.get(mount, self._codec.mounts)
        if len(found) != 1:
            raise MalformedResponse(f"{self.server} answered with {len(found)} mounts, not 1")
        if found[0].href.rpartition("/")[2] != mount.rpartition("/")[2]:
            raise MalformedResponse(f"{self.server} answered with another mount point")
        return replace(
            found[0], roots=tuple(guests.root_of(mount, root) for root in found[0].roots)
        )

    async def mounts(self, point: RestorePointId, source: Source) -> Sequence[Mount]:
        """List this session's mounts of a point; before the first mount it may be a 404."""
        return await self._mount_list(f"/api/{FAMILIES[source].path}/{point}/mounts")

    async def see_mounts(self, point: RestorePointId, source: Source) -> None:
        """Return if this account may list a point's mounts: the same roles may make them.

        Source: reference 2.7.

        Raises:
            AccessDenied: its role may not.
            NotFound: nothing is said of the role; some servers have no list before a mount.
        """
        target = f"/api/{FAMILIES[source].path}/{point}/mounts"
        await self._line.get(target, self._codec.mounts, large=True)

    async def _mount_list(self, target: str) -> Sequence[Mount]:
        try:
            return await self._line.get(target, self._codec.mounts, large=True)
        except NotFound:
            return ()

    def mount_href(self, point: RestorePointId, source: Source, number: str) -> Href:
        """Return the address of mount `number` of a point in its own family."""
        return Href(f"/api/{FAMILIES[source].path}/{point}/mounts/{number}")

    async def is_mounted(self, mount: Href) -> bool:
        """Tell whether the list that the mount belongs to still shows it."""
        target, _, number = mount.rpartition("/")
        listed = await self._mount_list(target)
        return any(entry.href.rpartition("/")[2] == number for entry in listed)

    async def unmount(self, mount: Href) -> None:
        """Remove a mount point. A 404 says that it is gone already; safe to repeat."""
        try:
            answer, task = await self._line.send(
                "DELETE", mount, self._codec.task, timeout=limits.UNMOUNT
            )
        except NotFound:
            return
        while answer.status == 202 and task.state is not TaskState.FINISHED:
            await anyio.sleep(UNMOUNT_TASK_TICK)
            task = await self.task(task.id)

    # --- the mounted guest -------------------------------------------------------------------

    def guest_href(self, mount: Href, path: str) -> Href:
        """Return the address of a guest path below a mount, as a plan writes it.

        A backslash is a separator here; a Linux name that holds one has its own Href in the
        listing of its directory.
        Source: reference 6.2: slashes forward, `:` and `$` literal, the rest percent-encoded.
        """
        return guests.address(mount, path)

    async def entry(self, file: Href) -> FileSystemEntry:
        """Read one file or directory; some servers answer for a directory with its listing.

        Raises:
            GuestUnreadable: the answer is about something else, or cannot be read.
        """
        asked = guests.bare(file)

        async def once() -> FileSystemEntry:
            return guests.itself(
                asked, await self._line.get(asked, self._codec.entries, large=True)
            )

        return await self._readable(once)

    async def stage(self, file: Href) -> Task:
        """Stage a file for download; nothing in the guest changes, so it may be repeated."""
        return await self._restore(file, self._codec.staging_spec())

    async def restore_to_guest(self, file: Href, *, overwrite: bool) -> Task:
        """Write a file into the original guest; sent once, never repeated here."""
        if not self._may_write:
            raise ForbiddenAction("this run may not write into a guest", server=self.server)
        spec = self._codec.original_location_spec(overwrite=overwrite)
        return await self._restore(file, spec, once=True)

    async def _restore(self, file: Href, body: bytes, *, once: bool = False) -> Task:
        """Ask for a restore; one that is sent `once` is in doubt after any 500.

        Source: POST .../mounts/{n}/{path}?action=restore answers 202 with a task.
        """
        target = f"{file.partition('?')[0]}?action=restore"
        _, task = await self._line.send(
            "POST",
            target,
            self._codec.task,
            body=body,
            timeout=limits.POST,
            mount_post=once,
        )
        return task

    async def fetch(self, download: Href, take: Callable[[bytes], None], *, limit: int) -> int:
        """Read a staged file in pieces; its size in bytes. Source: GET ...?action=download."""
        return await self._line.stream(download, take, limit=limit)

    async def browse(self, directory: Href) -> Sequence[FileSystemEntry]:
        """List a directory of a mounted guest, all pages. `directory` is an entry's own Href.

        Each entry's Href lies below `directory` and means the entry's name, whatever host, mount
        or action the server's own named. A path that is no directory is its only entry.

        Raises:
            GuestUnreadable: the pages are not the listing of this directory, or cannot be read.
        """
        return await self._readable(lambda: self._browse(guests.bare(directory)))

    async def _browse(self, directory: Href) -> Sequence[FileSystemEntry]:
        found: dict[Href, FileSystemEntry] = {}
        async for page in self._line.pages(f"{directory}?action=listAll", self._codec.entries):
            if page.is_itself:
                return [guests.itself(directory, page)]
            if page.has_next and not page.rows:
                raise MalformedResponse("the listing says that there is more, and shows nothing")
            for row in page.rows:
                entry = guests.listed_in(directory, row)
                if entry.href in found:  # a mounted guest does not change: a page came twice
                    raise MalformedResponse("the listing shows an entry twice")
                found[entry.href] = entry
        return list(found.values())

    async def _readable(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask about a guest, a second time if the answer cannot be read.

        One odd file name can make the answer about its directory unreadable for ever. That
        must not look like the server's trouble, for which everything on it would wait: if
        the server answers well in between, it is the guest's.

        Raises:
            GuestUnreadable: both answers could not be read.
            EnterpriseManagerError: as for any request.
        """
        try:
            return await ask()
        except MalformedResponse:
            await self._line.keep_alive()
        except Unreadable:  # it answers well
            pass
        try:
            return await ask()
        except (MalformedResponse, Unreadable) as exc:
            raise GuestUnreadable(str(exc), server=self.server, request=exc.request) from exc

    # --- its end --------------------------------------------------------------------------

    async def keep_alive(self) -> None:
        """Use the session, by one request: it is the gate's probe, and a dead server gets few."""
        await self._line.keep_alive()

    def end(self) -> None:
        """Send nothing more on this session: whoever still holds it learns that it is gone."""
        self._line.end()

    def leave_open(self) -> None:
        """Do not log off at the end: logging off would put the mounts out of everybody's reach."""
        self._line.transport.leave_session_open = True
