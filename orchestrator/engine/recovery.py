"""Submissions in doubt: who owns the unknown task of this session?

A mount POST whose answer is lost may or may not have been acted on, and a running task names
no restore point. Because only one POST per session is unanswered at a time, a mount task
that nobody has claimed must be the one in doubt. Settling happens in the same session and
while its posting lock is held; another session proves nothing.
Source: reference section 4, "Reconcile".
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from orchestrator.engine.site import Connection, Site
from orchestrator.errors import RequestRefused
from orchestrator.model import Mount, RestorePoint, Task, TaskId, TaskState

LOOKS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each further look. A server that answered all and shows nothing began nothing."""

SETTLING_TICK = 5.0
"""Seconds between looks at tasks that must end before their mounts tell whose they are."""

MOUNT_OPERATIONS = frozenset({"MountRestorePoint", ""})
"""What a mount task calls itself; an absent Operation is not held against it."""


class Unsettled(Exception):
    """More than one task or mount could be the one in doubt."""


async def find_started(
    connection: Connection, site: Site, point: RestorePoint
) -> TaskId | Mount | None:
    """Return what the lost POST started, claimed, or None if it started nothing.

    Its task, or, where the server has purged a finished task already, its mount: proved
    absent means that neither is there.

    Raises:
        Unsettled: several could be it; nobody can say which.
        RequestRefused: the server does not say.
        SessionLost: the session is gone, and the proof with it.
        ServerUnusable: the server was given up.
    """
    refused: RequestRefused | None = None
    for pause in (0.0, *LOOKS):  # the longest pause must be followed by a look
        await anyio.sleep(pause)
        try:
            started = await _look(connection, site, point)
        except Unsettled:
            connection.unsettled = True
            raise
        except RequestRefused as exc:  # this look has shown nothing; the next one may
            refused = exc
        else:
            refused = None
            if started is not None:
                return started
    if refused is not None:
        connection.unsettled = True
        raise refused
    return None


async def _look(connection: Connection, site: Site, point: RestorePoint) -> TaskId | Mount | None:
    """Return the task or mount that the lost POST has started, claimed, if it shows by now."""
    tasks = await unclaimed_tasks(connection, site)
    if len(tasks) > 1 or (tasks and connection.unsettled):
        raise Unsettled("several tasks of this session could be the one in doubt")
    if tasks:
        connection.watcher.claimed.add(tasks[0].id)
        return tasks[0].id
    mounts = await unclaimed_mounts(connection, site, point)
    if len(mounts) > 1:
        raise Unsettled("several mounts of the restore point could be the one in doubt")
    if not mounts:
        return None
    late = await unclaimed_tasks(connection, site)  # it may have begun since the tasks were read
    site.attribute(connection, (task.id for task in late))
    return mounts[0]


async def find_all_started(
    connection: Connection, site: Site, points: Sequence[RestorePoint]
) -> Sequence[TaskId | Mount | None]:
    """Return what several lost POSTs started, in the order of their restore points.

    After a crash the answers of several POSTs may be missing from the journal. A finished
    mount tells whose it is by its restore point, so their tasks are awaited first, however
    long they run: the caller sets the limit.

    Raises:
        Unsettled: a task succeeded, and none of the points shows its mount.
        RequestRefused, SessionLost, ServerUnusable: as `find_started`.
    """
    if len(points) == 1:
        return [await find_started(connection, site, points[0])]
    found: list[Mount | None] = [None] * len(points)
    tasks: Sequence[Task] = ()
    refused: RequestRefused | None = None
    for pause in (0.0, *LOOKS):
        await anyio.sleep(pause)
        try:
            tasks = await _all_finished(connection, site)
            for place, point in enumerate(points):
                if found[place] is None:
                    found[place] = await _new_mount(connection, site, point)
        except RequestRefused as exc:  # this look has shown less; the next one may show it
            refused = exc
            continue
        refused = None
        if all(found):
            break
    if refused is not None:
        raise refused
    return await _attributed(connection, site, found, tasks)


async def _all_finished(connection: Connection, site: Site) -> Sequence[Task]:
    """Return the mount tasks that nobody has claimed, once all of them have finished."""
    tasks = await unclaimed_tasks(connection, site)
    while any(task.state is not TaskState.FINISHED for task in tasks):
        await anyio.sleep(SETTLING_TICK)
        tasks = await unclaimed_tasks(connection, site)
    return tasks


async def _attributed(
    connection: Connection, site: Site, found: Sequence[Mount | None], tasks: Sequence[Task]
) -> list[TaskId | Mount | None]:
    """Claim every task, and give each POST its mount, its failed task, or nothing.

    A task may have begun to show only since the last look: with a mount found for every POST
    it is one of theirs; otherwise it may be any of those that are still missing.
    """
    late = {task.id for task in await unclaimed_tasks(connection, site)} - {
        task.id for task in tasks
    }
    if late and not all(found):
        raise Unsettled("a task that could be one in doubt has only just begun to show")
    everything = late.union(task.id for task in tasks)
    if sum(task.succeeded for task in tasks) > sum(mount is not None for mount in found):
        connection.watcher.claimed.update(everything)  # no later POST's task, in any case
        raise Unsettled("a task succeeded, and no restore point shows its mount")
    site.attribute(connection, everything)
    return _with_failures(found, [task.id for task in tasks if not task.succeeded])


async def _new_mount(connection: Connection, site: Site, point: RestorePoint) -> Mount | None:
    """Return the one mount of a point that is not attributed yet, and attribute it."""
    mounts = await unclaimed_mounts(connection, site, point)
    if len(mounts) > 1:
        raise Unsettled("several mounts of the restore point could be the one in doubt")
    connection.mounts.update(mount.href for mount in mounts)
    return mounts[0] if mounts else None


def _with_failures(
    found: Sequence[Mount | None], failed: Sequence[TaskId]
) -> list[TaskId | Mount | None]:
    """Give the failed tasks to the POSTs without a mount, if there is one for each.

    With fewer of them nobody can say whose they are; but nothing is mounted for any.
    """
    missing = sum(mount is None for mount in found)
    tasks = iter(failed if len(failed) == missing else ())
    return [mount if mount is not None else next(tasks, None) for mount in found]


async def unclaimed_mounts(
    connection: Connection, site: Site, point: RestorePoint, *, patience: float = 0.0
) -> Sequence[Mount]:
    """Return the mounts of a point in this session that belong to no target yet."""
    listed = await site.persistently(
        connection, lambda: connection.session.mounts(point.id, point.source), patience=patience
    )
    return [mount for mount in listed if mount.href not in connection.mounts]


async def unclaimed_tasks(connection: Connection, site: Site) -> list[Task]:
    """Return the mount tasks of this session that belong to no target yet."""
    tasks = await site.persistently(connection, connection.session.tasks)
    return [
        task
        for task in tasks
        if task.id not in connection.watcher.claimed and task.operation in MOUNT_OPERATIONS
    ]
