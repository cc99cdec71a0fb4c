"""The fence of one server whose lease is in a database."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from orchestrator.core.errors import Fenced
from orchestrator.core.lease import Lease
from orchestrator.core.model import ServerName


class LeaseFence:
    """A lease that can be waited for; implements `ports.Fence`.

    It belongs to one event loop. A thread that renews the lease reports to it by the loop's
    `call_soon_threadsafe`.
    """

    def __init__(self, server: ServerName, lease: Lease, *, reads_pass: bool = True) -> None:
        """`lease` is that of `server`, and is changed through this object only.

        `reads_pass` is as `ports.Fence` says.
        """
        self.server, self.reads_pass = server, reads_pass
        self._lease = lease
        self._changed = anyio.Event()
        self._to_tell: dict[object, Callable[[], None]] = {}

    @property
    def epoch(self) -> int:
        """The number of this taking of the lease."""
        return self._lease.epoch

    @property
    def sure(self) -> bool:
        """True while no other worker can hold the lease."""
        return self._lease.sure

    @property
    def lost(self) -> bool:
        """True for ever once another worker holds it."""
        return self._lease.lost

    async def until_sure(self) -> None:
        """Return when the lease is sure.

        Raises:
            Fenced: another worker holds it.
        """
        while not self._lease.sure:
            if self._lease.lost:
                raise Fenced(self.server)
            await self._changed.wait()

    def when_lost(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell` once when the lease is lost, at once if it is; return what takes it back."""
        if self._lease.lost:
            tell()
        mark = object()
        self._to_tell[mark] = tell

        def forget() -> None:
            self._to_tell.pop(mark, None)

        return forget

    def renewed(self, sent_at: float) -> None:
        """Note a renewal that the database has confirmed, by when it was sent (boot clock)."""
        self._lease.renewed(sent_at)
        self._wake()

    def lose(self) -> None:
        """Note that another worker holds the lease, and tell everybody. Safe to repeat."""
        if self._lease.lost:
            return
        self._lease.lose()
        self._wake()
        for tell in tuple(self._to_tell.values()):
            tell()

    def _wake(self) -> None:
        """Let everybody look again who waits."""
        self._changed.set()
        self._changed = anyio.Event()
