"""The requests of one logon session: find points, mount, watch tasks, unmount."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote

import anyio
from msgspec.structs import replace

from orchestrator.core.errors import MalformedResponse, NotFound, RequestRefused
from orchestrator.core.model import (
    BackupServerName,
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
from orchestrator.core.token import KeptSession
from orchestrator.em import guests, limits
from orchestrator.em.activity import Activities
from orchestrator.em.facts import BackupServer, OpenSession
from orchestrator.em.families import FAMILIES, Family
from orchestrator.em.guest_files import GuestFiles
from orchestrator.em.logon import OpenedSession
from orchestrator.em.requests import SessionRequests
from orchestrator.em.wire import Codec, Page

T = TypeVar("T")

MOST_SET_ASIDE = 10_000
"""Rows that one session remembers as unreadable."""

LONGEST_URL = 5000
"""Characters of an address. Source: reference 18.1, trap 54: proxies refuse from 8,200 on."""
FILTER_LENGTH = LONGEST_URL - 500
"""Characters of a filter as it is sent: host, type, order and page take the rest."""
NAMES_PER_QUERY = 40
"""Machine names in one query."""
IDS_PER_QUERY = 200
"""Task ids in one query."""

UNMOUNT_TASK_TICK = 1.0
"""Seconds between looks at the task of an unmount."""


class Session(GuestFiles, Activities):
    """One logon session; implements `ports.GuestSession`."""

    def __init__(
        self,
        requests: SessionRequests,
        codec: Codec,
        opened: OpenedSession,
        version: str,
        *,
        may_write: bool = False,
    ) -> None:
        """Made by `Client.logon` and `Client.take_up`."""
        self.server: ServerName = requests.server
        self.id: SessionId = opened.kept.id
        self.kept: KeptSession = opened.kept
        """Its secrets, for the owner-only side file and nothing else."""
        self.user = opened.user
        self.api_version = version
        self.clock_offset_s = opened.clock_offset_s
        self.simulated = opened.simulated
        self.set_aside_points: dict[str, None] = {}
        """Restore points that could not be read, each said once; at most `MOST_SET_ASIDE`."""
        self.set_aside_tasks: dict[str, None] = {}
        """The same for tasks."""
        self.unread_tasks = 0
        """How many rows of the newest list of all tasks could not be read."""
        self.collections = opened.collections
        """Paths below /api/ that the account may use, lower case; empty where none were told."""
        self._requests = requests
        self._codec = codec
        self._may_write = may_write

    @property
    def certificate_sha256(self) -> str | None:
        """SHA-256 of the certificate the server showed."""
        return self._requests.transport.certificate_sha256

    def believe_denials(self) -> None:
        """Take the session for lost as soon as it is denied twice: nothing is mounted in it."""
        self._requests.denied_for = 0.0

    @property
    def endpoints(self) -> frozenset[str]:
        """IP addresses and ports where the server answers; those of all of its name's addresses."""
        return self._requests.transport.endpoints

    @property
    def idle_s(self) -> float:
        """Seconds since this session was last used, those of a suspended machine included."""
        return self._requests.idle_s

    @property
    def requests(self) -> int:
        """HTTP requests of this session so far."""
        return self._requests.transport.requests

    @property
    def retries(self) -> int:
        """How many of them repeated an earlier one."""
        return self._requests.transport.retries

    # --- restore points ------------------------------------------------------------------

    async def point(self, point: RestorePointId, source: Source) -> RestorePoint:
        """Read one restore point by id.

        Raises:
            NotFound: the server does not list it, or not to this account.
        """
        family = FAMILIES[source]
        target = f"/api/{family.path}/{point}?format=Entity"
        page = await self._requests.get(target, lambda: self._codec.points(family))
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
        """Read every page of one query; pages are no snapshot, so each point counts once.

        Raises:
            RequestRefused: also where the filter is too long to be sent.
        """
        found: dict[RestorePointId, RestorePoint] = {}
        base = f"/api/query?type={family.entity}&format=Entities&sortDesc=CreationTime"
        if condition is not None and not fits(condition):
            raise RequestRefused(
                "the text asked for is too long for an address that every proxy passes on",
                server=self.server,
            )
        if condition is not None:
            base += f"&filter={quote(condition, safe='')}"
        too_many = "restore points here: select fewer, by 'backup_server' or a query"
        async for page in self._requests.pages(base, lambda: self._codec.points(family), too_many):
            _remember(self.set_aside_points, page.set_aside)
            for point in page.rows:
                found.setdefault(point.id, point)
        return list(found.values())

    async def has_points_behind(self, backup_server: BackupServerName, source: Source) -> bool:
        """Return whether any restore point of a family is behind a backup server; reads one row.

        Roles that may not list backup servers may ask this. Source: reference 2.7 and 3.2.

        Raises:
            RequestRefused: the server does not say.
        """
        family = FAMILIES[source]
        condition = quote(f"BackupServerName=={quoted(backup_server)}", safe="")
        page = await self._first_point(family, f"filter={condition}")
        return bool(page.rows or page.set_aside)

    async def newest_point(self, source: Source) -> RestorePoint | None:
        """Read the newest restore point that the server lists of a family, or None.

        Raises:
            AccessDenied: the role may not list this family.
        """
        page = await self._first_point(FAMILIES[source], "sortDesc=CreationTime")
        return max(page.rows, key=lambda point: point.created_at, default=None)

    async def _first_point(self, family: Family, which: str) -> Page[RestorePoint]:
        target = f"/api/query?type={family.entity}&format=Entities&{which}&pageSize=1&page=1"
        return await self._requests.get(target, lambda: self._codec.points(family), large=True)

    # --- the server itself ------------------------------------------------------------------

    async def open_sessions(self) -> Sequence[OpenSession]:
        """List the logon sessions that are open, also those of other programs and accounts."""
        return await self._requests.get(
            "/api/logonSessions", self._codec.open_sessions, large=True, shows_sessions=True
        )

    async def other_sessions(self, known: Container[str]) -> int:
        """Count the open sessions of this account that are neither this one nor `known`.

        Their ids go nowhere: each may be worth a token. Source: reference 16.

        Raises:
            AccessDenied: not to this role.
        """
        return sum(
            each.is_of(self.user) and each.id != self.id and each.id not in known
            for each in await self.open_sessions()
        )

    async def is_alone(self, *own: Container[str]) -> bool:
        """Return whether the server shows no logon session but this and our `own`, of any account.

        Raises:
            AccessDenied: not to this role.
        """
        others = (each.id for each in await self.open_sessions() if each.id != self.id)
        return all(any(session in ids for ids in own) for session in others)

    async def backup_servers(self) -> Sequence[BackupServer]:
        """List the backup servers behind this one.

        Raises:
            AccessDenied: not to this role; a File Restore Operator may not. Source: reference 2.7.
        """
        target = "/api/backupServers?format=Entity"
        return await self._requests.get(target, self._codec.backup_servers, large=True)

    # --- tasks and mounts ------------------------------------------------------------------

    async def start_mount(self, point: RestorePointId, source: Source, os_kind: OsKind) -> Task:
        """Ask for a mount; sent once, never repeated here.

        Source: POST /vmReplicaPoints/{ID}/mounts answers 202 with a task that names no point.
        """
        family = FAMILIES[source]
        body = self._codec.mount_spec(os_kind) if family.takes_os_kind else b""
        _, task = await self._requests.send(
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
        found = await self._requests.get(f"/api/tasks/{quote(task, safe='')}", self._codec.task)
        if found.id != task:
            raise MalformedResponse(f"{self.server} answered with another task than {task}")
        return found

    async def stop_task(self, task: TaskId) -> None:
        """Ask for a task to be stopped; sent once, never repeated here. Source: reference 5.3."""
        target = f"/api/tasks/{quote(task, safe='')}"
        await self._requests.send(
            "DELETE", target, self._codec.task, timeout=limits.STOP, never_again=True
        )

    async def tasks(self) -> Sequence[Task]:
        """Read all tasks of this session in one request."""
        page = await self._requests.get("/api/tasks", self._codec.tasks, large=True)
        _remember(self.set_aside_tasks, page.set_aside)
        self.unread_tasks = len(page.set_aside)
        return page.rows

    async def open_tasks(self) -> Sequence[Task]:
        """Read the tasks that are not Finished; an old server may ignore the filter."""
        return await self._tasks("State!=Finished")

    async def tasks_by_id(self, ids: Iterable[TaskId]) -> Sequence[Task]:
        """Read the named tasks, in one request if it can be; an old server may show others."""
        found: list[Task] = []
        for batch in batches("TaskId", ids, IDS_PER_QUERY):
            found += await self._tasks(batch)
        return found

    async def _tasks(self, condition: str) -> Sequence[Task]:
        found: dict[TaskId, Task] = {}
        base = f"/api/query?type=Task&filter={quote(condition, safe='')}"
        async for page in self._requests.pages(base, self._codec.tasks):
            _remember(self.set_aside_tasks, page.set_aside)
            for task in page.rows:
                found[task.id] = task
        return list(found.values())

    async def mount(self, mount: Href) -> Mount:
        """Read one mount point with its volume roots."""
        found = await self._requests.get(mount, self._codec.mounts)
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
        await self._requests.get(target, self._codec.mounts, large=True)

    async def _mount_list(self, target: str) -> Sequence[Mount]:
        try:
            return await self._requests.get(target, self._codec.mounts, large=True)
        except NotFound:
            return ()

    def mount_href(self, point: RestorePointId, source: Source, number: str) -> Href:
        """Return the address of mount `number` of a point in its own family."""
        return Href(f"/api/{FAMILIES[source].path}/{point}/mounts/{number}")

    async def is_mounted(self, mount: Href) -> bool:
        """Return whether the list that the mount belongs to still shows it."""
        target, _, number = mount.rpartition("/")
        listed = await self._mount_list(target)
        return any(entry.href.rpartition("/")[2] == number for entry in listed)

    async def unmount(self, mount: Href) -> None:
        """Remove a mount point. The service's own 404 means that it is gone; safe to repeat.

        Whether it is gone in the end, the point's own list tells.

        Raises:
            RequestRefused: the server declined, or its task of the unmount has failed.
            ResponseLost: it may have been removed.
        """
        try:
            answer, task = await self._requests.send(
                "DELETE", mount, self._codec.task, timeout=limits.UNMOUNT
            )
        except NotFound:
            return
        while answer.status == 202 and task.state is not TaskState.FINISHED:
            await anyio.sleep(UNMOUNT_TASK_TICK)
            task = await self.task(task.id)
        if answer.status == 202 and task.success is False:
            raise RequestRefused(
                f"{self.server} did not unmount: {task.message or 'it gives no reason'!r}",
                server=self.server,
                words=task.message,
            )

    # --- its end --------------------------------------------------------------------------

    async def keep_alive(self) -> None:
        """Use the session, by one request: the circuit breaker's probe; a dead server gets few."""
        await self._requests.keep_alive()

    def end(self) -> None:
        """Send nothing more on this session: later calls raise that it is gone."""
        self._requests.end()

    def leave_open(self) -> None:
        """Do not log off at the end: after a logoff nobody could remove the mounts."""
        self._requests.transport.leave_session_open = True


def _remember(known: dict[str, None], rows: Iterable[str]) -> None:
    """Add the rows that were set aside; the same row, read again, is added once."""
    for words in rows:
        if len(known) < MOST_SET_ASIDE:
            known[words] = None


def quoted(value: str) -> str:
    """Return `value` as a filter literal: in double quotes, a quote inside doubled.

    Source: reference 3.2; an unquoted value with spaces silently matches something else.
    """
    return '"' + value.replace('"', '""') + '"'


def fits(condition: str) -> bool:
    """Return whether a filter is short enough to be sent."""
    return len(quote(condition, safe="")) <= FILTER_LENGTH


def batches(field: str, values: Iterable[str], most: int = NAMES_PER_QUERY) -> Iterable[str]:
    """Yield filters that name several values each, short enough for one URL.

    A value that is too long on its own is a filter on its own.
    """
    batch: list[str] = []
    size = 0
    for value in dict.fromkeys(values):
        condition, length = _condition(field, value)
        if batch and (len(batch) >= most or size + length > FILTER_LENGTH):
            yield ",".join(batch)
            batch, size = [], 0
        batch.append(condition)
        size += length
    if batch:
        yield ",".join(batch)


@lru_cache(maxsize=2048)
def _condition(field: str, value: str) -> tuple[str, int]:
    """Return a condition of a filter, and what it and a comma take of a URL.

    Tasks are asked for again and again, always by the same ids.
    """
    condition = f"{field}=={quoted(value)}"
    return condition, len(quote(condition, safe="")) + 3
