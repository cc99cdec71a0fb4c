"""Unmount, and check that the mount is gone.

An unmount may be repeated; it counts only once the point's own list of mounts no longer
shows it. A cancelled attempt cleans up too, shielded and bounded.
"""

from __future__ import annotations

import random
from functools import partial

import anyio

from orchestrator.core.errors import MalformedResponse, NotFound, RequestRefused, ResponseLost
from orchestrator.core.events import (
    MountLeft,
    MountReleased,
    TaskFailed,
    TaskSucceeded,
    UnmountStarted,
)
from orchestrator.core.lifecycle import HOLDING_PHASES, Phase
from orchestrator.core.model import Href, Mount, Task
from orchestrator.core.policy import PROOF_AFTER, RELEASE
from orchestrator.core.stops import StopSeen
from orchestrator.core.text import duration
from orchestrator.engine.connection import Connection
from orchestrator.engine.mount import stop
from orchestrator.engine.mount.attempt import OUT_OF_KNOWLEDGE, Attempt, record_out_of_reach
from orchestrator.engine.mount.find import judge_unseen, mount_of, record_found
from orchestrator.engine.mount.recover import Unsettled, look
from orchestrator.engine.mount.submit import doubt_of, record_absent, take
from orchestrator.engine.server_connection import ServerConnection

CLEANUP_GRACE = 60.0
"""Seconds that a cancelled attempt may spend on its own clean-up."""

LOOK_TICK = 2.0
"""Seconds between looks at a task whose attempt was given up."""


def record_finished(attempt: Attempt, task: Task) -> None:
    """Record how a finished task ended."""
    at, key, words = attempt.now, attempt.key, task.message
    if task.succeeded:
        mount = task.mount.href if task.mount else None
        attempt.ledger.record(
            TaskSucceeded(at=at, key=key, task=task.id, message=words, mount=mount)
        )
    else:
        attempt.ledger.record(TaskFailed(at=at, key=key, task=task.id, message=words))


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
    return await take_down(
        attempt.connection,
        attempt.server,
        mount,
        allowed=attempt.request.timeouts.unmount,
        rng=attempt.context.rng,
    )


async def take_down(
    connection: Connection,
    server: ServerConnection,
    mount: Href,
    *,
    allowed: float,
    rng: random.Random,
) -> str | None:
    """Unmount until the mount is gone; return why it is not after `allowed` seconds."""
    await server.until_sure()  # no time of the unmount's is over before it may be sent
    trying = _UnmountTries(connection, server, rng)
    if not await server.within(allowed, lambda: trying.until_gone(mount)):
        return trying.why
    connection.mounts.discard(mount)
    return None


class _UnmountTries:
    """Repeats an unmount and remembers why it has not worked yet."""

    def __init__(
        self, connection: Connection, server: ServerConnection, rng: random.Random
    ) -> None:
        self.why = "the unmount was not confirmed in time"
        self._connection, self._server, self._rng = connection, server, rng

    async def until_gone(self, mount: Href) -> bool:
        number = 0
        while True:
            number += 1
            await self._ask(mount)
            if await self._is_gone(mount):
                return True
            await anyio.sleep(RELEASE.delay(number, self._rng))

    async def _ask(self, mount: Href) -> None:
        """Ask for the unmount, once if it can be sent; note the answer, or that it was lost."""
        session = self._connection.session

        async def once() -> str:
            try:
                await session.unmount(mount)
            except (ResponseLost, MalformedResponse) as exc:
                return f"the answer to the unmount was lost: {exc}"
            return "the server confirmed the unmount and still lists the mount"

        try:
            self.why = await self._server.persistently(self._connection, once, works=True)
        except RequestRefused as exc:
            self.why = f"the server refused to unmount: {exc}"

    async def _is_gone(self, mount: Href) -> bool:
        """Read the point's own list: it decides, whatever the answer to the unmount was.

        An unmount may be carried out, answered with 500, and refused when it is repeated.
        """
        session = self._connection.session
        try:
            return not await self._server.persistently(
                self._connection, lambda: session.is_mounted(mount)
            )
        except RequestRefused as exc:
            self.why = f"{self.why}; its list of mounts cannot be read: {exc}"
            return False


