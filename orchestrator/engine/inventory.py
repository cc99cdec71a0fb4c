"""Asking one server for the restore points that the plan speaks of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio

from orchestrator.engine.orders import Needs
from orchestrator.engine.site import Connection, Site
from orchestrator.errors import NotFound
from orchestrator.model import RestorePoint, RestorePointId, Source

AT_ONCE = 4
"""Points read by id at the same time; as many connections as a site keeps."""


async def gather(connection: Connection, site: Site, needs: Needs) -> Sequence[RestorePoint]:
    """Return every restore point that the plan's selectors could mean on this server.

    Reads only, waits out the server's trouble, and may be repeated. A point that is named
    by id and does not exist is simply not in the answer.

    Raises:
        SessionLost: the session is gone; ask again with the next one.
        ServerUnusable: the server was given up.
        EnterpriseManagerError: the server refuses to list points.
    """
    session = connection.session
    found: dict[tuple[Source, RestorePointId], RestorePoint] = {}

    def keep(points: Sequence[RestorePoint]) -> None:
        for point in points:
            found.setdefault((point.source, point.id), point)

    async def ask(read: Callable[[], Awaitable[Sequence[RestorePoint]]]) -> None:
        keep(await site.persistently(connection, read))

    for source, names in needs.machines.items():
        if names:
            await ask(partial(session.points_of_machines, names, source))
    for source, jobs in needs.jobs.items():
        for job in jobs:
            await ask(partial(session.points_of_job, job, source))
    async with anyio.create_task_group() as tasks:
        room = anyio.CapacityLimiter(AT_ONCE)

        async def one(source: Source, point: RestorePointId) -> None:
            async with room:
                try:
                    keep(
                        [await site.persistently(connection, lambda: session.point(point, source))]
                    )
                except NotFound:
                    return

        for source, point in needs.points:
            if (source, point) not in found:
                tasks.start_soon(one, source, point)
    return tuple(found.values())
