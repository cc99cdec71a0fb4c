"""Asking one server for the restore points that the plan speaks of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio

from orchestrator.engine.orders import Needs
from orchestrator.engine.site import PATIENCE, Connection, Site
from orchestrator.errors import NotFound
from orchestrator.model import RestorePoint, RestorePointId, Source
from orchestrator.ports import InventorySession

AT_ONCE = 4
"""Points read by id at the same time; as many connections as a site keeps."""


Asking = Callable[[Callable[[], Awaitable[RestorePoint | Sequence[RestorePoint]]]], Awaitable[Any]]


async def gather_once(session: InventorySession, needs: Needs) -> Sequence[RestorePoint]:
    """Return the points like `gather`, without waiting out any trouble of the server."""

    async def ask(read: Callable[[], Awaitable[Any]]) -> Any:
        return await read()

    return await _gathered(session, needs, ask)


async def gather(connection: Connection, site: Site, needs: Needs) -> Sequence[RestorePoint]:
    """Return every restore point that the plan's selectors could mean on this server.

    Reads only, waits out the server's trouble, and may be repeated. A point that is named
    by id and does not exist is simply not in the answer.

    Raises:
        SessionLost: the session is gone; ask again with the next one.
        ServerUnusable: the server was given up.
        EnterpriseManagerError: the server refuses to list points.
    """

    async def ask(read: Callable[[], Awaitable[Any]]) -> Any:
        return await site.persistently(connection, read, patience=PATIENCE)

    return await _gathered(connection.session, needs, ask)


async def _gathered(session: InventorySession, needs: Needs, ask: Asking) -> Sequence[RestorePoint]:
    found: dict[tuple[Source, RestorePointId], RestorePoint] = {}

    def keep(points: Sequence[RestorePoint]) -> None:
        for point in points:
            found.setdefault((point.source, point.id), point)

    for source, names in needs.machines.items():
        if names:
            keep(await ask(partial(session.points_of_machines, names, source)))
    for source, jobs in needs.jobs.items():
        for job in jobs:
            keep(await ask(partial(session.points_of_job, job, source)))
    async with anyio.create_task_group() as tasks:
        room = anyio.CapacityLimiter(AT_ONCE)

        async def one(source: Source, point: RestorePointId) -> None:
            async with room:
                with suppress(NotFound):
                    keep([await ask(partial(session.point, point, source))])

        for source, point in needs.points:
            if (source, point) not in found:
                tasks.start_soon(one, source, point)
    return tuple(found.values())
