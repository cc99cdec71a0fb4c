"""Ask until there is an answer, or until something else has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
