"""A server that answers with exactly the bytes it is told to, over a real socket."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.core.model import ServerName
from orchestrator.em.transport import Transport
from orchestrator.plan.file.access import NoTrust
from tests.em.documents import sample

RUNNING = sample("task.mount.running.wire")


class Prompt(random.Random):
    """Chance that never waits."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    client: object = None
    """The address at the other end of its connection."""
    lines: Sequence[str] = ()
    """Its headers as they came, in their order."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes to send, and what becomes of the connection then."""

    data: bytes = b""
    then: Literal["keep", "close", "reset", "silence"] = "keep"


def reply(
    status: int = 200,
    body: bytes = RUNNING,
    headers: Mapping[str, str] | None = None,
    then: Literal["keep", "close", "reset", "silence"] = "keep",
) -> Reply:
    """Return a complete answer; `headers` may replace Content-Length."""
    every = {
        "Content-Type": "application/xml; charset=utf-8",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    return Reply(f"HTTP/1.1 {status} Words\r\n{lines}\r\n".encode() + body, then)


Script = Callable[[int, Request], Reply]


@dataclass(slots=True)
class RawServer:
    """What came in: requests, connections, and bytes (before any TLS handshake ended: none)."""

    script: Script
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    bytes_received: int = 0
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection by the script."""
        self.connections += 1
        client = writer.get_extra_info("peername")
        try:
            while (request := await self._request(reader, client)) is not None:
                self.requests.append(request)
                answer = self.script(len(self.requests), request)
                writer.write(answer.data)
                await writer.drain()
                if answer.then == "reset":
                    writer.transport.abort()
                elif answer.then == "silence":
                    await self._over.wait()
                if answer.then != "keep":
                    break
        except OSError:
            pass  # the client has gone
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, client: object) -> Request | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (li.partition(": ") for li in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.bytes_received += len(head) + len(body)
        return Request(method, target, headers, body, client, lines)


@asynccontextmanager
async def raw_server(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Serve on a free port of a loopback address until the context is left."""
    raw = RawServer(script)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(raw.serve(reader, writer)))

    server = await asyncio.start_server(connected, host, 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        raw._over.set()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def transport_to(port: int) -> AsyncIterator[Transport]:
    """Return a transport without TLS, logged on with a token."""
    made = Transport(
        ServerName("hq"),
        f"http://127.0.0.1:{port}",
        NoTrust(),
        rng=Prompt(),
        media_type="application/xml",
    )
    made.use_token("ab/cd+ef==")
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def talking(script: Script) -> AsyncIterator[tuple[RawServer, Transport]]:
    """Serve `script` and yield the server with a transport to it."""
    async with raw_server(script) as server, transport_to(server.port) as transport:
        yield server, transport
