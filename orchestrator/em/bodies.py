"""Bodies of answers, read in pieces under a cap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import aiohttp
from anyio.lowlevel import checkpoint_if_cancelled

from orchestrator.core.errors import EmptyAnswer, MalformedResponse
from orchestrator.em.elements import Reading
from orchestrator.em.masking import Masked, Masks

T = TypeVar("T")

CHUNK: Final = 64 * 1024


class TakerFailed(Exception):
    """The receiver of a body failed: not the server's fault, so it is not translated."""

    def __init__(self, error: Exception) -> None:
        """`error` is the taker's own."""
        super().__init__()
        self.error = error


class CountedBody:
    """A body for another receiver; implements `Reading`."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        """Nothing is taken yet."""
        self._take = take
        self.size = 0

    def feed(self, chunk: bytes) -> None:
        """Count a piece and hand it over."""
        self.size += len(chunk)
        try:
            self._take(chunk)
        except Exception as exc:
            raise TakerFailed(exc) from exc

    def close(self) -> None:
        """Return nothing: the taker has it."""

    def whole(self, body: bytes) -> None:
        """Take a body that came in one piece."""
        self.feed(body)


async def feed_body(
    response: aiohttp.ClientResponse,
    reading: Reading[T],
    masks: Masks,
    cap: int,
    heard: Callable[[], None],
) -> T:
    """Feed the body to `reading` as it comes, up to `cap` bytes; a file as it is.

    `heard` is called with all that comes of one that is not yet there.

    Nearly every body is small and has come with the headers: that one is read at once. In a long
    one data may be there at every turn of the event loop; anyio then never cancels by itself, for
    it cancels only a task that waits. So it is asked for with each piece.
    """
    is_file = isinstance(reading, CountedBody)
    content = response.content
    if content.is_eof() and 0 < content.total_bytes <= min(CHUNK, cap):
        body = content.read_nowait()
        return reading.whole(body if is_file else masks.apply(body))
    if masks and not is_file:
        reading = Masked(reading, masks)
    size = 0
    heard()
    while chunk := await content.read(CHUNK):
        heard()
        size += len(chunk)
        if size > cap:
            response.close()
            raise MalformedResponse(f"the answer is larger than {cap} bytes")
        reading.feed(chunk)
        await checkpoint_if_cancelled()
    if not size and not is_file:
        raise EmptyAnswer(f"the answer is empty, with status {response.status}")
    return reading.close()


async def read_body(response: aiohttp.ClientResponse, cap: int, heard: Callable[[], None]) -> bytes:
    """Return a body, or its first bytes where it is larger than `cap`; `heard` as `feed_body`."""
    if response.content.is_eof() and response.content.total_bytes <= CHUNK:
        return response.content.read_nowait()
    parts = []
    size = 0
    heard()
    while chunk := await response.content.read(CHUNK):
        heard()
        size += len(chunk)
        if size > cap:
            response.close()
            break
        parts.append(chunk)
    return b"".join(parts)
