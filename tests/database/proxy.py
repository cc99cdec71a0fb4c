"""A path to the database that stalls, is cut, loses answers, or swallows notifications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from orchestrator.database.address import Address, read_address
from orchestrator.database.private_server import PrivateServer

NOTIFICATION = ord("A")
"""Type of the message that a NOTIFY becomes. Source: PostgreSQL, "Message Formats"."""


class Connection:
    """One connection through the proxy."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        """Let everything pass at first."""
        self.may_pass = asyncio.Event()
        self.may_pass.set()
        self._writers = writers
        self.ended = asyncio.Event()

    def cut(self) -> None:
        """Break it on both sides."""
        for writer in self._writers:
            writer.transport.abort()


class Proxy:
    """Passes bytes on between clients and the server's socket, as far as it may."""

    def __init__(self, socket: Path) -> None:
        """Listens nowhere yet."""
        self._server = socket
        self._connections: list[Connection] = []
        self.loses_answers = False
        """Whether the next answer is swallowed, and its connection cut."""
        self.swallows_notifications = False
        """Whether it is as a pool that gives each transaction another connection."""
        self._is_cut_off = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until both sides have ended."""
        try:
            back, on = await asyncio.open_unix_connection(self._server)
        except OSError:  # the server is not there
            writer.close()
            return
        connection = Connection(writer, on)
        if self._is_cut_off:
            connection.may_pass.clear()
        self._connections.append(connection)
        await asyncio.gather(
            self._requests(connection, reader, on), self._answers(connection, back, writer)
        )
        connection.ended.set()

    async def _requests(
        self, connection: Connection, reader: asyncio.StreamReader, on: asyncio.StreamWriter
    ) -> None:
        """Pass on what the client sends; what is kept back arrives even if the client has left."""
        with suppress(OSError):
            while piece := await reader.read(65536):
                await connection.may_pass.wait()
                on.write(piece)
                await on.drain()
            on.write_eof()

    async def _answers(
        self, connection: Connection, back: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while self.swallows_notifications and (head := await back.readexactly(5)):
                body = await back.readexactly(int.from_bytes(head[1:]) - 4)
                if head[0] != NOTIFICATION:
                    writer.write(head + body)
            while piece := await back.read(65536):
                if self.loses_answers:
                    self.loses_answers = False
                    break
                await connection.may_pass.wait()
                writer.write(piece)
                await writer.drain()
        connection.cut()

    @property
    def accepted(self) -> int:
        """How many connections there were so far. A request to cancel comes on one of its own."""
        return len(self._connections)

    def stall(self) -> None:
        """Keep back what the connections of now send; those made later pass."""
        for each in self._connections:
            each.may_pass.clear()

    def cut_off(self) -> None:
        """Keep back what everybody sends, as a broken path does, until `let_through`."""
        self._is_cut_off = True
        self.stall()

    def let_through(self) -> None:
        """Pass on what was kept back, late as it is, and all that follows."""
        self._is_cut_off = False
        for each in self._connections:
            each.may_pass.set()

    async def deliver(self) -> None:
        """Pass on what was kept back, and wait until its connections end; clients have left."""
        late = [each for each in self._connections if not each.may_pass.is_set()]
        for each in late:
            each.may_pass.set()
        for each in late:
            await each.ended.wait()

    def cut(self) -> None:
        """Break every connection."""
        for each in self._connections:
            each.may_pass.set()
            each.cut()

    async def aclose(self) -> None:
        """Break every connection and wait for the end of what passes them on."""
        self.cut()
        for each in self._connections:
            await each.ended.wait()


@asynccontextmanager
async def proxied(
    server: PrivateServer, directory: Path, url: str
) -> AsyncIterator[tuple[Proxy, Address]]:
    """Listen beside the server; yield the proxy, and the address in `url` through it."""
    proxy = Proxy(server.socket / ".s.PGSQL.5432")
    listener = await asyncio.start_unix_server(proxy.serve, directory / ".s.PGSQL.5432")
    try:
        yield proxy, read_address(beside(server, directory, url))
    finally:
        listener.close()
        await proxy.aclose()


def beside(server: PrivateServer, directory: Path, url: str) -> str:
    """Return the address `url` of a server as that of the proxy which listens in `directory`."""
    before, after = (quote(str(each), safe="") for each in (server.socket, directory))
    return url.replace(before, after)
