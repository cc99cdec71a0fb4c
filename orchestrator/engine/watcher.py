"""The watcher: one per logon session, one batch read per tick whatever the number of tasks.

Each tick takes a snapshot of the tasks somebody waits for *before* it asks (a task accepted
meanwhile would look vanished), then reads as little as the server has been seen to support:

1. up to 140 tasks: the query for exactly these ids, finished or not, in one request;
2. more, or no query for ids: the query for `State!=Finished` (it stays flat however long the
   run is), and the ids that are not in its answer by id;
3. a server that does not filter: `GET /tasks`, the whole list;
4. whatever is still missing: one GET each, and only that GET's "no such task" counts. A task
   whose own answer cannot be read is asked for again, as long as somebody waits for it.

Support is observed, never assumed: an answer that leaves out a task which a single GET then
shows alive takes that way of reading away for the rest of the session, unless rows of that answer
could not be read: then it may have been one of those.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from enum import Enum

import anyio
from msgspec import Struct, field

from orchestrator.core.errors import (
    AnsweredByPage,
    NotFound,
    OrchestratorError,
    RequestRefused,
    ServiceBusy,
    SessionLost,
    Unreadable,
)
from orchestrator.core.model import Task, TaskId, TaskState
from orchestrator.core.policy import WatchPolicy
from orchestrator.core.ports.server import LogonSession
from orchestrator.engine.bounded import set_within
from orchestrator.log import Log

log = Log(__name__)

IDS_PER_READ = 140
"""Task ids in one query: its URL stays below 5,000 characters. Source: reference, trap 54."""

ALONE_CEILING = 30.0
"""Seconds between two reads of a task whose own answer cannot be read, at most."""

BIRTH_GUESS = 2.0
"""Seconds a task is expected to take while nothing else is known; its age takes over."""

EARLY = 0.5
"""The share of the seconds that it should take after which a task may have ended."""

RECENT = 30
"""Tasks whose seconds are remembered: what the shortest of them took, another may take."""


class TaskVanished(Exception):
    """The session no longer knows the task: its outcome is unknown."""


class TaskEndless(TaskVanished):
    """The task has not ended in all the time that it was given; it may yet mount something."""


class _ReadMethod(Enum):
    """A way of reading many tasks at once."""

    BY_ID = "query by id"
    OPEN = "query of open tasks"
    LIST = "task list"


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


class _AwaitedTask(Struct):
    """One awaited task."""

    accepted_at: float
    expected: float | None
    observe: Callable[[Task], None]
    settled: asyncio.Future[None] = field(default_factory=_future)
    """An event would take five times the memory: a thousand tasks may be awaited."""
    state: TaskState = TaskState.RUNNING
    task: Task | None = None
    error: Exception | None = None
    omitted_by: frozenset[_ReadMethod] = frozenset()
    alone_pause: float = 1.0
    """Seconds to wait before it is read alone once more, after it could not be."""
    alone_at: float = 0.0
    seen_at: float = 0.0
    """When it was last seen unfinished."""

    def settle(self) -> None:
        """Let who waits go on. Safe to repeat, and after nobody waits any more."""
        if not self.settled.done():
            self.settled.set_result(None)

    def lasting(self, now: float, usual: float) -> float:
        """Return its seconds in all: what has run longer goes on for about as long again."""
        return max(usual if self.expected is None else self.expected, now - self.accepted_at)

    def earliest(self, now: float, shortest: float) -> float:
        """Return in how many seconds it may have ended; it is negative from then on."""
        first = shortest if self.expected is None else self.expected * EARLY
        return self.accepted_at + first - now


class Watcher:
    """Watches the tasks of one logon session."""

    def __init__(
        self,
        session: LogonSession,
        policy: WatchPolicy,
        persistently: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
    ) -> None:
        """`persistently` repeats a read until the server answers, or raises for good."""
        self._session = session
        self._policy = policy
        self._persistently = persistently
        self._watched: dict[TaskId, _AwaitedTask] = {}
        self._wanted = anyio.Event()
        self._ways = set(_ReadMethod)
        self._seen_s = 0.0
        self._seen = 0
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._shortest = 0.0
        self._answer_s = 0.0
        """Seconds that the last look took; none once nothing has been watched since."""
        self._due = math.inf
        self._sooner = anyio.Event()
        self._ended: Exception | None = None
        self._looked = anyio.Event()
        self.claimed: set[TaskId] = set()
        """Every task that ever belonged to a target of ours in this session."""
        self.unread: set[TaskId] = set()
        """Tasks whose last answer could not be read, so that nobody knows whether they run."""

    @property
    def in_flight(self) -> int:
        """The tasks that are awaited now."""
        return len(self._watched)

    async def finished(
        self,
        task: TaskId,
        *,
        expected: float | None = None,
        observe: Callable[[Task], None] = lambda task: None,
    ) -> Task:
        """Return the task once it is Finished, with whatever success.

        `expected` are the seconds it should take, if known; `observe` is told of states that
        are not final. May be called again for a task after a cancelled wait.

        Raises:
            TaskVanished: the session does not know the task any more.
            SessionLost: the session is gone.
        """
        if self._ended is not None:
            raise self._ended
        watched = _AwaitedTask(anyio.current_time(), expected, observe)
        self.claimed.add(task)
        self._watched[task] = watched
        self._wanted.set()
        if expected is not None or self._seen:  # it may be shorter than those that are watched
            self._look_by(watched.accepted_at + self._pause([watched]))
        try:
            await watched.settled
        finally:
            self._watched.pop(task, None)
        if watched.error is not None:
            raise watched.error
        if watched.task is None:
            raise TaskVanished(task)
        return watched.task

    async def looked(self) -> None:
        """Return once all awaited tasks were read again; at once if there are none.

        A read that is under way may have been answered before: it is followed by another one.
        """
        for _ in range(2):
            if self._watched and self._ended is None:
                self._look_by(anyio.current_time() + self._policy.shortest)
                await self._looked.wait()

    def look_soon(self) -> None:
        """Have all awaited tasks read now, whenever their next read would be due."""
        self._look_by(anyio.current_time())

    def saw(self, tasks: Sequence[Task]) -> None:
        """Use what a read for another purpose showed: with all awaited tasks it counts as a look.

        It may have been answered before the watcher's own, so it says only what has ended.
        """
        for task in tasks:
            if task.is_final:
                self._settle(task)
        if self._due < math.inf and self._watched.keys() <= {task.id for task in tasks}:
            self._due = anyio.current_time() + self._pause(self._watched.values())

    async def serve(self) -> None:
        """Read and settle until cancelled or the session ends; then every wait ends with an error.

        Raises:
            SessionLost: the session is gone.
            ServerUnusable: the server was given up.
            EnterpriseManagerError: no way of reading tasks is left.
        """
        try:
            while True:
                await self._wanted.wait()
                if not self._watched:
                    self._wanted = anyio.Event()
                    self._answer_s = 0.0
                    continue
                await self._wait()
                await self._persistently(self._tick)
                self._shortest = min(self._recent, default=0.0)
                self._looked.set()
                self._looked = anyio.Event()
        except (OrchestratorError, anyio.get_cancelled_exc_class()) as exc:
            self._end(exc)  # after a bug whoever serves it ends those who wait
            raise

    def _end(self, exc: BaseException) -> None:
        error = exc if isinstance(exc, OrchestratorError) else None
        self._ended = error or SessionLost(
            "the session is no longer watched", server=self._session.server
        )
        for watched in self._watched.values():
            watched.error = self._ended
            watched.settle()

    async def _wait(self) -> None:
        """Sleep until the next read is due; that may change meanwhile."""
        self._look_by(anyio.current_time() + self._pause(self._watched.values()))
        while (left := self._due - anyio.current_time()) > 0:
            self._sooner = anyio.Event()
            await set_within(self._sooner, left)
        self._due = math.inf

    def _look_by(self, due: float) -> None:
        """Make the next read no later than that."""
        if due < self._due:
            self._due = due
            self._sooner.set()

    def _pause(self, tasks: Collection[_AwaitedTask]) -> float:
        """Return the seconds until all watched tasks should be read, for the sake of these.

        Those count that may have ended; while there are none, the first one that may. What the last
        answer showed is as old as the answer took, so that counts towards the pause between two
        looks; what is left is at least as long as the answer took, but no longer than the pause.
        """
        now = anyio.current_time()
        usual = self._seen_s / self._seen if self._seen else BIRTH_GUESS
        earliest = [(task.earliest(now, self._shortest), task) for task in tasks]
        nearest = min((seconds for seconds, _ in earliest), default=0.0)
        ripe = [task for seconds, task in earliest if seconds <= max(nearest, 0.0)]
        expected = sum(task.lasting(now, usual) for task in ripe) / len(ripe) if ripe else usual
        pause = self._policy.interval(
            in_flight=len(self._watched), expected=expected, nearest=nearest
        )
        if not (self._seen or any(task.expected is not None for task in tasks)):
            pause = max(pause, self._policy.growing(-nearest))
        if nearest > 0:
            return pause
        return max(pause - self._answer_s, min(pause, self._answer_s))

    async def _tick(self) -> None:
        ways, began = set(self._ways), anyio.current_time()
        try:
            await self._read_all()
            self._answer_s = anyio.current_time() - began
        except RequestRefused:
            self._ways = ways  # it fails whatever is asked: that says nothing of the ways
            raise

    async def _read_all(self) -> None:
        missing = set(self._watched)
        if len(missing) > IDS_PER_READ or _ReadMethod.BY_ID not in self._ways:
            missing = await self._read(_ReadMethod.OPEN, missing)
        ids = sorted(missing)
        for start in range(0, len(ids), IDS_PER_READ):
            some = set(ids[start : start + IDS_PER_READ])
            missing = (missing - some) | await self._read(_ReadMethod.BY_ID, some)
        if missing and not self._ways & {_ReadMethod.BY_ID, _ReadMethod.OPEN}:
            missing = await self._read(_ReadMethod.LIST, missing)
        await self._read_alone(sorted(missing))

    async def _read_alone(self, tasks: Iterable[TaskId]) -> None:
        """Read tasks one by one. An error with one task does not count against the server.

        Raises:
            RequestRefused: there are several, and all of them were refused.
        """
        refused: dict[TaskId, RequestRefused] = {}
        for task in tasks:
            watched = self._watched.get(task)
            if watched is None or anyio.current_time() < watched.alone_at:
                continue
            try:
                await self._read_one(task)
            except ServiceBusy:
                raise
            except (Unreadable, AnsweredByPage) as exc:  # the server was asked: it is well
                self._put_off(task, exc)
            except RequestRefused as exc:
                refused[task] = exc
        if len(refused) > 1 and len(refused) >= len(self._watched):
            raise next(iter(refused.values()))
        for task, why in refused.items():
            self._put_off(task, why)

    def _put_off(self, task: TaskId, why: RequestRefused) -> None:
        """Read a task that cannot be read less often; every wait for it has a time limit."""
        watched = self._watched.get(task)
        if watched is None:
            return
        if not watched.alone_at:
            log.warning("task.unreadable", server=self._session.server, task=task, why=str(why))
        self.unread.add(task)
        watched.alone_pause = min(watched.alone_pause * 2, ALONE_CEILING)
        watched.alone_at = anyio.current_time() + watched.alone_pause

    async def _read(self, way: _ReadMethod, wanted: set[TaskId]) -> set[TaskId]:
        """Read in one way; return the wanted tasks that it did not show."""
        if way not in self._ways:
            return wanted
        try:
            tasks = await self._ask(way, wanted)
        except (ServiceBusy, SessionLost):
            raise
        except RequestRefused as exc:
            self._drop(way, str(exc))
            return wanted
        shown = self._settle_all(tasks, wanted)
        omitted = wanted - shown
        if len(omitted) > len(self._session.set_aside_tasks):
            for task in omitted.intersection(self._watched):
                self._watched[task].omitted_by |= {way}
        return omitted

    async def _ask(self, way: _ReadMethod, wanted: set[TaskId]) -> Iterable[Task]:
        if way is _ReadMethod.BY_ID:
            return await self._session.tasks_by_id(sorted(wanted))
        if way is _ReadMethod.OPEN:
            return await self._session.open_tasks()
        return await self._session.tasks()

    def _settle_all(self, tasks: Iterable[Task], wanted: set[TaskId]) -> set[TaskId]:
        answered = [task for task in tasks if task.id in wanted]
        for task in answered:
            self._settle(task)
        return {task.id for task in answered}

    async def _read_one(self, task: TaskId) -> None:
        """Read one task that no batch showed; only this answer can be "vanished"."""
        watched = self._watched.get(task)
        if watched is None:
            return
        try:
            found = await self._session.task(task)
        except NotFound as exc:
            watched.error = TaskVanished(str(exc))
            watched.settle()
            return
        for way in watched.omitted_by:
            if not (way is _ReadMethod.OPEN and found.state is TaskState.FINISHED):
                self._drop(way, f"it did not show {task}")
        watched.omitted_by = frozenset()
        self._settle(found)

    def _settle(self, task: Task) -> None:
        self.unread.discard(task.id)
        watched = self._watched.get(task.id)
        if watched is None:
            return
        if task.is_final:
            self._seen += 1
            self._seen_s += anyio.current_time() - watched.accepted_at
            self._remember(watched)
            watched.task = task
            watched.settle()
            return
        watched.seen_at = anyio.current_time()
        if task.state is not watched.state:
            watched.state = task.state
            watched.observe(task)

    def _remember(self, watched: _AwaitedTask) -> None:
        """Note how long a task has certainly run, or that it may have ended before it was due."""
        certain = watched.seen_at - watched.accepted_at
        self._recent.append(certain if certain >= self._shortest else self._shortest * 0.9)

    def _drop(self, way: _ReadMethod, why: str) -> None:
        if way in self._ways:
            self._ways.discard(way)
            log.info("watcher.way_dropped", server=self._session.server, way=way.value, why=why)
