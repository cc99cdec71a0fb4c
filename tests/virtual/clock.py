"""Virtual time: a loop whose clock jumps to the next timer when nothing else can happen.

The same program runs a three-hour drill in seconds, deterministically. Sockets within the
same loop work; threads and other processes do not: their time is real.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from asyncio.events import Handle, TimerHandle
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

MANY = 100
"""Timers from which on those that were cancelled are sorted out, once they are most of them."""


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: in virtual time that would wait for ever."""


class _Polling(selectors.DefaultSelector):
    """Polls real file descriptors without waiting."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready."""
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on virtual time that starts at 0.

    Its timers are sorted by their times alone, without asking them: a story sets thousands.
    """

    _ready: deque[Handle]  # as in asyncio's own
    _scheduled: list[tuple[float, TimerHandle]]
    _timer_cancelled_count: int
    _clock_resolution: float
    _stopping: bool
    _closed: bool
    _check_closed: Callable[[], None]

    def __init__(self) -> None:
        """Use it as a loop factory."""
        self.now = 0.0
        """Virtual seconds since the loop was made."""
        self._polling = _Polling()
        super().__init__(self._polling)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self.now

    def jump(self, seconds: float) -> None:
        """Put the clock forward; every timer that this passes is late."""
        self.now += seconds

    def call_at(  # type: ignore[override]  # as asyncio's, which only names what it takes
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call at a time."""
        timer = TimerHandle(when, callback, args, self, context)
        self._set(timer, when)
        return timer

    def _set(self, timer: TimerHandle, when: float) -> None:
        heappush(self._scheduled, (when, timer))
        timer._scheduled = True  # type: ignore[attr-defined]  # as asyncio does

    def _run_once(self) -> None:
        """Do what asyncio does in its turns, but for what helps to debug, until it is stopped."""
        timers, ready, resolution = self._scheduled, self._ready, self._clock_resolution
        while True:
            if len(timers) > MANY and 2 * self._timer_cancelled_count > len(timers):
                self._drop_cancelled()
            while timers and timers[0][1]._cancelled:
                heappop(timers)[1]._scheduled = False  # type: ignore[attr-defined]  # as asyncio does
                self._timer_cancelled_count -= 1
            if ready or self._stopping:
                self._poll()
            else:
                self._wait(max(0.0, timers[0][0] - self.now) if timers else None)
            over = self.now + resolution
            while timers and timers[0][0] < over:
                timer = heappop(timers)[1]
                timer._scheduled = False  # type: ignore[attr-defined]
                ready.append(timer)
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
            if self._stopping:
                return

    def _poll(self) -> None:
        """Take in what sockets say while there is something else to do."""
        if len(self._polling.get_map()) > 1:  # else nothing but a wake-up, and the loop is awake
            self._process_events(self._polling.select())  # type: ignore[attr-defined]

    def _wait(self, seconds: float | None) -> None:
        """Take in what sockets and threads say; if that is nothing, let the time pass."""
        events = self._polling.select()
        if events:
            self._process_events(events)  # type: ignore[attr-defined]
        elif seconds is None:
            raise Deadlock("everything waits, and no timer will ever fire")
        else:
            self.now += seconds

    def _drop_cancelled(self) -> None:
        """Forget all timers that were cancelled."""
        timers = self._scheduled
        for _, timer in timers:
            timer._scheduled = not timer._cancelled  # type: ignore[attr-defined]
        timers[:] = [each for each in timers if not each[1]._cancelled]
        heapify(timers)
        self._timer_cancelled_count = 0


def freeze(seconds: float) -> None:
    """Let time pass for everything at once, as for a process that was stopped meanwhile."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.jump(seconds)


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the garbage collector wait: a story leaves little, and much of it lives to its end.

    Nor does anything then end because of what other stories have left.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def run_virtual(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run `main(*args)` to its end on a new virtual-time loop."""
    return anyio.run(
        main, *args, backend="asyncio", backend_options={"loop_factory": VirtualTimeLoop}
    )
