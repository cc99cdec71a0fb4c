"""Leaving nothing mounted: unmount, and see that it is gone.

An unmount may be repeated; it counts only once the point's own list of mounts no longer
shows it. A cancelled attempt cleans up too, shielded and bounded.
"""

from __future__ import annotations

import anyio

from orchestrator.engine.attempt import OUT_OF_KNOWLEDGE, Attempt, record_out_of_reach
from orchestrator.engine.proving import find_mount, judge_unseen
from orchestrator.engine.submitting import settle
from orchestrator.errors import NotFound, RequestRefused
from orchestrator.events import (
    MountLeft,
    MountReleased,
    TaskFailed,
    TaskSucceeded,
    UnmountStarted,
)
from orchestrator.lifecycle import HOLDING_PHASES, Phase
from orchestrator.model import Href, Mount, Task
from orchestrator.policy import RELEASE

CLEANUP_GRACE = 60.0
"""Seconds that a cancelled attempt may spend on its own clean-up."""


def record_finished(attempt: Attempt, task: Task) -> None:
    """Record how a finished task ended."""
    if task.succeeded:
        mount = task.mount.href if task.mount else None
        attempt.ledger.record(
            TaskSucceeded(
                at=attempt.now,
                key=attempt.key,
                task=task.id,
                message=task.message,
                mount=mount,
            )
        )
    else:
        attempt.ledger.record(
            TaskFailed(at=attempt.now, key=attempt.key, task=task.id, message=task.message)
        )


async def release(attempt: Attempt, mount: Href) -> None:
    """Unmount until the server no longer lists the mount; record what became of it.

    The verdict is on disk before the evidence goes, unless the journal is broken.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    attempt.ledger.record(UnmountStarted(at=attempt.now, key=attempt.key, mount=mount))
    await attempt.ledger.saved()
    why = await remove(attempt, mount)
    if why is None:
        attempt.ledger.record(MountReleased(at=attempt.now, key=attempt.key))
    else:
        attempt.ledger.record(MountLeft(at=attempt.now, key=attempt.key, mount=mount, reason=why))


async def remove(attempt: Attempt, mount: Href) -> str | None:
    """Unmount until the mount is gone; return why it is not after the plan's time for it."""
    trying = _Trying()
    allowed = attempt.request.timeouts.unmount
    if not await attempt.site.within(allowed, lambda: trying.until_gone(attempt, mount)):
        return trying.why
    attempt.connection.mounts.discard(mount)
    return None


class _Trying:
    """Repeats an unmount and remembers why it has not worked yet."""

    def __init__(self) -> None:
        self.why = "the unmount was not confirmed in time"

    async def until_gone(self, attempt: Attempt, mount: Href) -> bool:
        number = 0
        while True:
            number += 1
            try:
                if await _unmounted(attempt, mount):
                    return True
                self.why = "the server confirmed the unmount and still lists the mount"
            except RequestRefused as exc:
                self.why = f"the server refused to unmount: {exc}"
            await anyio.sleep(RELEASE.delay(number, attempt.crew.rng))


async def _unmounted(attempt: Attempt, mount: Href) -> bool:
    site, session = attempt.site, attempt.session
    await site.persistently(attempt.connection, lambda: session.unmount(mount))
    still = await site.persistently(attempt.connection, lambda: session.is_mounted(mount))
    return not still


async def abandon(attempt: Attempt) -> None:
    """Clean up after a cancelled attempt: shielded, and no longer than the grace."""
    with anyio.move_on_after(CLEANUP_GRACE, shield=True):
        try:
            await _let_go(attempt)
        except OUT_OF_KNOWLEDGE as exc:
            record_out_of_reach(attempt.request, attempt.crew, str(exc))
    if attempt.record.phase in HOLDING_PHASES:
        why = "stopped while the server was still working on it"
        record_out_of_reach(attempt.request, attempt.crew, why)


async def _let_go(attempt: Attempt) -> None:
    """Release whatever this attempt has got hold of so far."""
    mount: object = None
    if attempt.record.phase is Phase.IN_DOUBT:
        async with attempt.connection.posting:
            mount = await settle(attempt)
    record = attempt.record
    if record.phase in {Phase.RUNNING, Phase.COLLECTING}:
        task = await _last_look(attempt)
        if task is None:
            return
        if record.phase is Phase.RUNNING:
            record_finished(attempt, task)
        if task.succeeded:
            mount = await find_mount(attempt, task)
    if isinstance(mount, Mount):
        judge_unseen(attempt, mount)
    record = attempt.record
    open_phases = {Phase.VERIFYING, Phase.HELD, Phase.UNMOUNTING}
    if record.phase in open_phases and record.mount is not None:
        await release(attempt, record.mount)


async def _last_look(attempt: Attempt) -> Task | None:
    """Read the attempt's task once more; None if it is not finished or not known."""
    task = attempt.record.attempts[-1].task
    if task is None:
        return None
    try:
        found = await attempt.site.persistently(
            attempt.connection, lambda: attempt.session.task(task), patience=CLEANUP_GRACE
        )
    except NotFound:
        return None
    return found if found.is_final else None
