"""Signs that a process which works on a run still moves, for `status` and `watch`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.core.policy import SIGN_EVERY


@contextmanager
def signs_of_life(show: Callable[[], None], *, inline: bool = False) -> Iterator[None]:
    """Call `show` every SIGN_EVERY seconds, on the running event loop.

    A process that is stopped shows nothing, and neither does one whose loop hangs. With `inline`
    nothing is called: in virtual time nobody looks on.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def go_on() -> None:
        nonlocal timer
        show()
        timer = loop.call_later(SIGN_EVERY, go_on)

    if not inline:
        go_on()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
