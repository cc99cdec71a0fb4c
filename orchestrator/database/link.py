"""One connection to the database, made when it is needed and made anew after it broke."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, LiteralString

import anyio
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from orchestrator.core.errors import DatabaseAway
from orchestrator.database.address import Address
from orchestrator.database.failures import explain

ANSWER_S = 15.0
"""Seconds for which an answer is waited for; then the connection is given up."""

LONGEST_ANSWER_S = 240.0
"""Seconds that the wait grows to while no answer comes: each repetition waits in the server, too,
behind the first one."""

logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of each question that is cancelled

DOUBT = "01000"
"""SQLSTATE of the warning that a commit did not wait for its standby. Source: PostgreSQL,
`SyncRepWaitForLSN`: such a commit reports success."""

SETTINGS = """
SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
"""
"""Whatever is set for the role: a wait for a standby must not be cut off, for then a commit reports
success that has none."""

WATCHFUL = "SET client_connection_check_interval = '2s'"
"""Lets the server end calls whose caller is gone. PostgreSQL 14 and later."""

Row = TupleRow
Connection = AsyncConnection[TupleRow]


@asynccontextmanager
async def connecting(address: Address) -> AsyncIterator[Connection]:
    """Yield a connection that commits each statement, and close it.

    Raises:
        psycopg.Error: as `AsyncConnection.connect`.
    """
    connection = await AsyncConnection.connect(
        address.conninfo, autocommit=True, prepare_threshold=None
    )
    try:
        yield connection
    finally:
        await hang_up(connection)


async def hang_up(connection: AsyncConnection[TupleRow]) -> None:
    """Close a connection, also where this is cancelled: psycopg's own context then closes nothing.

    See `findings/psycopg-stays-open-when-anyio-cancels.sh`.
    """
    with anyio.CancelScope(shield=True):
        await connection.close()


class Link:
    """Sends one statement at a time, each a transaction of its own."""

    def __init__(
        self, address: Address, *, answer_s: float = ANSWER_S, longest_s: float = LONGEST_ANSWER_S
    ) -> None:
        """Connects to nothing yet. An answer is waited for `answer_s`, twice that after each that
        did not come, and at most `longest_s`.
        """
        self._address = address
        self._answer_s = answer_s
        self._longest_s = longest_s
        self._connection: AsyncConnection[TupleRow] | None = None
        self._lock = anyio.Lock()
        self._patience = answer_s
        self._is_doubtful = False

    async def rows(
        self, statement: LiteralString, values: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[Row]:
        """Send a statement and return its rows.

        Raises:
            DatabaseAway: there is no answer, or none that can be relied on; repeat it.
            DatabaseUnusable: repeating it changes nothing.
            Fenced, RunNotFound, RunLocked: one of our functions says so.
        """
        async with self._lock:
            try:
                connection = await self._connected()
                self._is_doubtful = False
                with self._given_up_late(connection):
                    found = await self._answer(connection, statement, values)
            except psycopg.Error as exc:
                await self._drop_if_broken()
                explain(exc, self._address)
            except BaseException:
                await self.aclose()
                raise
            self._patience = self._answer_s
        if self._is_doubtful:
            raise DatabaseAway(
                f"the database {self._address} is away: a commit did not wait for its standby"
            )
        return found

    async def _answer(
        self,
        connection: AsyncConnection[TupleRow],
        statement: LiteralString,
        values: Sequence[Any] | Mapping[str, Any],
    ) -> list[Row]:
        """Send a statement; cut the connection if this is cancelled.

        psycopg would ask the server to cancel the call. Nobody needs that, and PgBouncer 1.18 can
        end by it, for all its clients: see `findings/pgbouncer-ends-by-a-cancel.sh`.
        """

        async def ask() -> list[Row]:
            cursor = await connection.execute(statement, values, binary=True)
            return await cursor.fetchall()

        asking = asyncio.ensure_future(ask())
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            _shut(connection)
            with anyio.CancelScope(shield=True), suppress(psycopg.Error):
                await asking
            raise

    async def aclose(self) -> None:
        """Close the connection; the next statement opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await hang_up(connection)

    async def _connected(self) -> AsyncConnection[TupleRow]:
        if self._connection is None or self._connection.closed:
            connection = await AsyncConnection.connect(
                self._address.conninfo, autocommit=True, prepare_threshold=None
            )
            try:
                await self._settle(connection)
            except BaseException:
                await hang_up(connection)
                raise
            self._connection = connection
        return self._connection

    async def _settle(self, connection: AsyncConnection[TupleRow]) -> None:
        connection.add_notice_handler(self._notice)
        with self._given_up_late(connection):
            await connection.execute(SETTINGS)
            if connection.info.server_version >= 140000:
                with suppress(psycopg.errors.InvalidParameterValue):  # not on this system
                    await connection.execute(WATCHFUL)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        self._is_doubtful |= notice.sqlstate == DOUBT

    @contextmanager
    def _given_up_late(self, connection: AsyncConnection[TupleRow]) -> Iterator[None]:
        """Cut the connection if no answer comes in time, so that psycopg finds it lost.

        To cancel it would ask the server to cancel the call, and that may report success.
        """
        timer = asyncio.get_running_loop().call_later(self._patience, self._cut, connection)
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self, connection: AsyncConnection[TupleRow]) -> None:
        self._patience = min(2 * self._patience, self._longest_s)
        _shut(connection)

    async def _drop_if_broken(self) -> None:
        if self._connection is not None and self._connection.broken:
            await self.aclose()


def _shut(connection: AsyncConnection[TupleRow]) -> None:
    """Break a connection, so that whoever waits for its answer finds it lost."""
    with suppress(OSError, psycopg.OperationalError):  # it is closed already
        other = socket.socket(fileno=os.dup(connection.pgconn.socket))
        with other:
            other.shutdown(socket.SHUT_RDWR)
