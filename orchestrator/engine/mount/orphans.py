"""The closing audit: mounts of a session that no target claims.

A proxy may send a mount request twice, a service may act and answer that it did not, and a
request whose answer was lost may be carried out late. Whatever the cause, the session's own
tasks show it: a mount task that no attempt claimed is ours, and nobody waits for it. So before
every logoff the tasks are read once; what is found is awaited, removed, or named and counted,
and the session then stays open. Where that took time the tasks are read again, until they show
nothing new: another request may have been carried out meanwhile. A mount that no task of the
session accounts for is never touched: a server may show the mounts of others. A task that a target
has adopted, and that nothing proves to be the target's, accounts for a mount only while the server
shows no logon session but this run's; else the mount is named.
Source: reference, traps 43 and 48.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import anyio
from msgspec import Struct, field

from orchestrator.core.errors import RequestRefused
from orchestrator.core.events import MountLeft, MountReleased, OutOfReach, StrayFound, StrayReleased
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import (
    Href,
    Mount,
    MountKey,
    MountState,
    RestorePoint,
    RestorePointId,
    Task,
    TaskId,
)
from orchestrator.core.policy import PROOF_AFTER
from orchestrator.core.text import counted
from orchestrator.engine.adopted import point_of
from orchestrator.engine.connection import Connection
from orchestrator.engine.mount import stop
from orchestrator.engine.mount.attempt import OUT_OF_KNOWLEDGE, RunContext
from orchestrator.engine.mount.owners import Owners, is_alone
from orchestrator.engine.mount.recover import (
    SETTLING_TICK,
    SubmittedPoint,
    asked_in,
    hidden_tasks,
    last_tasks,
    unclaimed_mounts,
)
from orchestrator.engine.mount.release import take_down
from orchestrator.engine.overdue import may_mount_yet
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.log import Log

log = Log(__name__)

WAIT = 600.0
"""Seconds for which mount tasks that belong to nobody are awaited before a logoff."""

READ_WITHIN = 60.0
"""Seconds in which the tasks must be read; what a server out of reach has cannot be known."""

FORCED_WITHIN = 5.0
"""Seconds for all of it once somebody wants the run to end at once."""

UNRECORDED = "its session shows a mount task, and no record says whose it is"

LATE = "a mount request was carried out twice, or late, or in spite of its refusal"


async def audit(
    connection: Connection, server: ServerConnection, context: RunContext, *, wait: float = WAIT
) -> bool:
    """Account for every mount task of a session; True if no mount without a target may be open.

    One request (`GET /tasks`) where every task belongs to a target. Otherwise the others are
    awaited for at most `wait` seconds and their mounts removed. What cannot be removed is
    recorded: with its target (`MountLeft`, `OutOfReach`), or as the session's (`StrayFound`).
    Strays that an earlier process recorded are looked at again. Nothing is mounted here, and the
    whole may be repeated. False also where the server did not say: the session must not be
    ended then (see `Connection.audited`).
    """
    work, connection.audited = _Audit(connection, server, context), False
    why, tasks = "no answer in time", list[Task]()
    connection.unaudited = why
    with anyio.move_on_after(math.inf if wait else FORCED_WITHIN):
        try:
            tasks = await work.read_tasks()
            clean = await work.is_clean(tasks, wait)
            while tasks := await work.begun_meanwhile():
                clean = await work.is_clean(tasks, wait) and clean
        except (*OUT_OF_KNOWLEDGE, TimeoutError) as exc:
            why = str(exc) or why
        else:
            why = f"{counted(work.hidden, 'task')} of its session cannot be read"
            connection.unaudited = why if work.hidden else None
            connection.audited = clean and not work.hidden
            return connection.audited
    work.name_unread(tasks, why)
    log.warning("audit.not_made", server=server.name, why=why)
    connection.unaudited = why
    return False


class _Audit(Struct):
    connection: Connection
    server: ServerConnection
    context: RunContext
    asked: dict[RestorePointId | None, SubmittedPoint] = field(default_factory=dict)
    hidden: int = 0
    """Tasks of the session that the last answer has shown, and that cannot be read."""
    known: set[TaskId] = field(default_factory=set)
    """Tasks without a target that were dealt with, and those of them that still ran."""
    running: set[TaskId] = field(default_factory=set)
    took_time: bool = False
    removed: set[MountKey] = field(default_factory=set)
    gone: set[TaskId] = field(default_factory=set)
    """Tasks whose mounts were removed."""
    several: list[Href] = field(default_factory=list)
    """Mounts of which nobody can say which task has made them."""
    loose: dict[TaskId, set[RestorePointId]] = field(default_factory=dict)
    """Adopted tasks that may be another request's, and the points that they may have mounted."""

    async def read_tasks(self) -> list[Task]:
        """Return the tasks without a target that were not dealt with yet; TimeoutError."""
        with anyio.fail_after(READ_WITHIN):
            tasks = await self._tasks()
            if self.connection.session.unread_tasks:  # another answer may show them
                tasks = await self._tasks()
            self.hidden = await hidden_tasks(self.connection, self.server, tasks)
        return self._unknown(tasks)

    async def begun_meanwhile(self) -> list[Task]:
        """Return the tasks that began while others were dealt with; no request if none were."""
        if not self.took_time:
            return []
        self.took_time = False
        return await self.read_tasks()

    async def _tasks(self) -> list[Task]:
        tasks, self.loose = await last_tasks(self.connection, self.server)
        return tasks

    def _unknown(self, tasks: Iterable[Task]) -> list[Task]:
        return [task for task in tasks if task.id not in self.known]

    async def is_clean(self, tasks: list[Task], wait: float) -> bool:
        """Remove what these tasks have mounted, or name it; True if nothing is left."""
        doubtful = [each for each in self.context.ledger.records if self._is_doubtful(each)]
        stopped = [
            each
            for each in self.context.ledger.records
            if may_mount_yet(each, self.connection.session.id)
        ]
        if not (tasks or self.connection.strays or doubtful or stopped):
            return True
        self.took_time = True
        session = self.connection.session.id
        self.asked = {each.point.id: each for each in asked_in(self.context.ledger, session)}
        tasks = await self._awaited(tasks, wait)
        running = [task for task in tasks if not task.is_final]
        self.running.update(task.id for task in running)
        clean = True
        own = Owners(self.connection, self.server, self.context.ledger, self.asked, self.loose)
        found = await own.mounts_of([task for task in tasks if task.may_be_mounted])
        self.several = own.several
        named = [self._announce(task, mount) for task, mount in found]  # if this is cut short
        for (task, mount), told in zip(found, named, strict=True):
            clean = await self._remove(task, mount, told=told) and clean
        await self._forget_gone()
        for record in doubtful:
            await self._settle(record)
        for record in stopped:
            clean = await self._has_no_late_mount(record, wait, tasks=tasks) and clean
        self._name(running)
        self.known.update(task.id for task in tasks)
        return clean and not running and not self.connection.strays

    def _is_doubtful(self, record: MountRecord) -> bool:
        """Return whether nobody knows if a request of the target in this session has begun."""
        return (
            record.is_final
            and record.mount_state is MountState.UNKNOWN
            and record.attempts[-1].session == self.connection.session.id
            and record.attempts[-1].task is None
            and record.mount is None
        )

    async def _awaited(self, tasks: list[Task], wait: float) -> list[Task]:
        """Return the tasks without a target once all have ended, or after `wait` seconds."""
        began = anyio.current_time()
        while any(not task.is_final for task in tasks):
            if anyio.current_time() - began >= wait:
                break
            await anyio.sleep(SETTLING_TICK)
            tasks = self._unknown(await self._tasks())
        return tasks

    async def _listed(self, point: RestorePoint) -> Sequence[Mount]:
        """Return the mounts of a point that belong to no target."""
        return await unclaimed_mounts(self.connection, self.server, point)

    # --- what becomes of them ------------------------------------------------------------------

    def _announce(self, task: Task, mount: Href | None) -> bool:
        """Record that a mount of no target is open; True if a target's record names it."""
        owner = self._owner(mount)
        if mount is None:
            listed = ", ".join(self.several)
            which = "of several mounts nobody can say which is its"
            if len(self.several) == 1:
                which = "nobody can say whether the mount that is listed is its"
            self._found(task, None, f"{LATE}, and {which}: {listed}" if listed else UNRECORDED)
            return False
        told = owner is not None and self._tell(owner, mount, LATE)
        if not told:
            self._found(task, mount, LATE)
        return told

    async def _remove(self, task: Task, mount: Href | None, *, told: bool) -> bool:
        """Remove the mount of a task without a target; True if gone. `told`: with its target."""
        owner = self._owner(mount)
        if mount is None:
            return False
        why = await take_down(
            self.connection, self.server, mount, allowed=self._allowed(owner), rng=self.context.rng
        )
        ledger = self.context.ledger
        if why is None and owner is not None:
            self.removed.add(owner)
        if why is None:
            self.gone.add(task.id)
            if told and owner is not None:
                ledger.record(MountReleased(at=ledger.now(), key=owner))
            self._released(task.id)
        elif told and owner is not None:
            ledger.record(
                MountLeft(at=ledger.now(), key=owner, mount=mount, reason=f"{LATE}; {why}")
            )
        else:
            self._found(task, mount, f"{LATE}; {why}")
        return why is None

    def _owner(self, mount: Href | None) -> MountKey | None:
        """Return the target for whose restore point a mount was made."""
        parts = (mount or "").split("/")
        asked = self.asked.get(RestorePointId(parts[-3].lower())) if len(parts) > 3 else None
        return asked.key if asked is not None else None

    def _allowed(self, owner: MountKey | None) -> float:
        """Return the seconds that the plan gives an unmount."""
        if owner is not None:
            return self.context.ledger[owner].planned.timeouts.unmount
        return max(
            (each.planned.timeouts.unmount for each in self.context.ledger.records), default=300.0
        )

    def _tell(self, key: MountKey, mount: Href, why: str) -> bool:
        """Record with its target that a mount is open; False: its record does not allow it."""
        ledger = self.context.ledger
        record = ledger[key]
        here = bool(record.attempts) and (record.attempts[-1].session == self.connection.session.id)
        if not here or not record.is_final or record.may_be_open:
            return False
        ledger.record(MountLeft(at=ledger.now(), key=key, mount=mount, reason=why))
        return True

    def _found(self, task: Task, mount: Href | None, why: str) -> None:
        self.server.stray(
            self.connection,
            StrayFound(
                at=self.context.ledger.now(),
                server=self.server.name,
                session=self.connection.session.id,
                task=task.id,
                reason=why,
                mount=mount,
                point=point_of(task.mount),
            ),
        )

    def name_unread(self, tasks: Sequence[Task], why: str) -> None:
        """Record the tasks without a target whose mounts could not be read: they may be open."""
        for task in tasks:
            named = task.id in self.connection.strays or task.id in {
                *self.gone,
                *self.known,
                *self.loose,  # the session says of them that nothing is known
            }
            if not named and (task.may_be_mounted or not task.is_final):
                self._found(task, None, f"{LATE}; whether it is mounted is not known ({why})")

    def _released(self, task: TaskId) -> None:
        """Record that a stray which had been named is gone."""
        if self.connection.strays.pop(task, None) is not None:
            self.context.ledger.record(
                StrayReleased(
                    at=self.context.ledger.now(),
                    server=self.server.name,
                    session=self.connection.session.id,
                    task=task,
                )
            )

    async def _forget_gone(self) -> None:
        """Record the strays that left no mount as released, also those of an earlier process."""
        for task, stray in tuple(self.connection.strays.items()):
            if task in self.running:
                continue
            if stray.mount is not None:
                gone = not await self._is_mounted(stray.mount)
            else:
                lists = [await self._listed(asked.point) for asked in self.asked.values()]
                gone = bool(lists) and not any(lists)
            if gone:
                self._released(task)

    async def _is_mounted(self, mount: Href) -> bool:
        return await self.server.persistently(
            self.connection, lambda: self.connection.session.is_mounted(mount)
        )

    async def _settle(self, record: MountRecord) -> None:
        """Record that no mount of a doubtful target is open, once that is known."""
        attempt, point, ledger = record.attempts[-1], record.open_point, self.context.ledger
        long_ago = ledger.now() - self.server.sent_by(attempt) >= PROOF_AFTER
        known = long_ago or record.planned.key in self.removed
        if self.running or self.hidden or not known or point is None:
            return
        if not await self._listed(point):
            ledger.record(MountReleased(at=ledger.now(), key=record.planned.key))

    async def _has_no_late_mount(
        self, record: MountRecord, wait: float, *, tasks: Sequence[Task]
    ) -> bool:
        """Remove a mount that appeared after the time for which it was looked for; True if gone.

        One that may be somebody else's, or that of one of the session's `tasks` without a target,
        is named with the target, and not touched.
        """
        point, key, ledger = record.open_point, record.planned.key, self.context.ledger
        if point is None:
            return True
        mounts = await stop.shown_in_the_end(
            lambda: self._listed(point), record, ledger.now, at_once=not wait
        )
        if not mounts:
            return True
        if len(mounts) > 1 or tasks or not await self._is_alone():
            why = "its task was asked to stop, and a mount is listed that may be its own"
            if not record.may_be_open:
                ledger.record(OutOfReach(at=ledger.now(), key=key, reason=why))
            return False
        mount, late = mounts[0].href, "its mount appeared long after its task was asked to stop"
        ledger.record(MountLeft(at=ledger.now(), key=key, mount=mount, reason=late))
        why_not = await take_down(
            self.connection, self.server, mount, allowed=self._allowed(key), rng=self.context.rng
        )
        if why_not is None and await self._runs_on(record):
            why_not = "its task runs on: another request had made the mount that was removed"
            ledger.record(OutOfReach(at=ledger.now(), key=key, reason=why_not))
        elif why_not is None:
            ledger.record(MountReleased(at=ledger.now(), key=key))
        return why_not is None

    async def _runs_on(self, record: MountRecord) -> bool:
        task, session = record.attempts[-1].task, self.connection.session
        try:
            return task is not None and not (await session.task(task)).is_final
        except RequestRefused:
            return False

    async def _is_alone(self) -> bool:
        return await is_alone(self.connection, self.server, self.context.known_sessions())

    def _name(self, running: Sequence[Task]) -> None:
        """Record the tasks that still run, and every target that may own one of them."""
        ledger = self.context.ledger
        for task in running:
            self._found(task, None, f"{task.id} still runs for no target; it may yet be mounted")
        if not running:
            return
        tasks = ", ".join(sorted(task.id for task in running))
        why = f"a lost mount request may have begun late: {tasks} still runs"
        for key in dict.fromkeys(self._proved_absent()):
            if ledger[key].is_final and not ledger[key].may_be_open:
                ledger.record(OutOfReach(at=ledger.now(), key=key, reason=why))

    def _proved_absent(self) -> Iterable[MountKey]:
        for record in self.context.ledger.records:
            for attempt in record.attempts:
                if attempt.absent and attempt.session == self.connection.session.id:
                    yield record.planned.key
