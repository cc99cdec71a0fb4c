"""How long a read of one server has been without an answer.

A dead link is noticed only when a request has been without an answer for a minute or more; the
server was silent from the moment at which the first of them was asked, or from the last answer
to anything else. A mount request or an unmount is not counted: its silence is work.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

FROZEN_AFTER = 5.0
"""Seconds that a pause may last too long before this process counts as having been frozen."""


async def overslept(seconds: float) -> float:
    """Pause for `seconds`, and return how many more it became: a process may be stopped."""
    due = anyio.current_time() + seconds
    await anyio.sleep(seconds)
    return anyio.current_time() - due


class Silence:
    """The reads of one server that have no answer yet. Times are those of `clock`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """No read is waiting yet."""
        self._clock = clock
        self._asked: dict[object, float] = {}
        self._begun: anyio.Event | None = None
        """Set with the next read; there only while somebody waits for one."""
        self._not_before = 0.0

    def begin(self) -> object:
        """Count one read as unanswered until `end` is called with what this returns."""
        mark = object()
        self._asked[mark] = self._clock()
        if self._begun is not None:
            self._begun.set()
            self._begun = None
        return mark

    def end(self, mark: object) -> None:
        """Count that read no more: it was answered, or given up."""
        del self._asked[mark]

    async def owing(self) -> None:
        """Return as soon as a read has no answer yet."""
        if not self._asked:
            self._begun = self._begun or anyio.Event()
            await self._begun.wait()

    def began(self, asked_at: float, idle_s: float) -> float:
        """Return since when the server has been silent to what was asked at `asked_at`.

        `idle_s` is how long ago it answered anything at all.
        """
        return max(asked_at, self._clock() - idle_s, self._not_before)

    def since(self, idle_s: float) -> float | None:
        """Return since when the server has been silent to anything, or None if nothing is owed."""
        first = next(iter(self._asked.values()), None)
        return None if first is None else self.began(first, idle_s)

    def forgive(self) -> None:
        """Count silence from now on: this process was frozen, and received nothing."""
        self._not_before = self._clock()
