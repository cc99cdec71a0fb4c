"""How long the end of a run may take after the second signal.

The first signal lets what runs end; the second gives everything that is still in work a few
seconds, so that the process is gone within eight of them, whatever is in doubt. What could not
be released by then is named, and its session stays open for `unmount` and `resume`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio

from orchestrator.engine.bounded import before

ANSWER_S = 1.0
"""Seconds for which the answer of a request that acts is awaited all the same."""

CLEANUP_S = 2.5
"""Seconds that a clean-up may take, the wait for an answer included."""

AUDIT_S = 0.5
"""Seconds that a last look at the servers may take."""


class ForcedEnd:
    """Whether the run must end at once: after the second signal."""

    def __init__(self) -> None:
        """No second signal has come yet."""
        self._wanted = anyio.Event()
        self._late = False
        self._shields: set[anyio.CancelScope] = set()

    @property
    def is_wanted(self) -> bool:
        """True after the second signal."""
        return self._wanted.is_set()

    def want(self) -> None:
        """Note the second signal."""
        self._wanted.set()

    def grace(self, usual: float) -> float:
        """Return the seconds that a clean-up may take which may usually take so many."""
        return min(usual, CLEANUP_S) if self.is_wanted else usual

    @contextmanager
    def shielded(self) -> Iterator[anyio.CancelScope]:
        """Shield from cancellation meanwhile, until the second signal."""
        with anyio.CancelScope(shield=not self._late) as scope:
            self._shields.add(scope)
            try:
                yield scope
            finally:
                self._shields.discard(scope)

    async def lift_shields(self) -> None:
        """Wait for the second signal, then a few seconds for the last answers."""
        await self._wanted.wait()
        await anyio.sleep(ANSWER_S)
        self._late = True
        for scope in tuple(self._shields):
            scope.shield = False

    async def unless_late(self, work: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Do `work` to its end, or for so many seconds after the second signal."""

        async def late() -> None:
            await self._wanted.wait()
            await anyio.sleep(seconds)

        await before(late, work)
