"""Which mounts the tasks have made that no target claims, for the closing audit.

A link decides. What a task without one has made is looked for in the lists of the restore points
that were asked for, where a server may show the mounts of others too: those are never taken.
Source: reference, traps 43 and 48.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet

from msgspec import Struct, field

from orchestrator.core.errors import RequestRefused
from orchestrator.core.model import Href, Mount, RestorePoint, RestorePointId, Task, TaskId
from orchestrator.engine.adopted import point_of, took_by_list
from orchestrator.engine.connection import Connection
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.mount.recover import (
    SubmittedPoint,
    mount_named_by,
    number_of,
    unclaimed_mounts,
)
from orchestrator.engine.server_connection import ServerConnection


class Owners(Struct):
    """What is known of the tasks of a session that no target claims."""

    connection: Connection
    server: ServerConnection
    ledger: Ledger
    asked: Mapping[RestorePointId | None, SubmittedPoint]
    """The restore points that were asked for in the session."""
    loose: Mapping[TaskId, AbstractSet[RestorePointId]]
    """Adopted tasks that may be another request's, and the points that they may have mounted."""
    several: list[Href] = field(default_factory=list)
    """Mounts of which nobody can say which task has made them."""

    async def mounts_of(self, tasks: Sequence[Task]) -> list[tuple[Task, Href | None]]:
        """Return the mounts that these tasks account for and that are still there.

        None stands for one that is there, and nobody can say which of several it is, or that may
        be there: by the records nothing was requested in this session, or the server does not say.
        A database that failed over may have lost them; so it is named, and not touched.
        """
        if not self.asked:
            return [(task, None) for task in tasks]
        found: list[tuple[Task, Href | None]] = []
        unplaced, unsaid = list[Task](), list[Task]()
        for task in tasks:
            if task.mount is None:
                unplaced.append(task)
                continue
            asked = self.asked.get(point_of(task.mount))
            if asked is not None:
                number = task.mount.number or number_of(task.mount.href)
                found += [
                    (task, mount.href)
                    for mount in await self._listed(asked.point)
                    if number_of(mount.href) == number
                ]
                continue
            try:
                named = await mount_named_by(self.connection, self.server, task.mount)
            except RequestRefused:
                named, unsaid = None, [*unsaid, task]
            if named is not None:
                found.append((task, named))
            else:
                unplaced.append(task)
        found += await self._unplaced(unplaced, {href for _task, href in found})
        placed = {task.id for task, _ in found}
        return found + [(task, None) for task in unsaid if task.id not in placed]

    async def _unplaced(
        self, tasks: list[Task], placed: set[Href | None]
    ) -> list[tuple[Task, Href | None]]:
        """Find the mounts of tasks whose links lead nowhere, in the lists of the requested points.

        More mounts than tasks: some are not ours, so none is taken. Nor where a task may have made
        a mount that was a target's, and the one that is listed now may be somebody else's.
        """
        where = {task.id: self.loose.get(task.id, set(self.asked)) for task in tasks}
        listed = {
            point: [m.href for m in await self._listed(asked.point) if m.href not in placed]
            for point, asked in self.asked.items()
            if any(point in points for points in where.values())
        }
        mounts = [href for each in listed.values() for href in each]
        tasks = [task for task in tasks if any(listed.get(point) for point in where[task.id])]
        if mounts and (len(mounts) > len(tasks) or await self._may_be_strangers(tasks)):
            self.several = mounts
            return [(task, None) for task in tasks]
        return list(zip(tasks, mounts, strict=False))

    async def _may_be_strangers(self, tasks: Sequence[Task]) -> bool:
        """Return whether what is listed may be somebody else's, or another run's.

        That is asked only where a target may have had what one of the `tasks` has mounted, and
        released it. Else the mount is still there, and the only one is its.
        """
        session = self.connection.session.id
        had = any(task.id in self.loose for task in tasks)
        had = had or took_by_list(self.ledger, session)
        return self.connection.strangers or (
            had and not await is_alone(self.connection, self.server)
        )

    async def _listed(self, point: RestorePoint) -> Sequence[Mount]:
        """Return the mounts of a point that belong to no target."""
        return await unclaimed_mounts(self.connection, self.server, point)


async def is_alone(
    connection: Connection, server: ServerConnection, *known: Container[str]
) -> bool:
    """Return whether the server shows no logon session but this run's, and those `known`."""
    own = server.own, *known
    try:
        return await server.persistently(connection, lambda: connection.session.is_alone(*own))
    except RequestRefused:
        return False
