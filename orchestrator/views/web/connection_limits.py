"""Limits of the page's connections: how many, how long, and how many bytes of a request.

A connection carries one request. aiohttp waits for the first one without a limit.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from typing import cast

CONNECTIONS = 300
REQUEST_S = 5.0
"""Seconds within which a request must have arrived."""
ANSWER_S = 15.0
"""Seconds after which a connection that is not a stream ends, read or not."""
REQUEST_BYTES = 16 * 1024
SEND_BUFFER = 64 * 1024
"""Bytes that the system keeps for a client that does not read."""


def most_connections() -> int:
    """Return how many there may be: few enough to leave the run its descriptors."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(CONNECTIONS, max(8, soft // 4))


class ConnectionLimits:
    """Makes the protocols of new connections, and ends those that take too long."""

    def __init__(
        self, inner: Callable[[], asyncio.Protocol], now: Callable[[], float], most: int
    ) -> None:
        """`inner` makes the protocol of a connection; `now` is the loop's clock."""
        self._inner, self._now, self.most = inner, now, most
        self._open: set[LimitedConnection] = set()
        self.refused = 0
        self._is_over = False

    def __len__(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def __iter__(self) -> Iterator[LimitedConnection]:
        """Iterate over the connections that are open now."""
        return iter(self._open)

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of one new connection."""
        return LimitedConnection(self, self._inner())

    def admit(self, connection: LimitedConnection) -> bool:
        """Return whether one more connection is accepted; none is any more after `close`."""
        if self._is_over:
            return False
        if len(self._open) >= self.most:
            self.refused += 1
            return False
        connection.since = self._now()
        self._open.add(connection)
        return True

    def remove(self, connection: LimitedConnection) -> None:
        """Forget a connection that is gone."""
        self._open.discard(connection)

    def request_arrived(
        self, transport: asyncio.BaseTransport | None, *, stream: bool = False
    ) -> None:
        """Note that a whole request has arrived; a `stream` may stay open."""
        for connection in self._open:
            if connection.transport is transport:
                connection.has_asked, connection.may_stay = True, stream

    def close_overdue(self) -> None:
        """End the connections whose time is over."""
        now = self._now()
        for connection in list(self._open):
            allowed = ANSWER_S if connection.has_asked else REQUEST_S
            if not connection.may_stay and now - connection.since > allowed:
                connection.close()

    def close(self) -> None:
        """End all connections, also one that the system has accepted and that comes after this."""
        self._is_over = True
        for connection in list(self._open):
            connection.close()


class LimitedConnection(asyncio.Protocol):
    """One connection: passes on what it may, and counts."""

    def __init__(self, limits: ConnectionLimits, inner: asyncio.Protocol) -> None:
        """`inner` gets everything once the connection is accepted."""
        self._limits, self._inner = limits, inner
        self.transport: asyncio.Transport | None = None
        self.since = 0.0
        self.has_asked = False
        self.may_stay = False
        self._bytes = 0
        self._is_admitted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, or end it at once."""
        self.transport = cast("asyncio.Transport", transport)
        self._is_admitted = self._limits.admit(self)
        if self._is_admitted:
            self._inner.connection_made(transport)
        else:
            self.close()

    def data_received(self, data: bytes) -> None:
        """Pass on a request; more than one request can have is an attack or a mistake."""
        self._bytes += len(data)
        if self._bytes > REQUEST_BYTES:
            self.close()
        elif self._is_admitted:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received() if self._is_admitted else None

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, and count the connection no longer."""
        self._limits.remove(self)
        if self._is_admitted:
            self._inner.connection_lost(exc)

    def close(self) -> None:
        """End the connection without waiting for anything to be read."""
        if self.transport is not None:
            self.transport.abort()
