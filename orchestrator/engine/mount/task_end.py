"""Watch the task of an attempt to its end, and once more as long if that is late."""

from __future__ import annotations

from orchestrator.core.events import DeadlinePassed, TaskObserved
from orchestrator.core.model import Task, TaskId
from orchestrator.core.stops import StopSeen
from orchestrator.core.text import duration
from orchestrator.engine.mount import stop
from orchestrator.engine.mount.attempt import Attempt
from orchestrator.engine.watcher import TaskEndless, TaskVanished

LAST_LOOK_S = 2.0
"""Seconds for one more read of a task when the deadline of the run leaves it no more time."""

MAY_BE = "it may yet be mounted"


async def watch_to_end(attempt: Attempt, task: TaskId) -> Task:
    """Return the finished task. Past its time limit it is watched for as long again, to clean up.

    It is asked to stop then, if it may be and was not before; what it does is only observed.

    Raises:
        TaskVanished: the session does not know it any more, or shows nothing that can be read.
        TaskEndless: it never ends.
        SessionLost, ServerUnusable: nobody can say any more.
    """

    def observe(seen: Task) -> None:
        odd = f"its state is {seen.odd_state!r}, a word nobody knows" if seen.odd_state else None
        at, key, words = attempt.now, attempt.key, seen.message or odd
        attempt.ledger.record(
            TaskObserved(at=at, key=key, task=seen.id, state=seen.state, words=words)
        )

    async def watched() -> Task:
        expected, watcher = attempt.context.expected(attempt.request), attempt.connection.watcher
        try:
            return await watcher.finished(task, expected=expected, observe=observe)
        except TaskVanished as exc:
            stop.note(attempt, StopSeen.VANISHED, str(exc) or None)
            if not stop.has_gone(attempt.record, None):
                raise
            raise TaskVanished(f"{task} was asked to stop and is gone; {MAY_BE}") from exc

    allowed, found = attempt.request.timeouts.mount, None
    left = attempt.context.deadline.left_for(attempt.request)
    if attempt.record.attempts[-1].stop is None:  # else an earlier process has waited as long
        found = await attempt.server.within(min(allowed, left), watched)
        if found is None and left < allowed:  # what has ended by now is not late
            attempt.connection.watcher.look_soon()
            found = await attempt.server.within(LAST_LOOK_S, watched)
        if found is None:
            attempt.ledger.record(
                DeadlinePassed(
                    at=attempt.now,
                    key=attempt.key,
                    phase="mount",
                    allowed_s=min(allowed, left),
                    by_run=left < allowed,
                )
            )
            await stop.ask_to_stop(attempt, task)
    if found is None:
        found = await attempt.server.within(allowed, watched)
    if found is not None:
        stop.note(attempt, StopSeen.ENDED, found.message)
    elif task not in attempt.connection.watcher.unread:
        stop.note(attempt, StopSeen.GOES_ON)
    if found is None and task in attempt.connection.watcher.unread:
        raise TaskVanished(f"{task} could not be read for {duration(2 * allowed)}")
    if found is None:
        raise TaskEndless(f"still running after {duration(2 * allowed)}; {MAY_BE}")
    return found
