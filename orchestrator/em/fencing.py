"""Requests behind a fence: what changes a server waits until its lease is sure.

A wait for a connection can be long, so the last look comes after it: when a connection has been
made or taken from the pool, and for a request with a body once more just before its first byte is
written. What these looks stop was not sent. Without a fence nothing of this module is used.

A process that is frozen between the last look and that byte sends it when it wakes up. Nothing can
prevent that; the engine makes sure that such a mount request acts in the old session only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
from aiohttp.connector import Connection

from orchestrator.core.errors import EnterpriseManagerError, Fenced, RequestNotSent
from orchestrator.core.ports.fence import Fence
from orchestrator.em.connector import Lending
from orchestrator.em.elements import Reading
from orchestrator.em.transport import Answer, Transport

T = TypeVar("T")


class _Unsure(RequestNotSent):
    """The last look stopped a request: it may be sent once the lease is sure again."""


def _must_be_sure(method: str, fence: Fence) -> bool:
    """Return whether a request is sent only while the lease is sure."""
    return method != "GET" or not fence.reads_pass


class _Body(aiohttp.BytesPayload):
    """The body of a request that changes something.

    aiohttp (3.14) writes it, and the headers before it, in a task of its own: before Python 3.12
    that begins in a later turn of the event loop than the one of the look at the connection.
    """

    def __init__(self, body: bytes, media_type: str, fence: Fence) -> None:
        super().__init__(body, content_type=media_type)
        self._fence = fence
        self.stopped = False
        """Whether the look stopped it: then nothing of the request was sent."""

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        """Write headers and body if the request may be sent now.

        Raises:
            _Unsure: it may not. aiohttp reports an error of its own, and closes the connection.
        """
        if self._fence.lost or not self._fence.sure:
            self.stopped = True
            raise _Unsure("not sent, because the lease is not sure")
        await super().write_with_length(writer, content_length)


class FencedTransport(Transport):
    """Requests to one server that another worker may take over at any time."""

    def __init__(self, *args: Any, fence: Fence, **options: Any) -> None:
        """As `Transport`; `fence` is that of its server."""
        self._fence = fence
        super().__init__(*args, **options)
        self._keep_when_lost = fence.when_lost(self._deadlines.end_all)

    async def close(self) -> None:
        """Close all connections."""
        self._keep_when_lost()
        await super().close()

    async def send(
        self,
        method: str,
        target: str,
        reading: Callable[[], Reading[T]],
        *,
        body: Any = None,
        **how: Any,
    ) -> tuple[Answer, T]:
        """Send one request as `Transport.send`, once the fence lets it pass.

        A read passes while the lease is not sure, if the fence says so.
        Everything else waits, for as long as it takes; the request's own time limit counts from
        the end of that. A request under way when the lease is lost is ended at once.

        Raises:
            Fenced: the lease is lost. It was not sent, or nothing depends on its answer any more.
            EnterpriseManagerError: as `Transport.send`; never once the lease is lost.
        """
        while True:
            if _must_be_sure(method, self._fence):
                await self._fence.until_sure()
            held = _Body(body, self.media_type, self._fence) if body is not None else None
            try:
                self._require_not_lost()
                return await super().send(method, target, reading, body=held, **how)
            except EnterpriseManagerError as exc:
                is_stopped = isinstance(exc, _Unsure) or (held is not None and held.stopped)
                if is_stopped:
                    self.requests -= 1
                self._require_not_lost()
                if not is_stopped:
                    raise

    def _require_not_lost(self) -> None:
        """Return unless the lease is lost.

        Raises:
            Fenced: it is.
        """
        if self._fence.lost:
            raise Fenced(self.server) from None

    def _lending(self, connector: aiohttp.BaseConnector) -> Lending:
        return _LastLook(connector, self._deadlines.heard, self._fence, self.server)


class _LastLook(Lending):
    """Lends the connections of another connector, if the fence lets the request pass then.

    aiohttp's own hooks for this moment cannot say no: it would forget to close a connection that
    was just made (3.14). Between `connect` and the first byte of a request without a body it awaits
    nothing.
    """

    def __init__(
        self,
        lending: aiohttp.BaseConnector,
        when_lent: Callable[[], None],
        fence: Fence,
        server: str,
    ) -> None:
        super().__init__(lending, when_lent)
        self._fence, self._server = fence, server

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Connection:
        """Return a connection for a request that may be sent now.

        Raises:
            Fenced: the lease is lost.
            _Unsure: the lease is not sure, and the request has to wait for that.
        """
        connection = await super().connect(req, traces, timeout)
        if self._fence.lost:
            connection.release()
            raise Fenced(self._server)
        if _must_be_sure(req.method, self._fence) and not self._fence.sure:
            connection.release()
            raise _Unsure(f"{self._server}: not sent, because its lease is not sure")
        return connection
