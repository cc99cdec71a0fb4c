"""Processes of one story, all in one loop on virtual time: each can be killed, frozen or hung.

What a process does carries a context variable with the thread that does it, which everything
inherits that this schedules in the loop. So the loop knows whose each callback is: it drops those
of a process that was killed, without running any `finally`, and withholds those of one that stands
still. What belongs to nobody (servers, the database, the network between) always runs.
"""

from __future__ import annotations

import asyncio
from asyncio.events import Handle, TimerHandle
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from enum import Enum
from heapq import heappush
from typing import Any, TypeVar

import anyio

from tests.virtual.clock import LEAST_S, Soon, Timer, VirtualTimeLoop

T = TypeVar("T")

ROUNDING_S = 1e-9
"""How far the clock of a process that has stood still is ahead: more than sums are rounded by, so
that a timer of its never finds that it is early."""


class Freeze(Enum):
    """How a process stands still, and which of its clocks do."""

    STOPPED = "stopped"
    """By SIGSTOP: both its clocks go on."""
    SUSPENDED = "suspended"
    """With its machine: the boot clock goes on, the monotonic one stands still."""
    PAUSED = "paused"
    """As a virtual machine that is paused: neither goes on, and nothing tells it."""


class Thread:
    """One thread of a process: what it has to do waits while the thread stands still."""

    def __init__(self, process: Process) -> None:
        """It runs."""
        self.process = process
        self.stands_still = False
        self.is_free = True
        """Whether it runs, and by the loop's clock: it may do at once whatever is ready."""
        self.waiting: list[Handle] = []


_CURRENT: ContextVar[Thread | None] = ContextVar("thread", default=None)


class Process:
    """A process: the thread of its loop, and one that renews its leases."""

    def __init__(self, name: str) -> None:
        """It runs, with nothing to do; `ProcessLoop.start` gives it that."""
        self.name = name
        self._loop = _loop()
        self.main, self.beside = Thread(self), Thread(self)
        self.is_dead = False
        self.stood_still_s = 0.0
        """Seconds that the loop's clock has, and that of this process has not."""
        self._boot_stood_still_s = 0.0
        self._frozen: tuple[Freeze, float] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._generators: list[Any] = []
        """Asynchronous generators that it has begun: kept, for what is collected is closed."""

    def __repr__(self) -> str:
        """Return its name."""
        return f"Process({self.name})"

    @property
    def is_frozen(self) -> bool:
        """True while all of it stands still."""
        return self._frozen is not None

    def boot_clock(self) -> float:
        """Return its machine's clock, in seconds; it goes on while the machine is suspended."""
        return self._loop.now - self._boot_stood_still_s

    def context(self, thread: Thread | None = None) -> Context:
        """Return a context in which everything is done by a thread of the process."""
        context = copy_context()
        context.run(_CURRENT.set, thread or self.main)
        return context

    def kill(self) -> None:
        """Let it do nothing any more; its sockets are closed by the network."""
        self.is_dead = True
        for thread in (self.main, self.beside):
            thread.is_free = False
            thread.waiting.clear()
        for task in self._tasks:  # kept, for a coroutine that is collected runs its `finally`
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # said by no API
            asyncio.tasks._unregister_task(task)
        _loop().forget(self._generators)

    def freeze(self, how: Freeze) -> None:
        """Let all of it stand still until `thaw`."""
        self._frozen = how, _loop().now
        for thread in (self.main, self.beside):
            thread.stands_still, thread.is_free = True, False

    def thaw(self) -> None:
        """Let it go on; nothing of the pause is lost, and much comes at once."""
        if self._frozen is None or self.is_dead:
            return
        (how, since), self._frozen = self._frozen, None
        seconds = _loop().now - since
        if how is not Freeze.STOPPED:
            self.stood_still_s += seconds
        if how is Freeze.PAUSED:
            self._boot_stood_still_s += seconds
        for thread in (self.main, self.beside):
            _go_on(thread)

    def hang(self) -> None:
        """Let its loop stand still until `thaw_loop`; what renews its leases goes on."""
        self.main.stands_still, self.main.is_free = True, False

    def thaw_loop(self) -> None:
        """Let its loop go on."""
        if not self.is_frozen:
            _go_on(self.main)

    def bury(self) -> None:
        """Let go of what a process that was killed was about to do; nothing of it can act."""
        self._tasks.clear()
        self._generators.clear()

    def begins(self, task: asyncio.Task[Any]) -> None:
        """Note a task of its own."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def iterates(self, generator: Any) -> None:
        """Note an asynchronous generator of its own."""
        self._generators.append(generator)


def current() -> Process | None:
    """Return the process that does what is being done; None: it is nobody's."""
    thread = _CURRENT.get()
    return None if thread is None else thread.process


def of_nobody() -> Context:
    """Return a context in which what is done is no process's."""
    context = copy_context()
    context.run(_CURRENT.set, None)
    return context


def process_in(context: Context) -> Process | None:
    """Return the process that does what is done in a context."""
    thread = context.get(_CURRENT)
    return None if thread is None else thread.process


def _loop() -> ProcessLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ProcessLoop)
    return loop


def _go_on(thread: Thread) -> None:
    thread.stands_still = False
    thread.is_free = not (thread.process.is_dead or thread.process.stood_still_s)
    waiting, thread.waiting = thread.waiting, []
    _loop().take_back(waiting)


