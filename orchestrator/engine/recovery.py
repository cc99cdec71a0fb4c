"""Submissions in doubt: who owns the unknown task of this session?

A mount POST whose answer is lost may or may not have been acted on, and a running task names
no restore point. Because only one POST per session is unanswered at a time, a mount task
that nobody has claimed must be the one in doubt. Settling happens in the same session and
while its posting lock is held; another session proves nothing.
Source: reference section 4, "Reconcile".
"""

from __future__ import annotations

import anyio

from orchestrator.engine.site import Connection, Site
from orchestrator.model import Task, TaskId

LOOKS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each further look. A server that answered all and shows nothing began nothing."""

MOUNT_OPERATIONS = frozenset({"MountRestorePoint", ""})
"""What a mount task calls itself; an absent Operation is not held against it."""


class Unsettled(Exception):
    """More than one task could be the one in doubt."""


async def find_task(connection: Connection, site: Site) -> TaskId | None:
    """Return the task that the lost POST started and claim it, or None if it started none.

    Raises:
        Unsettled: several unclaimed tasks; nobody can say which.
        SessionLost: the session is gone, and the proof with it.
        ServerUnusable: the server was given up.
    """
    for pause in (0.0, *LOOKS):  # the longest pause must be followed by a look
        await anyio.sleep(pause)
        unclaimed = await _unclaimed(connection, site)
        if len(unclaimed) > 1:
            raise Unsettled("several tasks of this session could be the one in doubt")
        if unclaimed:
            connection.watcher.claimed.add(unclaimed[0].id)
            return unclaimed[0].id
    return None


async def _unclaimed(connection: Connection, site: Site) -> list[Task]:
    tasks = await site.persistently(connection, connection.session.tasks)
    return [
        task
        for task in tasks
        if task.id not in connection.watcher.claimed and task.operation in MOUNT_OPERATIONS
    ]