async def abandon(attempt: Attempt, why: str) -> None:
    """Clean up after a cancelled attempt: shielded, and bounded in time.

    `why` it was given up is said of what could not be cleaned up.
    """
    with anyio.move_on_after(attempt.context.forced_end.grace(CLEANUP_GRACE), shield=True):
        try:
            await _let_go(attempt)
        except OUT_OF_KNOWLEDGE as exc:
            record_out_of_reach(
                attempt.request, attempt.context, str(exc), lost=attempt.connection.lost
            )
    if attempt.record.phase in HOLDING_PHASES:
        record_out_of_reach(attempt.request, attempt.context, why)


async def _let_go(attempt: Attempt) -> None:
    """Release whatever this attempt has got hold of so far."""
    mount: Mount | None = None
    if attempt.record.phase is Phase.IN_DOUBT:
        mount = await _looked_for(attempt)
    if attempt.record.phase in {Phase.RUNNING, Phase.COLLECTING}:
        mount = await _made_by_its_task(attempt)
    if mount is not None:
        judge_unseen(attempt, mount)
    record = attempt.record
    open_phases = {Phase.VERIFYING, Phase.HELD, Phase.UNMOUNTING}
    if record.phase in open_phases and record.mount is not None:
        await release(attempt, record.mount)


async def _made_by_its_task(attempt: Attempt) -> Mount | None:
    """Return the mount of the attempt's task, recorded, if that has ended and has made one.

    Raises:
        Unsettled: it was asked to stop and is gone, and it may yet be mounted.
    """
    record, task = attempt.record, await _last_look(attempt)
    if stop.has_gone(attempt.record, task):
        return record_found(attempt, await stop.mount_now(attempt))
    if task is None:
        return None
    mount = await mount_of(attempt, task) if task.may_be_mounted else None
    if mount is None and task.may_be_mounted and record.attempts[-1].adopted:
        attempt.connection.watcher.claimed.discard(task.id)  # another's: for the audit
        return None
    if task.unclear and mount is None:
        return None
    if record.phase is Phase.RUNNING and not task.unclear:
        record_finished(attempt, task)
    return None if mount is None else record_found(attempt, mount)


async def _looked_for(attempt: Attempt) -> Mount | None:
    """Look once for what a request in doubt has started; return its mount, if that shows.

    Raises:
        Unsettled: nothing shows, and it may yet begin.
    """
    doubt = doubt_of(attempt)
    seen = await look(attempt.connection, attempt.server, doubt)
    if seen.started is not None:
        started = take(attempt, seen.started)
        return started if isinstance(started, Mount) else None
    ends = doubt.sent_by + PROOF_AFTER
    if seen.running or seen.unaccounted or attempt.now < ends:
        raise Unsettled(
            f"stopped while its mount request, sent {duration(doubt.sent_by)} after the run began, "
            f"was in doubt; a request begins within {duration(PROOF_AFTER)}, or never"
        )
    record_absent(attempt)
    return None


async def _last_look(attempt: Attempt) -> Task | None:
    """Read the attempt's task once more; None if it is not finished or not known.

    Where a person wants the end at once, it is asked to stop; else it is read until it ends: the
    grace sets the limit.
    """
    task = attempt.record.attempts[-1].task
    while task is not None:
        try:
            found = await attempt.server.persistently(
                attempt.connection, partial(attempt.session.task, task), patience=CLEANUP_GRACE
            )
        except NotFound as exc:
            stop.note(attempt, StopSeen.VANISHED, exc.words)
            return None
        if found.is_final:
            stop.note(attempt, StopSeen.ENDED, found.message)
            return found
        if attempt.context.forced_end.is_wanted:
            return await stop.stop_now(attempt, task)
        await anyio.sleep(LOOK_TICK)
    return None
