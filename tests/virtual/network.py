"""An in-memory network: aiohttp's client and server joined without sockets.

For virtual time, where it is deterministic and costs no system call. A host can refuse,
swallow connections, or cut the ones it has. There is no TLS here; https URLs work. A server answers
in the context in which its network was made, and a client in its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

HIGH_WATER = 256 * 1024


class _Pipe(asyncio.Transport):
    """One end of a connection; what is written here arrives at the other end's protocol."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, context: Context) -> None:
        super().__init__(extra={"peername": (name, 0), "sockname": (name, 0)})
        self._loop = loop
        self.context = context
        """In which the protocol at this end is told what arrives."""
        self.protocol: Any = None
        self.other: _Pipe
        self._closing = False
        self._paused = False
        self._held: list[bytes] = []
        self._in_flight = 0
        self._writer_paused = False

    # writing ------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        self._in_flight += len(data)
        self._loop.call_soon(self.other.arrive, bytes(data), context=self.other.context)
        if self._in_flight > HIGH_WATER and not self._writer_paused:
            self._writer_paused = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._in_flight

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def taken(self, size: int) -> None:
        self._in_flight -= size
        if self._writer_paused and self._in_flight <= HIGH_WATER // 2:
            self._writer_paused = False
            if not self._closing:
                self.protocol.resume_writing()

    # reading ------------------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        if self._closing:
            return
        if self._paused:
            self._held.append(data)
            return
        self.other.taken(len(data))
        self.protocol.data_received(data)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        held, self._held = self._held, []
        for data in held:
            self.arrive(data)

    def is_reading(self) -> bool:
        return not self._paused

    # ending -------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._end(None, None)

    def abort(self) -> None:
        reset = ConnectionResetError("connection reset by peer")
        self._end(None, reset)

    def _end(self, mine: Exception | None, theirs: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.call_soon(self.protocol.connection_lost, mine, context=self.context)
        # One turn later, as over a wire: what has just arrived is looked at first.
        there = self.other.context
        lost = partial(self._loop.call_soon, self.other.lost, theirs, context=there)
        self._loop.call_soon(lost, context=there)

    def lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            if exc is None:
                self.protocol.eof_received()
            self.protocol.connection_lost(exc)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        found: asyncio.BaseProtocol = self.protocol
        return found


class MemoryNetwork:
    """Hosts that can be reached by name, and the faults between them and the client."""

    def __init__(self, *, connect_s: float = 0.0) -> None:
        """`connect_s`: virtual seconds that every new connection takes."""
        self.connect_s = connect_s
        self._context = copy_context()
        self._hosts: dict[tuple[str, int], Callable[[], asyncio.BaseProtocol]] = {}
        self._pipes: dict[tuple[str, int], list[_Pipe]] = {}
        self.refusing: set[str] = set()
        self.swallowing: set[str] = set()
        self.attempts: Counter[str] = Counter()
        """Connections tried, by host, whether they were made or not."""
        self.connections = 0
        """Connections ever made."""

    def listen(self, host: str, port: int, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Answer connections to `host:port` with protocols from `factory`."""
        self._hosts[host, port] = factory

    def name_anew(self, host: str, port: int, name: str) -> None:
        """Answer connections to `name` like those to `host`."""
        self.listen(name, port, self._hosts[host, port])

    def connector(self, **options: Any) -> aiohttp.BaseConnector:
        """Return a connector into this network; takes aiohttp's own options, `ssl` is ignored."""
        options.pop("ssl", None)
        options.setdefault("limit_per_host", 0)
        return _MemoryConnector(self, **options)

    def cut(self, host: str) -> None:
        """Reset every connection to `host`."""
        for place, pipes in self._pipes.items():
            if place[0] == host:
                for pipe in pipes:
                    pipe.abort()
                pipes.clear()

    def cut_of(self, is_meant: Callable[[str, Context], bool]) -> None:
        """Reset connections, chosen by their host and by the context of who made them."""
        for place, pipes in self._pipes.items():
            for pipe in [each for each in pipes if is_meant(place[0], each.context)]:
                pipe.abort()
                pipes.remove(pipe)

    async def connect(self, host: str, port: int, protocol: asyncio.BaseProtocol) -> _Pipe:
        """Join `protocol` to a new server protocol.

        Raises:
            ConnectionRefusedError: nobody listens there, or the host refuses.
        """
        loop = asyncio.get_running_loop()
        self.attempts[host] += 1
        if host in self.swallowing:
            await loop.create_future()
        if self.connect_s:
            await asyncio.sleep(self.connect_s)
        if host in self.refusing or (host, port) not in self._hosts:
            raise ConnectionRefusedError(111, "Connection refused")
        here = _Pipe(loop, host, copy_context())
        there = _Pipe(loop, "client", self._context.copy())
        here.other, there.other = there, here
        here.protocol = protocol
        there.protocol = there.context.run(self._hosts[host, port])
        self._pipes.setdefault((host, port), []).append(here)
        self.connections += 1
        there.context.run(there.protocol.connection_made, there)
        here.protocol.connection_made(here)
        return here


class _MemoryConnector(aiohttp.BaseConnector):
    """aiohttp's own pooling over the in-memory network."""

    def __init__(self, network: MemoryNetwork, **options: Any) -> None:
        super().__init__(**options)
        self._network = network

    async def _create_connection(
        self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        protocol = self._factory()
        try:
            async with asyncio.timeout(timeout.sock_connect):
                await self._network.connect(req.url.host, req.url.port, protocol)
        except TimeoutError as exc:
            raise aiohttp.ConnectionTimeoutError from exc
        except OSError as exc:
            raise aiohttp.ClientConnectorError(req.connection_key, exc) from exc
        return protocol
