"""Submissions in doubt: find out what a mount request without an answer has started.

It may or may not have been acted on, it may act later, and a running task names no restore
point. Settling happens in the same session; another session proves nothing. What counts:

1. a finished task whose link names the restore point, and its mount;
2. the session's only unclaimed task, as long as nothing else there was ever in doubt: its mount
   must then turn out to be one of the point's (`find.find_mount`);
3. the point's own list, where the server forgets tasks, or links nothing and shows no other logon
   session: a mount that was first listed after a task of nobody's was shown.

Only a link, or that nothing else can have begun it, proves that a task has made the mount
(`adopted`). Else the mount is the target's, and what the task has made is looked for in the end.
A mount that no task of the session accounts for may be a stranger's, and is never taken. That
nothing was begun is said only once nothing can begin any more.
Source: reference section 4, "Reconcile", and traps 43, 47 and 48.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import anyio
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.core.errors import NotFound, RequestRefused
from orchestrator.core.model import (
    Href,
    Mount,
    MountKey,
    MountLink,
    RestorePoint,
    RestorePointId,
    SessionId,
    Source,
    Task,
    TaskId,
)
from orchestrator.core.policy import PROOF_AFTER
from orchestrator.engine import adopted
from orchestrator.engine.adopted import keeps_tasks, others_asked, point_of
from orchestrator.engine.connection import Connection
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.server_connection import ServerConnection

LOOKS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each further look while nobody else may post; then the doubt waits aside."""

SETTLING_TICK = 5.0
"""Seconds between looks at tasks that must end before their mounts tell whose they are."""

ASIDE_TICK = 15.0
"""Seconds between looks for a request that waits aside."""


class Unsettled(Exception):
    """More than one task or mount could be the one in doubt."""


class Doubt(Struct, frozen=True, kw_only=True):
    """A mount request whose answer is lost. Times in seconds on the run's clock.

    It was sent between `sent_at` and `sent_by`: over a database an intent may have waited.
    `ends_within` are the seconds in which any mount task is expected to have ended; `is_alone`
    tells whether the server shows no other logon session.
    """

    key: MountKey
    point: RestorePoint
    sent_at: float
    sent_by: float
    is_alone: Callable[[], Awaitable[bool]]
    ends_within: float = 2400.0


class SubmittedPoint(NamedTuple):
    """A restore point that was asked for in a session, and for which target."""

    key: MountKey
    point: RestorePoint


class LookResult(NamedTuple):
    """The result of one look: what was started, or why it is not known yet that nothing was."""

    started: TaskId | Mount | None = None
    running: bool = False
    """A task that may be its own has not ended, or cannot be read."""
    unaccounted: bool = False
    """The point shows a mount that no task accounts for."""


