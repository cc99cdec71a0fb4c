"""How long requests may take in all and wait for more, with one timer for those of a transport.

aiohttp would start and stop two timers of its own for each of them, which costs a tenth of the
request. Nearly all end long before: so one timer looks, and is set again only when it has.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Any, Final

GRACE_S: Final = 0.25
"""After its time a request gets this long: where this process was stopped or this machine slept,
its answer may have come meanwhile, and nobody has looked."""


class Deadlines:
    """The requests that are under way, each with the time by which it must have gone on."""

    def __init__(self) -> None:
        """Must be made where an event loop runs."""
        self.loop = asyncio.get_running_loop()
        self.open: dict[asyncio.Task[Any], Deadline] = {}
        """By task: a task sends one request at a time."""
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = math.inf
        """When the timer will look; `inf` without one."""

    def within(self, total_s: float, silence_s: float = math.inf) -> Deadline:
        """Return a context that raises TimeoutError where what is in it takes longer.

        Silence counts from the first `heard` on, when the request has got its connection.
        """
        return Deadline(self, total_s, silence_s)

    def heard(self) -> None:
        """Count the silence of the request of this task from now on: it has gone on."""
        deadline = self.open.get(asyncio.current_task(self.loop))  # type: ignore[arg-type]
        if deadline is not None:
            deadline.heard(self.loop.time())

    def look_at(self, when: float) -> None:
        """See to it that nothing is overlooked from `when` on."""
        if self._looks_at <= when:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._looks_at = self.loop.call_at(when, self._look), when

    def end_all(self) -> None:
        """End every request that is under way, as if its time were over."""
        for each in tuple(self.open.values()):
            each.end()

    def close(self) -> None:
        """Look no more, unless a request is still under way: nothing else may end that one."""
        if self._timer is not None and not self.open:
            self._timer.cancel()
            self._timer, self._looks_at = None, math.inf

    def _look(self) -> None:
        self._timer, self._looks_at = None, math.inf
        now = self.loop.time()
        for each in [each for each in self.open.values() if each.at <= now]:
            each.pass_by(now)
        if self.open:
            self.look_at(min(each.at for each in self.open.values()))


class Deadline:
    """The time by which one request must have ended, or at least gone on."""

    __slots__ = (
        "_all",
        "_cancelled_before",
        "_ends_at",
        "_grace",
        "_is_over",
        "_silence_s",
        "_task",
        "at",
    )

    def __init__(self, of: Deadlines, total_s: float, silence_s: float) -> None:
        """It counts from now, and acts while the context is entered."""
        self._all = of
        self._grace = self._is_over = False
        self._silence_s = silence_s
        self.at = self._ends_at = of.loop.time() + total_s

    def __enter__(self) -> None:
        task = asyncio.current_task(self._all.loop)
        if task is None:
            raise RuntimeError("only a task can be ended")
        self._task = task
        self._cancelled_before = task.cancelling()
        self._all.open[task] = self
        self._all.look_at(self.at)

    def heard(self, now: float) -> None:
        """Count silence from `now` on; the total time goes on."""
        at = min(now + self._silence_s, self._ends_at)
        if at > now:
            self.at, self._grace = at, False
            self._all.look_at(at)

    def pass_by(self, now: float) -> None:
        """End what is in the context, at the second time; after the first one it gets its grace."""
        if not self._grace:
            self._grace, self.at = True, now + GRACE_S
            return
        self.end()

    def end(self) -> None:
        """End what is in the context, at once."""
        self._is_over = True
        self._all.open.pop(self._task, None)
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._all.open.pop(self._task, None)
        if self._is_over:
            is_only_ours = self._task.uncancel() <= self._cancelled_before
            if is_only_ours and kind is asyncio.CancelledError:
                raise TimeoutError from exc
