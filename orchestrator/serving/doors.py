"""How many connections there may be, how long each, and how much each may say.

A connection carries one request. aiohttp waits for ever for the first one; here nobody does.
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
"""Bytes that the system keeps for a listener that does not read."""


def most_connections() -> int:
    """Return how many there may be: few enough to leave the run its descriptors."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(CONNECTIONS, max(8, soft // 4))


class Doors:
    """Makes the protocols of new connections, and ends those that take too long."""

    def __init__(
        self, inner: Callable[[], asyncio.Protocol], now: Callable[[], float], most: int
    ) -> None:
        """`inner` makes the protocol behind the door; `now` is the loop's clock."""
        self._inner, self._now, self.most = inner, now, most
        self._inside: set[Door] = set()
        self.turned_away = 0

    def __len__(self) -> int:
        """Connections that are open now."""
        return len(self._inside)

    def __iter__(self) -> Iterator[Door]:
        """Iterate over the connections that are open now."""
        return iter(self._inside)

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of one new connection."""
        return Door(self, self._inner())

    def enter(self, door: Door) -> bool:
        """Tell whether one more may come in."""
        if len(self._inside) >= self.most:
            self.turned_away += 1
            return False
        door.since = self._now()
        self._inside.add(door)
        return True

    def leave(self, door: Door) -> None:
        """Forget a connection that is gone."""
        self._inside.discard(door)

    def asked(self, transport: asyncio.BaseTransport | None, *, stream: bool = False) -> None:
        """Note that a whole request came through; a `stream` may stay."""
        for door in self._inside:
            if door.transport is transport:
                door.has_asked, door.may_stay = True, stream

    def sweep(self) -> None:
        """End the connections whose time is over."""
        now = self._now()
        for door in list(self._inside):
            allowed = ANSWER_S if door.has_asked else REQUEST_S
            if not door.may_stay and now - door.since > allowed:
                door.shut()

    def shut(self) -> None:
        """End all connections."""
        for door in list(self._inside):
            door.shut()


class Door(asyncio.Protocol):
    """One connection: passes on what it may, and counts."""

    def __init__(self, doors: Doors, inner: asyncio.Protocol) -> None:
        """`inner` is told of everything once the connection is let in."""
        self._doors, self._inner = doors, inner
        self.transport: asyncio.Transport | None = None
        self.since = 0.0
        self.has_asked = False
        self.may_stay = False
        self._bytes = 0
        self._is_in = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the connection in, or end it at once."""
        self.transport = cast("asyncio.Transport", transport)
        self._is_in = self._doors.enter(self)
        if self._is_in:
            self._inner.connection_made(transport)
        else:
            self.shut()

    def data_received(self, data: bytes) -> None:
        """Pass on a request; more than one request can have is an attack or a mistake."""
        self._bytes += len(data)
        if self._bytes > REQUEST_BYTES:
            self.shut()
        elif self._is_in:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received() if self._is_in else None

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, and make room."""
        self._doors.leave(self)
        if self._is_in:
            self._inner.connection_lost(exc)

    def shut(self) -> None:
        """End the connection without waiting for anything to be read."""
        if self.transport is not None:
            self.transport.abort()