async def first_looks(
    connection: Connection, server: ServerConnection, doubt: Doubt
) -> TaskId | Mount | None:
    """Return the task or mount that a lost POST started, claimed; None: nothing is shown so far.

    Only while the session's `posting` lock is held. Returns early where waiting there could not
    tell more.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    connection.doubts.add(doubt.key)
    for pause in (0.0, *LOOKS):
        await anyio.sleep(pause)
        try:
            seen = await look(connection, server, doubt)
        except RequestRefused:  # this look has shown nothing; the next one may
            continue
        if seen.started is not None:
            connection.doubts.discard(doubt.key)
            return seen.started
        if not connection.counts:
            break
    connection.counts = False  # it may act at any time from here on
    return None


async def outcome(
    connection: Connection, server: ServerConnection, doubt: Doubt
) -> TaskId | Mount | None:
    """Return the task or mount that a lost POST started, claimed; None once it can start nothing.

    Others may post meanwhile: nothing is found by counting.

    Raises:
        Unsettled: several could be it, or a task that may be it does not end.
        RequestRefused: the server does not say.
        SessionLost, ServerUnusable: nobody can say any more.
    """
    connection.doubts.add(doubt.key)
    try:
        while True:
            began = server.now
            last = began - doubt.sent_by >= PROOF_AFTER
            refused: RequestRefused | None = None
            seen = LookResult()
            try:
                seen = await look(connection, server, doubt)
            except RequestRefused as exc:
                refused = exc
            if seen.started is not None:
                return seen.started
            if last and not seen.running:
                if refused is not None:
                    raise refused
                if seen.unaccounted:
                    raise Unsettled("a mount is listed that no task of the session accounts for")
                return None
            if began - doubt.sent_by >= PROOF_AFTER + doubt.ends_within:
                raise Unsettled("a task that may be its own has not ended, or cannot be read")
            await anyio.sleep(_pause(doubt.sent_by + PROOF_AFTER - server.now))
    finally:
        connection.doubts.discard(doubt.key)


def _pause(remaining: float) -> float:
    """Return the seconds until the next look; one of them falls on the end of the patience."""
    if remaining <= 0:
        return SETTLING_TICK
    return max(0.1, min(ASIDE_TICK, remaining))  # what rounding leaves would move no clock


async def look(connection: Connection, server: ServerConnection, doubt: Doubt) -> LookResult:
    """Return what the session shows now of a request in doubt.

    What it has started is claimed for its target: whoever asks must take it, for nobody else will.

    Raises:
        EnterpriseManagerError: this look has shown nothing.
    """
    began = server.now
    tasks = await _tasks(connection, server)
    unclaimed = [task for task in tasks if connection.is_nobodys(task)]
    if len(unclaimed) > 1:
        connection.counts = False
    if unclaimed and connection.counts and connection.doubts <= {doubt.key}:
        connection.watcher.claimed.add(unclaimed[0].id)
        return LookResult(unclaimed[0].id)
    mounts = await unclaimed_mounts(connection, server, doubt.point)
    connection.looked(tasks, mounts, began)
    if mounts:  # their tasks may have begun since the tasks were read
        tasks = await _tasks(connection, server)
        connection.show(tasks, began)
        unclaimed = [task for task in tasks if connection.is_nobodys(task)]
    makers = [
        task
        for task in unclaimed
        if point_of(task.mount) == doubt.point.id or connection.can_have_made(task, mounts)
    ]
    if mounts:
        makers = await with_links(connection, server, makers)
    asked = asked_in(server.ledger, connection.session.id)
    alone = len(mounts) == 1 and connection.doubts <= {doubt.key} and not connection.strangers
    own = accounted(doubt.point, mounts, makers, asked, alone=alone)
    linkless = [task.id for task in makers if task.may_be_mounted and task.mount is None]
    shown = {task.id for task in tasks}
    keeps = keeps_tasks(server.ledger, connection.session.id, shown, doubt.sent_at)
    if own is None and alone and len(linkless) == 1 and await doubt.is_alone():
        others = others_asked(server.ledger, connection.session.id, doubt.point.id, server.now)
        # else its own may be forgotten
        counted = not others or (keeps and not connection.session.unread_tasks)
        own = mounts[0], linkless if counted else []
    if own is not None:
        mount, accounting = own
        server.attribute(connection, accounting, mount.href)
        return LookResult(mount)
    running = any(not task.is_final for task in unclaimed)
    running = running or bool(await hidden_tasks(connection, server, unclaimed))
    if not mounts:
        return LookResult(running=running)
    perhaps = any(task.may_be_mounted for task in unclaimed)
    if not perhaps and keeps:  # they are somebody else's
        connection.strangers = True
        return LookResult(running=running)
    forgotten = connection.lost_sight_of(doubt.sent_at, before=connection.listed[mounts[0].href])
    if alone and not running and forgotten:
        return LookResult(mounts[0])
    return LookResult(running=running, unaccounted=True)


def accounted(
    point: RestorePoint,
    mounts: Sequence[Mount],
    tasks: Iterable[Task],
    asked: Iterable[SubmittedPoint],
    *,
    alone: bool,
) -> tuple[Mount, list[TaskId]] | None:
    """Return the mount of a point that a task without a target has made, and that task.

    A link that names the point decides. One that names no point that anybody asked for leads into
    another family, so only its number does, for a mount that is `alone`: the point's only one, with
    nothing else in doubt and no stranger's mounts shown.
    """
    ended = [task for task in tasks if task.may_be_mounted]
    others = {each.point.id for each in asked} - {point.id}
    numbers = {number_of(mount.href): mount for mount in mounts}
    for task in sorted(ended, key=lambda task: point_of(task.mount) != point.id):
        named = point_of(task.mount)
        if task.mount is None or named in others:
            continue
        mount = numbers.get(task.mount.number or number_of(task.mount.href))
        if mount is not None and (named == point.id or alone):
            return mount, [task.id] if named == point.id else []
    return None


def asked_in(ledger: Ledger, session: SessionId) -> Iterator[SubmittedPoint]:
    """Yield every restore point that was requested in a session, from the journal."""
    for record in ledger.records:
        points = {point.id: point for point in record.known_points}
        for attempt in record.attempts:
            if attempt.session == session and attempt.point in points:
                yield SubmittedPoint(record.planned.key, points[attempt.point])


def number_of(mount: str) -> str:
    """Return the number of a mount, the last part of its address."""
    return mount.rpartition("/")[2]


async def unclaimed_mounts(
    connection: Connection, server: ServerConnection, point: RestorePoint, *, patience: float = 0.0
) -> Sequence[Mount]:
    """Return the mounts of a point in this session that belong to no target yet."""
    listed = await server.persistently(
        connection, lambda: connection.session.mounts(point.id, point.source), patience=patience
    )
    return [mount for mount in listed if mount.href not in connection.mounts]


async def mount_named_by(
    connection: Connection, server: ServerConnection, link: MountLink
) -> Href | None:
    """Return where the mount of a task's link is, for a point that by the records nobody requested.

    The link may name the wrong family (reference, 5.2), so its point is looked for in all of them.

    Raises:
        RequestRefused: it is in none, and of one the server did not say.
    """
    session, number, point = connection.session, link.number or number_of(link.href), point_of(link)
    others = [session.mount_href(point, source, number) for source in Source] if point else []
    unsaid: RequestRefused | None = None
    for address in dict.fromkeys((link.href, *others)):
        try:
            await server.persistently(connection, partial(session.mount, address))
        except NotFound:
            continue
        except RequestRefused as exc:
            unsaid = exc
        else:
            return address
    if unsaid is not None:
        raise unsaid
    return None


async def unclaimed_tasks(connection: Connection, server: ServerConnection) -> list[Task]:
    """Return the mount tasks of this session that belong to no target yet.

    Among them are those that a target took for its own, and whose link now names another one's
    restore point: an earlier answer may have left the link out.
    """
    tasks, _shown = await _tasks_with_links(connection, server)
    return [task for task in tasks if connection.is_nobodys(task)]


async def last_tasks(
    connection: Connection, server: ServerConnection
) -> tuple[list[Task], dict[TaskId, set[RestorePointId]]]:
    """Return the tasks that belong to no target, and those adopted that nothing proves.

    These stay their targets', and come without their links: what a link leads to may be the
    target's own. With each, the restore points that it may have mounted.
    """
    tasks, shown = await _tasks_with_links(connection, server)
    claimed = [task for task in tasks if not connection.is_nobodys(task)]
    loose = adopted.unproven(server.ledger, connection.session.id, claimed, shown)
    tasks = [replace(task, mount=None) if task.id in loose else task for task in tasks]
    return [task for task in tasks if task.id in loose or connection.is_nobodys(task)], loose


async def _tasks_with_links(
    connection: Connection, server: ServerConnection
) -> tuple[list[Task], set[TaskId]]:
    """Return the tasks that are nobody's or were adopted, and which tasks the session shows."""
    tasks, session = await _tasks(connection, server), connection.session.id
    asked = {each.point.id for each in asked_in(server.ledger, session)}
    taken = adopted.adopted_in(server.ledger, session)
    ours = [task for task in tasks if task.id in taken or connection.is_nobodys(task)]
    ours = await with_links(connection, server, ours)
    for task in ours:
        named = point_of(task.mount)
        if task.id in taken and named in asked and named != taken[task.id].point:
            connection.watcher.claimed.discard(task.id)
    return ours, {task.id for task in tasks}


