"""How long requests to a server may take, and how large its answers may be."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

CONNECTIONS: Final = 7
"""Kept connections per server, one of which a mount POST may be using: TLS costs 0.3 MB each."""

KEPT_S: Final = 60.0
"""An idle connection is kept this long; HTTP.sys closes it after about 120 s."""

FRESH_S: Final = 2.0
"""A mount POST uses a connection that is new, or was used within so many seconds."""

SMALL: Final = 1024 * 1024
LARGE: Final = 64 * 1024 * 1024
"""Caps on answers, in bytes: single things, and lists."""

RETRIES: Final = 2

CONNECT_S: Final = 15.0
"""A connection and its TLS handshake may take this long."""


class Patience(Struct, frozen=True):
    """Time limits of one kind of request, in seconds.

    `silence` bounds the time from the connection to the headers of the answer, and from there to
    each part of its body. Waiting for a connection that others use counts for `total` alone.
    """

    total: float
    silence: float


READ = Patience(120.0, 60.0)
LIST = Patience(300.0, 60.0)
POST = Patience(180.0, 120.0)
"""A mount POST answers at once, unless the service queues it behind others."""
STOP = Patience(30.0, 30.0)
"""A stop of a task is bounded by those who wait for what comes of it."""
FILE = Patience(4 * 3600.0, 120.0)
"""A download lasts as long as its size asks for; the plan's limit of the phase bounds it."""
UNMOUNT = Patience(300.0, 300.0)
"""An unmount works synchronously, so its silence is work. Source: reference 6.1."""
