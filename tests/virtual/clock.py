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
from contextvars import Context, copy_context
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

MANY = 100
"""Timers from which on those that were cancelled are sorted out, once they are most of them."""


LEAST_S = 2e-9
"""What a timer that is not due yet waits at least: a real clock moves on meanwhile, and whoever
waits for what rounding has left of a time would find it again and again."""


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: in virtual time that would wait for ever."""


class Soon(Handle):
    """A callback of the next turn, made without asking whether anybody debugs."""

    __slots__ = ()

    def __init__(self, callback: Any, args: Any, loop: VirtualTimeLoop, context: Context) -> None:
        # As asyncio's: there are thousands in each story.
        self._context = context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None


class Timer(TimerHandle):
    """A callback at a time, made and cancelled without asking whether anybody debugs."""

    __slots__ = ()

    def __init__(
        self, when: float, callback: Any, args: Any, loop: VirtualTimeLoop, context: Context
    ) -> None:
        # As asyncio's, see above.
        self._context = context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None
        self._when = when
        self._scheduled = False

    def cancel(self) -> None:
        """Call nothing."""
        if not self._cancelled:
            if self._scheduled:
                self._loop._timer_cancelled_count += 1
            self._cancelled = True
            self._callback = None
            self._args = None  # type: ignore[assignment]  # as asyncio does


class _Polling(selectors.DefaultSelector):
    """Polls real file descriptors without waiting."""

    watched = 0
    """How many there are; one of them wakes the loop."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch one more."""
        key = super().register(fileobj, events, data)
        self.watched = len(self.get_map())
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch one less."""
        key = super().unregister(fileobj)
        self.watched = len(self.get_map())
        return key

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

    get_debug = bool  # False, and no code of Python: each future asks

    def __init__(self) -> None:
        """Use it as a loop factory."""
        self.now = 0.0
        """Virtual seconds since the loop was made."""
        self.errors: list[BaseException] = []
        """What callbacks have raised: asyncio only logs that."""
        self._polling = _Polling()
        super().__init__(self._polling)
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self.now

    def jump(self, seconds: float) -> None:
        """Put the clock forward; every timer that this passes is late."""
        self.now += seconds

    def call_soon(  # type: ignore[override]  # as asyncio's, which only names what it takes
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Call in the next turn."""
        if self._closed:
            self._check_closed()
        handle = Soon(callback, args, self, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call after some seconds."""
        if 0.0 < delay < LEAST_S:
            delay = LEAST_S
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call at a time."""
        timer = Timer(when, callback, args, self, copy_context() if context is None else context)
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
            self._run_ready(len(ready))
            if self._stopping:
                return

    def _run_ready(self, count: int) -> None:
        """Run as many of the callbacks that are ready."""
        ready = self._ready
        handle: Any = None
        while count:
            try:
                while count:
                    count -= 1
                    handle = ready.popleft()
                    if not handle._cancelled:
                        handle._context.run(handle._callback, *handle._args)
            except BaseException as exc:  # noqa: BLE001 - as asyncio does
                self._failed(handle, exc)

    def _failed(self, handle: Handle, exc: BaseException) -> None:
        """Tell what a callback has raised, as asyncio does."""
        if isinstance(exc, SystemExit | KeyboardInterrupt):
            raise exc
        self.errors.append(exc)
        self.call_exception_handler(
            {"message": f"Exception in callback {handle!r}", "exception": exc, "handle": handle}
        )

    def _poll(self) -> None:
        """Take in what sockets say while there is something else to do."""
        if self._polling.watched > 1:  # else nothing but a wake-up, and the loop is awake
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