async def with_links(
    connection: Connection, server: ServerConnection, tasks: Iterable[Task]
) -> list[Task]:
    """Return the tasks with their links; one that is shown without is read alone."""

    async def read(task: TaskId) -> Task:
        return await server.persistently(connection, partial(connection.session.task, task))

    return await adopted.with_links(read, tasks)


async def hidden_tasks(
    connection: Connection, server: ServerConnection, known: Iterable[Task]
) -> int:
    """Return how many tasks of this session are unread, those of targets apart.

    A row that cannot be read names no task. So the list is read again: of nobody's tasks it may
    show one that the caller does not know, who has `known` from a list that lacked it. The tasks
    of targets that it does not show are asked for one by one: each may be such a row.
    """
    if not connection.session.unread_tasks:
        return 0
    tasks = await _tasks(connection, server)
    unread, shown = connection.session.unread_tasks, {task.id for task in tasks}
    names = {task.id for task in known}
    late = sum(connection.is_nobodys(task) and task.id not in names for task in tasks)
    for task in sorted(connection.watcher.claimed - shown):
        if unread <= 0:
            break
        try:
            await server.persistently(connection, partial(connection.session.task, task))
        except NotFound:
            continue  # forgotten: no row is its own
        except RequestRefused:  # it is there, and cannot be read alone either
            pass
        unread -= 1
    return max(0, unread) + late


async def _tasks(connection: Connection, server: ServerConnection) -> Sequence[Task]:
    tasks = await server.persistently(connection, connection.session.tasks)
    connection.watcher.saw(tasks)
    return tasks
