"""A logon session that follows a script: enough of a server to test one part of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import anyio

from orchestrator.core.errors import NotFound
from orchestrator.core.model import (
    BackupServerName,
    Href,
    Mount,
    MountLink,
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


@dataclass(slots=True)
class ScriptedTask:
    """One task: Running, OperationFinished from `claims_at` on, Finished from `ends_at` on."""

    ends_at: float
    claims_at: float | None = None
    success: bool = True
    operation: str = "MountRestorePoint"
    mount: MountLink | None = None

    def seen(self, task: TaskId) -> Task:
        """Return the task as the server would show it now."""
        now = anyio.current_time()
        if now >= self.ends_at:
            state, success = TaskState.FINISHED, self.success
        elif self.claims_at is not None and now >= self.claims_at:
            state, success = TaskState.OPERATION_FINISHED, True
        else:
            return Task(id=task, state=TaskState.RUNNING, operation=self.operation)
        return Task(
            id=task, state=state, operation=self.operation, success=success, mount=self.mount
        )


@dataclass(slots=True)
class ScriptedSession:
    """Shows `script` in every way of reading; `asked` holds the reads in order.

    An answer is what was true when the read arrived; it takes `latency` seconds to come back.
    `hides` names ways that leave every task out, `fails` what a way raises instead.
    """

    script: dict[TaskId, ScriptedTask] = field(default_factory=dict)
    latency: float = 0.0
    hides: set[str] = field(default_factory=set)
    fails: dict[str, Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    listed: list[Mount] = field(default_factory=list)
    listed_of: dict[RestorePointId, list[Mount]] = field(default_factory=dict)
    appears_after: dict[TaskId, tuple[int, ScriptedTask]] = field(default_factory=dict)
    server: ServerName = ServerName("hq")
    id: SessionId = SessionId("session-1")
    user: str = "u"
    api_version: str = "v1_7"
    clock_offset_s: float | None = None
    certificate_sha256: str | None = None
    simulated: bool = False
    endpoints: frozenset[str] = frozenset()
    idle_s: float = 0.0
    requests: int = 0
    retries: int = 0
    unread_tasks: int = 0
    set_aside_tasks: list[str] = field(default_factory=list)
    unreadable: set[TaskId] = field(default_factory=set)
    """Tasks whose rows no list shows."""
    set_aside_points: list[str] = field(default_factory=list)

    def begin(self, count: int, *, ends_at: float, first: int = 0) -> list[TaskId]:
        """Add tasks that all end at the same time, and return their ids."""
        ids = [TaskId(f"task-{n}") for n in range(first, first + count)]
        self.script.update({task: ScriptedTask(ends_at) for task in ids})
        return ids

    async def task(self, task: TaskId) -> Task:
        """Show one task, or say that there is none."""
        await self._arrive("one", 1)
        if task not in self.script:
            raise NotFound(f"no {task}")
        found = self.script[task].seen(task)
        await anyio.sleep(self.latency)
        return found

    async def tasks(self) -> Sequence[Task]:
        """Show everything; what `appears_after` so many lists is added before the next."""
        lists = self.asked.count("list")
        self.script.update({t: new for t, (n, new) in self.appears_after.items() if lists >= n})
        return await self._answer("list", self.script)

    async def open_tasks(self) -> Sequence[Task]:
        """Show what is not Finished."""
        running = [task for task, fate in self.script.items() if not fate.seen(task).is_final]
        return await self._answer("open", running)

    async def tasks_by_id(self, ids: Iterable[TaskId]) -> Sequence[Task]:
        """Show the named tasks that there are."""
        wanted = list(ids)
        return await self._answer("ids", wanted)

    async def keep_alive(self) -> None:
        """Count as a request, and no more."""
        await self._arrive("alive", 0)

    async def _answer(self, way: str, ids: Iterable[TaskId]) -> Sequence[Task]:
        wanted = list(ids)
        await self._arrive(way, len(wanted))
        hidden = way in self.hides
        there = [t for t in wanted if t in self.script and t not in self.unreadable]
        shown = [] if hidden else [self.script[t].seen(t) for t in there]
        await anyio.sleep(self.latency)
        return shown

    async def _arrive(self, way: str, size: int) -> None:
        self.asked.append(way)
        self.sizes.append(size)
        if way in self.fails:
            raise self.fails[way]

    # --- what no script needs ------------------------------------------------------------

    async def start_mount(self, point: RestorePointId, source: Source, os_kind: OsKind) -> Task:
        """Is not in the script."""
        _unexpected(point, source, os_kind)

    async def stop_task(self, task: TaskId) -> None:
        """Is not in the script."""
        _unexpected(task)

    async def mount(self, mount: Href) -> Mount:
        """Is not in the script."""
        _unexpected(mount)

    async def mounts(self, point: RestorePointId, source: Source) -> Sequence[Mount]:
        """Show the mounts in `listed_of` for this point, and those in `listed` for any."""
        _ = source
        found = (*self.listed, *self.listed_of.get(point, ()))
        await self._arrive("mounts", len(found))
        return found

    def mount_href(self, point: RestorePointId, source: Source, number: str) -> Href:
        """Is not in the script."""
        _unexpected(point, source, number)

    async def unmount(self, mount: Href) -> None:
        """Is not in the script."""
        _unexpected(mount)

    async def is_mounted(self, mount: Href) -> bool:
        """Is not in the script."""
        _unexpected(mount)

    def leave_open(self) -> None:
        """Let nobody log off: here nobody does."""

    async def point(self, point: RestorePointId, source: Source) -> RestorePoint:
        """Is not in the script."""
        _unexpected(point, source)

    async def points_of_machines(
        self, names: Sequence[str], source: Source
    ) -> Sequence[RestorePoint]:
        """Is not in the script."""
        _unexpected(names, source)

    async def points_of_job(self, job: str, source: Source) -> Sequence[RestorePoint]:
        """Is not in the script."""
        _unexpected(job, source)

    async def points_of_family(
        self, source: Source, backup_server: BackupServerName | None
    ) -> Sequence[RestorePoint]:
        """Is not in the script."""
        _unexpected(source, backup_server)

    async def points_of_query(self, condition: str, source: Source) -> Sequence[RestorePoint]:
        """Is not in the script."""
        _unexpected(condition, source)


def _unexpected(*arguments: object) -> NoReturn:
    raise AssertionError(f"not in the script: {arguments}")
