"""A database that is far away: each direction of a connection over loopback takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from anyio.from_thread import start_blocking_portal

from orchestrator.database.private_server import OWNER, PrivateServer


@contextmanager
def far_away(server: PrivateServer, database: str, way_s: float) -> Iterator[str]:
    """Yield an address of a database whose answers take twice `way_s` seconds more.

    It works in a thread of this process; what is measured runs in others.
    """
    path = _Path(server.socket / ".s.PGSQL.5432", way_s)
    with start_blocking_portal() as portal:
        port = portal.call(path.listen)
        try:
            yield f"postgresql://{quote(OWNER)}@127.0.0.1:{port}/{database}?sslmode=disable"
        finally:
            portal.call(path.aclose)


class _Path:
    """Passes bytes on between a port on loopback and the server's socket, each a while later."""

    def __init__(self, socket: Path, way_s: float) -> None:
        self._socket, self._way_s = socket, way_s
        self._writers: list[asyncio.StreamWriter] = []

    async def listen(self) -> int:
        """Begin, and return the port."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def aclose(self) -> None:
        """Break every connection."""
        self._listener.close()
        for each in self._writers:
            each.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, on = await asyncio.open_unix_connection(self._socket)
        self._writers += [writer, on]
        await asyncio.gather(self._passed(reader, on), self._passed(back, writer))

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one direction on: a piece does not wait for those before it, as on a long line."""
        loop = asyncio.get_running_loop()
        try:
            while piece := await reader.read(65536):
                loop.call_later(self._way_s, writer.write, piece)
        except OSError:
            pass  # the other side is gone
        loop.call_later(self._way_s, writer.close)
