"""The last look at each session of a shard before its logoff: is anything mounted there?"""

from __future__ import annotations

import math
from contextlib import suppress

import anyio

from orchestrator.core.errors import Fenced, ServerUnusable
from orchestrator.core.model import SessionId
from orchestrator.engine.board import Board
from orchestrator.engine.bounded import before
from orchestrator.engine.connection import Connection
from orchestrator.engine.forced_end import AUDIT_S
from orchestrator.engine.mount import orphans, resume
from orchestrator.engine.mount.attempt import RunContext
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.servers import Servers

FRESH_S = 5.0
"""Seconds for which a look at a session is trusted while those of other servers take longer."""


class ClosingAudit:
    """Accounts for all that the sessions of a shard have mounted."""

    def __init__(self, servers: Servers, context: RunContext, board: Board) -> None:
        """Nothing is asked before one of the methods is called."""
        self._servers, self._context, self._board = servers, context, board
        self._looked: dict[SessionId, float] = {}

    async def of_all(self) -> None:
        """Account for every session; a second signal waits for no task."""

        async def look() -> None:
            async with anyio.create_task_group() as tasks:
                for server in self._servers.served:
                    tasks.start_soon(self._of_server, server)
            async with anyio.create_task_group() as tasks:
                for server in self._servers.served:
                    tasks.start_soon(self._of_server_anew, server)

        await self._board.forced_end.unless_late(look, AUDIT_S)

    async def _of_server(self, server: ServerConnection) -> None:
        """Account for a server's sessions; that of an earlier process may have to be found first.

        It is waited for as a target in it would be, and after a first signal for a minute.
        """

        async def late() -> None:
            await self._board.stopped()
            await anyio.sleep(orphans.READ_WITHIN)

        with suppress(ServerUnusable):
            await before(late, server.taken_up)
        for connection in server.connections:
            await self._of_session(server, connection, self._wait)

    async def _of_server_anew(self, server: ServerConnection) -> None:
        """Account once more for what others were waited for since: a request may act late."""
        for connection in server.connections:
            ago = anyio.current_time() - self._looked.get(connection.session.id, math.inf)
            if connection.audited and ago > FRESH_S:
                await self._of_session(server, connection, self._wait)

    @property
    def _wait(self) -> float:
        return 0.0 if self._board.forced_end.is_wanted else orphans.WAIT

    async def of_earlier(self, server: ServerConnection, unfinished: resume.UnfinishedWork) -> None:
        """Log off from an earlier process's session once nothing is left in it.

        What may be open there, or cannot be known now, waits for the last look of the run.
        """
        try:
            connection = await server.taken_up()
        except ServerUnusable:
            return
        if connection is None:
            return
        await unfinished.over(connection.session.id)
        if not server.is_any_open(connection):
            await self._of_session(server, connection, orphans.WAIT)
            if connection.audited and not server.is_any_open(connection):
                await self._context.ledger.saved()  # the releases, before what proves them ends
                server.close()

    async def _of_session(
        self, server: ServerConnection, connection: Connection, wait: float
    ) -> None:
        """Account for one session, if anything was ever mounted in it."""
        if server.is_unused(connection):
            connection.audited = True
            return
        try:
            await orphans.audit(connection, server, self._context, wait=wait)
            self._looked[connection.session.id] = anyio.current_time()
        except Fenced:
            raise  # nothing is wrong: another worker goes on
        except Exception as exc:  # noqa: BLE001 - one server's bug must not spread
            server.break_down(exc)
