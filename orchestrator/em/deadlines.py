"""How long requests may take in all, with one timer for all requests of a transport.

aiohttp would start and stop a timer of its own for each of them, which costs a twentieth of the
request. Nearly all end long before: so one timer looks, and is set again only when it has.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

GRACE_S: Final = 0.25
"""After its time a request gets this long: where this process was stopped or this machine slept,
its answer may have come meanwhile, and nobody has looked."""


class Deadlines:
    """The requests that are under way, each with the time by which it must have ended."""

    def __init__(self) -> None:
        """Must be made where an event loop runs."""
        self.loop = asyncio.get_running_loop()
        self.open: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> Deadline:
        """Return a context that raises TimeoutError where what is in it takes longer."""
        return Deadline(self, self.loop.time() + seconds)

    def look_at(self, when: float) -> None:
        """See to it that nothing is overlooked from `when` on."""
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._look)

    def end_all(self) -> None:
        """End every request that is under way, as if its time were over."""
        for each in tuple(self.open):
            each.end()

    def close(self) -> None:
        """Look no more, unless a request is still under way: nothing else may end that one."""
        if self._timer is not None and not self.open:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        for each in [each for each in self.open if each.at <= now]:
            each.pass_by(now)
        if self.open:
            self.look_at(min(each.at for each in self.open))


class Deadline:
    """The time by which one request must have ended."""

    __slots__ = ("_all", "_cancelled_before", "_grace", "_is_over", "_task", "at")

    def __init__(self, of: Deadlines, at: float) -> None:
        """It counts from now, and acts while the context is entered."""
        self._all = of
        self._grace = self._is_over = False
        self.at = at

    def __enter__(self) -> None:
        task = asyncio.current_task(self._all.loop)
        if task is None:
            raise RuntimeError("only a task can be ended")
        self._task = task
        self._cancelled_before = task.cancelling()
        self._all.open.add(self)
        self._all.look_at(self.at)

    def pass_by(self, now: float) -> None:
        """End what is in the context, at the second time; after the first one it gets its grace."""
        if not self._grace:
            self._grace, self.at = True, now + GRACE_S
            return
        self.end()

    def end(self) -> None:
        """End what is in the context, at once."""
        self._is_over = True
        self._all.open.discard(self)
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._all.open.discard(self)
        if self._is_over:
            is_only_ours = self._task.uncancel() <= self._cancelled_before
            if is_only_ours and kind is asyncio.CancelledError:
                raise TimeoutError from exc
