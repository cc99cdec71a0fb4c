"""The connection that a mount POST goes out on: one that was used a moment ago, or a new one.

A server closes a connection that idles, and a POST that meets this loses its answer: nobody can
say then whether it was carried out. So a POST takes the connection of the newest answer, if that
came a moment ago. Mostly it did: a read showed that a task is finished, or an unmount confirmed.
A connection for the POST alone would cost a handshake, as much CPU as a dozen requests.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import aiohttp
from aiohttp.connector import Connection

from orchestrator.em import limits


class PostConnector(aiohttp.BaseConnector):
    """Lends the kept connection of the newest answer; else one of its own, new or just used.

    So a POST waits for no other request, and none waits for it.
    """

    def __init__(self, kept: aiohttp.BaseConnector, own: aiohttp.BaseConnector) -> None:
        """`kept` has the connections of all other requests; `own` makes those for POSTs alone."""
        super().__init__(force_close=True)
        self._kept = kept
        self._own = own

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Connection:
        """Return a connection that no server can have closed as idle."""
        lent = await _just_used(self._kept, req.connection_key, traces)
        return lent or await self._own.connect(req, traces, timeout)

    async def _close_own(self) -> None:
        await self._own.close()
        await super().close()

    def close(self, *, abort_ssl: bool = False) -> Any:
        """Close its own connections."""
        _ = abort_ssl
        return self._close_own()


async def _just_used(kept: aiohttp.BaseConnector, key: Any, traces: Any) -> Connection | None:
    """Take the idle connection that was used last, if that is a moment ago and it is open.

    Only aiohttp's own pool knows when each was used (3.14), and says so to nobody. It is asked
    while that one is all it has, so it gives that one or none; nothing else runs meanwhile.
    """
    pool = getattr(kept, "_conns", {})
    idle = pool.get(key)
    if not idle:
        return None
    protocol, used_at = idle[-1]
    if not protocol.is_connected() or monotonic() - used_at > limits.FRESH_S:
        return None
    older = [idle.popleft() for _ in range(len(idle) - 1)]
    try:
        return await kept._get(key, traces)  # noqa: SLF001 - nothing public tells them apart
    finally:
        if older:
            pool[key].extendleft(reversed(older))
