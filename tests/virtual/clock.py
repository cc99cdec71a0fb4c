"""Virtual time: a loop whose clock jumps to the next timer when nothing else can happen.

The same program runs a three-hour drill in seconds, deterministically. Sockets within the
same loop work; threads and other processes do not: their time is real.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: in virtual time that would wait for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Polls real file descriptors without waiting; waiting advances the clock instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; otherwise let `timeout` virtual seconds pass."""
        if timeout is not None and timeout <= 0 and len(self.get_map()) == 1:
            return []  # nothing can come but a wake-up of the loop, and it is awake
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise Deadlock("everything waits, and no timer will ever fire")
        self.now += max(0.0, timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on virtual time that starts at 0."""

    def __init__(self) -> None:
        """Use it as a loop factory."""
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._jumping.now

    def jump(self, seconds: float) -> None:
        """Put the clock forward; every timer that this passes is late."""
        self._jumping.now += seconds


def freeze(seconds: float) -> None:
    """Let time pass for everything at once, as for a process that was stopped meanwhile."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.jump(seconds)


def run_virtual(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run `main(*args)` to its end on a new virtual-time loop."""
    return anyio.run(
        main, *args, backend="asyncio", backend_options={"loop_factory": VirtualTimeLoop}
    )
