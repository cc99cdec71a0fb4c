"""A served board, and visitors that say exactly what a test wants them to say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import SocketStream

from orchestrator.views.web.address import LOOPBACK, Address
from orchestrator.views.web.page_state import PageState
from orchestrator.views.web.server import WebServer, serve_page

TOKEN = "a-token-of-the-tests-only"


@asynccontextmanager
async def visited(
    page_state: PageState | None = None,
    address: Address = LOOPBACK,
    *,
    names: Sequence[str] = (),
    grace_s: float = 0.5,
) -> AsyncIterator[WebServer]:
    """Serve a board on a free port."""
    page_state = page_state or PageState()
    async with serve_page(page_state, address, TOKEN, names=names, grace_s=grace_s) as site:
        yield site


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def connected(site: WebServer) -> SocketStream:
    """Open a connection and say nothing."""
    return await anyio.connect_tcp("127.0.0.1", site.address.port)


def request(site: WebServer, path: str = "/", method: str = "GET", **changes: str | None) -> bytes:
    """Return a request with the right Host and token; a header that is None is left out."""
    headers: dict[str, str | None] = {
        "Host": f"127.0.0.1:{site.address.port}",
        "Authorization": f"Bearer {TOKEN}",
    }
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


async def everything(stream: SocketStream) -> bytes:
    """Read until the other side ends the connection."""
    found = b""
    try:
        while True:
            found += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return found


async def ask(
    site: WebServer, path: str = "/", method: str = "GET", **changes: str | None
) -> Answer:
    """Send one request, byte for byte, and return the answer."""
    return await say(site, request(site, path, method, **changes))


async def say(site: WebServer, words: bytes) -> Answer:
    """Send these bytes and return the answer."""
    async with await connected(site) as stream:
        await stream.send(words)
        with anyio.fail_after(60):
            raw = await everything(stream)
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(first.split()[1]), headers, body)


class Reader:
    """Reads a stream of events as a browser would."""

    def __init__(self, stream: SocketStream) -> None:
        """Read from `stream`, which was asked already."""
        self._stream = stream
        self._text = b""
        self._body = b""
        self._is_body = False

    async def next(self) -> tuple[str, Any]:
        """Return the next event: its name and its data."""
        while True:
            found = self._event()
            if found is not None:
                return found
            self._take(await self._stream.receive())

    async def until(self, name: str) -> Any:
        """Return the data of the next event of this name."""
        with anyio.fail_after(60):
            while True:
                found, data = await self.next()
                if found == name:
                    return data

    def _take(self, data: bytes) -> None:
        self._text += data
        if not self._is_body and b"\r\n\r\n" in self._text:
            self._text = self._text.partition(b"\r\n\r\n")[2]
            self._is_body = True
        while self._is_body and b"\r\n" in self._text:  # the chunks of HTTP
            size, _, rest = self._text.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                return
            self._body += rest[:length]
            self._text = rest[length + 2 :]

    def _event(self) -> tuple[str, Any] | None:
        while b"\n\n" in self._body:
            block, _, self._body = self._body.partition(b"\n\n")
            fields = dict(line.split(": ", 1) for line in block.decode().splitlines())
            if "event" in fields:
                return fields["event"], json.loads(fields["data"])
        return None


@asynccontextmanager
async def listening(site: WebServer) -> AsyncIterator[Reader]:
    """Open the stream of events."""
    async with await connected(site) as stream:
        await stream.send(request(site, "/events"))
        yield Reader(stream)
