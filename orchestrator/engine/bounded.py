"""Ask until there is an answer, until something else has ended, or for some time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def ended_after(seconds: float, more: Callable[[float], float]) -> Iterator[None]:
    """Cancel the block after `seconds`, unless `more` grants further ones when they are over.

    `more` is told how many seconds too late it is asked. A timer does this, and no task: there is
    a block for every mount that is watched.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None
    with anyio.CancelScope() as scope:

        def begin(allowed: float) -> None:
            nonlocal timer
            due = loop.time() + max(0.0, allowed)
            timer = loop.call_at(due, over, due)

        def over(due: float) -> None:
            allowed = more(loop.time() - due)
            if allowed > 0:
                begin(allowed)
            else:
                scope.cancel()

        begin(seconds)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
