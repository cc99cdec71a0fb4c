"""How long requests to a server may take, and how large its answers may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import aiohttp

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


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits of one kind of request, in seconds."""

    total: float
    silence: float

    def as_timeout(self) -> aiohttp.ClientTimeout:
        """Return aiohttp's form; `connect` would count waiting for a pool slot, so it is unset."""
        return aiohttp.ClientTimeout(
            total=self.total, connect=None, sock_connect=15.0, sock_read=self.silence
        )


READ = Patience(120.0, 60.0).as_timeout()
LIST = Patience(300.0, 60.0).as_timeout()
POST = Patience(180.0, 120.0).as_timeout()
"""A mount POST answers at once, unless the service queues it behind others."""
FILE = Patience(4 * 3600.0, 120.0).as_timeout()
"""A download lasts as long as its size asks for; the plan's limit of the phase bounds it."""
UNMOUNT = Patience(300.0, 300.0).as_timeout()
"""An unmount works synchronously, so its silence is work. Source: reference 6.1."""
