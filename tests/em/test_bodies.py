"""Bodies that never pause: data are there at every turn of the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import aiohttp
import anyio
import pytest

from orchestrator.em.bodies import CountedBody, feed_body
from orchestrator.em.masking import Masks

pytestmark = pytest.mark.anyio

PIECES = 20_000
"""After so many the body ends, if nobody has ended it before."""


class _Content:
    """The content of a response whose socket is readable at every look of the event loop."""

    total_bytes = 0

    def __init__(self, ready: socket.socket) -> None:
        self.read_so_far = 0
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ready, self._data_received)

    def is_eof(self) -> bool:
        """Return False: there is more."""
        return False

    async def read(self, _most: int) -> bytes:
        """Wait for the next piece, which comes in this very turn."""
        self._waiter = self._loop.create_future()
        await self._waiter
        self.read_so_far += 1
        return b"" if self.read_so_far >= PIECES else b"x"

    def _data_received(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Response:
    status = 200

    def __init__(self, content: _Content) -> None:
        self.content = content


@asynccontextmanager
async def endless() -> AsyncIterator[_Content]:
    """Return a content that never pauses."""
    ready, other = socket.socketpair()
    with ready, other:
        other.send(b"x")
        yield _Content(ready)
        asyncio.get_running_loop().remove_reader(ready)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # real time: a socket wakes its loop
async def test_a_download_without_a_pause_can_be_ended(anyio_backend: str) -> None:
    """Time limits, the end of a hold and a second Ctrl-C count there, too."""
    _ = anyio_backend
    async with endless() as content:
        stop = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def end() -> None:
                await stop.wait()
                tasks.cancel_scope.cancel()

            async def later() -> None:
                await anyio.sleep(0.02)
                stop.set()

            tasks.start_soon(end)
            tasks.start_soon(later)
            response = cast("aiohttp.ClientResponse", _Response(content))
            await feed_body(
                response, CountedBody(lambda _: None), Masks(), 10**12, heard=lambda: None
            )

        assert content.read_so_far < PIECES
