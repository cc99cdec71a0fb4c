"""What the servers of a run list, each in its own time.

The targets of the servers that list first begin a few seconds later at most; a server that
lists after that is taken up then, and one that cannot be asked yet is not waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import anyio
from anyio.abc import TaskGroup

from orchestrator.core.model import ServerName
from orchestrator.engine.bounded import before
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.plan.choose.inventory import Listing

GRACE = 4.0
"""Seconds for which a server that has listed waits for the others: their targets are told,
confirmed and admitted together then."""


class Listings:
    """The listings of some servers of a run."""

    def __init__(self, ask: Callable[[ServerConnection], Awaitable[Listing | None]]) -> None:
        """`ask` returns what a server lists, or None once it cannot be used any more."""
        self._ask = ask
        self._servers: dict[ServerName, ServerConnection] = {}
        self._done: dict[ServerName, anyio.Event] = {}
        self._some = anyio.Event()
        self.found: dict[ServerName, Listing] = {}
        """What has been listed so far."""
        self._listed: set[ServerName] = set()

    def begin(self, servers: Iterable[ServerConnection], tasks: TaskGroup) -> None:
        """Ask these servers, in `tasks`."""
        for server in servers:
            self._servers[server.name] = server
            self._done[server.name] = anyio.Event()
            tasks.start_soon(self._keep, server)

    async def _keep(self, server: ServerConnection) -> None:
        try:
            listing = await self._ask(server)
            if listing is not None:
                self.found[server.name] = listing
                self._listed.add(server.name)
                self._some.set()
        finally:
            self._done[server.name].set()

    async def first(self) -> None:
        """Return when every server has listed or is in trouble, and soon after the first listed."""

        async def soon() -> None:
            await self._some.wait()
            await anyio.sleep(GRACE)

        async def all_known() -> None:
            for server in self._servers.values():
                await self._known(server)

        await before(soon, all_known)

    async def _known(self, server: ServerConnection) -> None:
        """Return when a server has listed, or cannot do so for now."""
        await server.decided()
        if server.gate.is_open:
            await self._done[server.name].wait()

    @property
    def missing(self) -> list[ServerName]:
        """The servers that have not listed so far."""
        return [name for name in self._servers if name not in self._listed]

    def forget(self) -> None:
        """Forget what was listed: all of it is planned, and most of its points nobody wants."""
        self.found.clear()

    async def of(self, server: ServerName) -> Listing | None:
        """Return what a server lists, or None once it cannot be used any more."""
        await self._done[server].wait()
        return self.found.get(server)
