"""Ask until there is an answer, until something else has ended, or for some time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

import anyio

T = TypeVar("T")


async def before(
    over: Callable[[], Awaitable[object]], ask: Callable[[], Awaitable[T]]
) -> T | None:
    """Return the answer of `ask`, or None if `over` returns first. Errors of `ask` pass through."""
    answers: list[T] = []
    failures: list[Exception] = []
    async with anyio.create_task_group() as tasks:

        async def end() -> None:
            await over()
            tasks.cancel_scope.cancel()

        tasks.start_soon(end)
        try:
            answers.append(await ask())
        except Exception as exc:  # noqa: BLE001 - raised below, and not as a group
            failures.append(exc)
        tasks.cancel_scope.cancel()
    for failure in failures:
        raise failure
    return answers[0] if answers else None


async def set_within(event: anyio.Event, seconds: float) -> None:
    """Return once an event is set; after so many seconds it is set here.

    A timer does this, and no cancel scope, which costs twice as much: loops wait so that come
    round every second.
    """
    if seconds == math.inf:
        await event.wait()
        return
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()


LEAST_S = 0.001
"""Seconds below which nothing more is granted: what rounding leaves would never be over."""


class EndedAfter:
    """Cancels the block after `seconds`, unless `more` grants further ones when they are over.

    `more` is told how many seconds too late it is asked. A timer does this, and no task: there is
    a block for every mount that is watched. Once left it keeps nothing alive, itself included.
    """

    __slots__ = ("_loop", "_more", "_scope", "_seconds", "_timer")

    def __init__(self, seconds: float, more: Callable[[float], float]) -> None:
        """The time begins when the block is entered."""
        self._loop = asyncio.get_running_loop()
        self._seconds, self._more = seconds, more
        self._scope = anyio.CancelScope()

    def __enter__(self) -> None:
        self._begin(self._seconds)
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        return self._scope.__exit__(kind, exc, tb)

    def _begin(self, allowed: float) -> None:
        due = self._loop.time() + max(0.0, allowed)
        self._timer = self._loop.call_at(due, self._over, due)

    def _over(self, due: float) -> None:
        allowed = self._more(self._loop.time() - due)
        if allowed > LEAST_S:
            self._begin(allowed)
        else:
            self._scope.cancel()
