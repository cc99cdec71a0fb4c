"""Sessions whose end is recorded, and which their server may know all the same.

Who ends a session records that before its logoff, and may die, or be cut off, between them. Until
another worker sends the logoff again, a request that was on its way for minutes finds a living
session, although its target was told long ago that nothing came of it. Source: trap 48.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from orchestrator.core.errors import EnterpriseManagerError
from orchestrator.core.events import SessionEnded
from orchestrator.core.model import ServerName, SessionId, TaskId
from orchestrator.core.run_state import RunState
from orchestrator.em.client import Client
from orchestrator.engine.connection import MOUNT_OPERATIONS
from orchestrator.engine.left import left_in
from orchestrator.log import Log

log = Log(__name__)

LOOK_S = 5.0
"""Seconds for looking into all such sessions of a shard: its server may be out of reach."""


def accounted_in(state: RunState, server: ServerName, session: SessionId) -> frozenset[TaskId]:
    """Return the tasks of a session that the records say something of."""
    known = state.servers[server]
    left = left_in(session, state.records.values(), known.attributed)
    strays = (*known.strays.values(), *known.strays_removed)
    return left.tasks | {each.task for each in strays if each.session == session}


def lives(session: SessionId, server: ServerName, at: float) -> SessionEnded:
    """Return what to record of a session that is used again until nothing is open in it."""
    return SessionEnded(
        at=at,
        server=server,
        session=session,
        lost=False,
        reason="it shows a mount that came after its end was recorded",
        left_open=True,
    )


async def still_used(
    client: Client, accounted: Mapping[SessionId, frozenset[TaskId]]
) -> list[SessionId]:
    """Return the sessions that show a mount task for which no record accounts, or may.

    They are left as they are. One that cannot be read in time is not among them.

    Raises:
        Fenced: another worker serves the server now.
    """
    found = []
    with anyio.move_on_after(LOOK_S):
        for session, known in accounted.items():
            try:
                async with client.take_up(session) as again:
                    again.leave_open()
                    tasks, unread = await again.tasks(), again.unread_tasks
            except EnterpriseManagerError as exc:  # it is gone, or nobody knows
                log.info("session.not_read", server=client.server, why=str(exc))
                continue
            new = [each for each in tasks if each.operation in MOUNT_OPERATIONS]
            new = [each for each in new if each.id not in known and each.success is not False]
            if new or unread:
                names = [each.id for each in new]
                log.warning("session.lives", server=client.server, tasks=names, unread=unread)
                found.append(session)
    return found
