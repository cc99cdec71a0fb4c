"""A watcher at work on a scripted session, reading once a second."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from orchestrator.core.model import Task, TaskId
from orchestrator.core.policy import WatchPolicy
from orchestrator.engine.watcher import Watcher
from tests.engine.scripted import ScriptedSession

EVERY_SECOND = WatchPolicy(shortest=1.0, crowded=1.0, longest=1.0)
"""One tick a second, whatever is watched."""


async def at_once(ask: Callable[[], Awaitable[None]]) -> None:
    """Ask once: in these tests the server has no trouble that passes."""
    await ask()


@asynccontextmanager
async def watching(
    session: ScriptedSession, policy: WatchPolicy = EVERY_SECOND
) -> AsyncIterator[Watcher]:
    """Serve a watcher of `session` meanwhile."""
    watcher = Watcher(session, policy, at_once)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.serve)
        yield watcher
        tasks.cancel_scope.cancel()


async def all_finished(watcher: Watcher, ids: list[TaskId]) -> dict[TaskId, Task]:
    """Wait for several tasks at once, and return how they were seen in the end."""
    found: dict[TaskId, Task] = {}

    async def wait(task: TaskId) -> None:
        found[task] = await watcher.finished(task)

    async with anyio.create_task_group() as tasks:
        for task in ids:
            tasks.start_soon(wait, task)
    return found