class _Handle(Soon):
    """A callback of a thread, or of nobody: it runs while that may.

    What may not is dropped if its process is dead, and kept for later if it stands still.
    """

    __slots__ = ("thread",)

    def __init__(
        self, callback: Any, args: Any, loop: ProcessLoop, context: Context, thread: Thread | None
    ) -> None:
        # As asyncio's, see `tests.virtual.clock`.
        self._context = context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None
        self.thread = thread


class _Timer(Timer):
    """The same at a time, by the clock of its process."""

    __slots__ = ("due", "thread")

    def __init__(
        self,
        when: float,
        callback: Any,
        args: Any,
        loop: ProcessLoop,
        context: Context,
        thread: Thread | None,
    ) -> None:
        # The same.
        self._context = context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None
        self._when = when
        self._scheduled = True
        self.thread = thread
        if thread is None or thread.is_free:
            self.due = when
        else:
            self.due = when - thread.process.stood_still_s


class ProcessLoop(VirtualTimeLoop):
    """A loop on virtual time that several processes share, each with its own clock."""

    def time(self) -> float:
        """Return the monotonic clock of the process that asks; nobody's never stands still."""
        thread = _CURRENT.get()
        if thread is None or thread.is_free or not thread.process.stood_still_s:
            return self.now
        return self.now - thread.process.stood_still_s + ROUNDING_S

    def start(self, process: Process, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Let a process do something, in its loop."""
        return self.create_task(main, context=process.context())

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        """Make a task, and note whose it is."""
        task = super().create_task(coro, name=name, context=context)
        thread = _CURRENT.get() if context is None else context.get(_CURRENT)
        if thread is not None:
            thread.process.begins(task)
        return task

    def call_soon(  # type: ignore[override]  # as asyncio's, which only names what it takes
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Call in the next turn."""
        if self._closed:
            self._check_closed()
        if context is None:
            context, thread = copy_context(), _CURRENT.get()
        else:
            thread = context.get(_CURRENT)
        handle = _Handle(callback, args, self, context, thread)
        self._ready.append(handle)
        return handle

    def _call_soon(self, callback: Any, args: Any, context: Context | None) -> Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call after some seconds by the clock of who asks."""
        if 0.0 < delay < LEAST_S:
            delay = LEAST_S
        thread = _CURRENT.get()
        if thread is None or thread.is_free or not thread.process.stood_still_s:
            return self._timer(self.now + delay, callback, args, context, thread)
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call at a time by the clock of who asks."""
        thread = _CURRENT.get()
        if thread is not None:
            when += thread.process.stood_still_s
        return self._timer(when, callback, args, context, thread)

    def _timer(
        self,
        when: float,
        callback: Callable[..., object],
        args: Any,
        context: Context | None,
        thread: Thread | None,
    ) -> TimerHandle:
        """Return a timer that is set by a thread, and belongs to whom its context does."""
        if context is None:
            context = copy_context()
        else:
            thread = context.get(_CURRENT)
        timer = _Timer(when, callback, args, self, context, thread)
        heappush(self._scheduled, (when, timer))
        return timer

    def _poll(self) -> None:
        """Do nothing: nothing comes from sockets or threads."""

    def _wait(self, seconds: float | None) -> None:
        """Let the time pass."""
        if seconds is None:
            super()._wait(None)
        else:
            self.now += seconds

    def _run_ready(self, count: int) -> None:
        """Run as many of the callbacks that are ready, and whose threads run."""
        take = self._ready.popleft
        handle: Any = None
        while count:
            try:
                while count:
                    count -= 1
                    handle = take()
                    if handle._cancelled:
                        continue
                    thread = handle.thread
                    if thread is None or thread.is_free or self._may_run(handle, thread):
                        handle._context.run(handle._callback, *handle._args)
            except BaseException as exc:  # noqa: BLE001 - as asyncio does
                self._failed(handle, exc)

    def _may_run(self, handle: _Handle | _Timer, thread: Thread) -> bool:
        """Return whether a thread may do now what is ready; what it may do later is kept."""
        process = thread.process
        if process.is_dead:
            return False
        if thread.stands_still:
            thread.waiting.append(handle)
            return False
        if process.stood_still_s and isinstance(handle, _Timer):
            when = handle.due + process.stood_still_s
            if when - self.now > 2 * ROUNDING_S:  # its process stood still meanwhile
                handle._when = when
                self._set(handle, when)
                return False
        return True

    def take_back(self, handles: list[Handle]) -> None:
        """Let callbacks that waited run, in the order in which they came."""
        self._ready.extend(handles)

    def forget(self, generators: list[Any]) -> None:
        """Leave asynchronous generators as they are when the loop ends."""
        for each in generators:
            self._asyncgens.discard(each)  # type: ignore[attr-defined]  # as asyncio does

    def _asyncgen_firstiter_hook(self, agen: Any) -> None:
        super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]  # set by asyncio
        thread = _CURRENT.get()
        if thread is not None:
            thread.process.iterates(agen)


def run_processes(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run `main(*args)`, which is no process, to its end on a new loop for processes."""
    return anyio.run(main, *args, backend="asyncio", backend_options={"loop_factory": ProcessLoop})
