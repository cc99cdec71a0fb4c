"""Ask the task of a mount to stop, once, and see what comes of it.

What the request does to a running mount is documented in two ways: it stops the work, or it only
removes the task from the list. So nothing follows from its answer. The task is read on, and where
it has ended without success, or is not known any more, the point's own list of mounts is looked
at for as long as the plan allows for a mount, once more. The slot is kept meanwhile, and a mount
that appears is the target's own, to be removed. If none appears, a task that has ended by its own
word has mounted nothing. Of one that is not known any more nobody has said so: its target stays
unknown, and keeps its slot.

A task is never asked to stop whose mount may be ready (it must just have been read as Running),
nor one that may be another target's (one that was found after a lost answer).
Source: reference 5.3.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio

from orchestrator.core.errors import (
    EnterpriseManagerError,
    ForbiddenAction,
    JournalError,
    NotFound,
    RequestNotSent,
    RequestRefused,
    SessionLost,
)
from orchestrator.core.events import TaskStopAsked, TaskStopSeen
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import Mount, Task, TaskId, TaskState
from orchestrator.core.stops import StopSeen
from orchestrator.core.text import duration
from orchestrator.engine import overdue
from orchestrator.engine.mount.attempt import Attempt
from orchestrator.engine.mount.find import has_unclaimed_tasks
from orchestrator.engine.mount.recover import Unsettled, unclaimed_mounts
from orchestrator.engine.sessions import PATIENCE

FRESH_S = 10.0
"""Seconds that a read may take whose answer says that the mount is not ready."""

READS = 3
"""Reads of a task before it is asked to stop, if their answers take too long."""

ANSWER_S = 30.0
"""Seconds for which the answer of the server is awaited."""

FORCED_ANSWER_S = 1.0
"""The same once a person wants the end at once."""

LOOK_TICK = 5.0
"""Seconds between looks for a mount that may appear."""

ONCE_MORE_S = 0.2
"""Seconds after the request when the task is read, once a person wants the end at once."""


async def ask_to_stop(attempt: Attempt, task: TaskId) -> None:
    """Ask for the attempt's task to be stopped, if it may be and was not before; note the answer.

    The intent is on disk before the request leaves. Whoever goes on with the target in a later
    process finds it, and asks no more.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    newest = attempt.record.attempts[-1]
    if not attempt.server.stops_tasks or newest.adopted or newest.stop is not None:
        return
    await attempt.server.until_sure()
    if not await _runs(attempt, task):
        return
    attempt.ledger.record(TaskStopAsked(at=attempt.now, key=attempt.key, task=task))
    is_sent = False
    try:
        await attempt.ledger.durable()
        is_sent = True
        with anyio.fail_after(FORCED_ANSWER_S if _is_forced(attempt) else ANSWER_S):
            await attempt.session.stop_task(task)
    except (JournalError, RequestNotSent, ForbiddenAction) as exc:
        _see(attempt, task, StopSeen.NOT_SENT, str(exc))
    except NotFound as exc:
        _see(attempt, task, StopSeen.LOST, exc.words or str(exc))  # it may have arrived twice
    except SessionLost as exc:  # answered with 401: the server did not act on it
        _see(attempt, task, StopSeen.REFUSED, str(exc))
        attempt.server.lose(attempt.connection)
        raise
    except RequestRefused as exc:
        seen = StopSeen.LOST if exc.is_internal else StopSeen.REFUSED
        _see(attempt, task, seen, exc.words or str(exc))
    except (EnterpriseManagerError, TimeoutError) as exc:
        _see(attempt, task, StopSeen.LOST, str(exc) or "no answer in time")
    except anyio.get_cancelled_exc_class():
        seen = StopSeen.LOST if is_sent else StopSeen.NOT_SENT
        _see(attempt, task, seen, "the run was stopped before its answer came")
        raise
    else:
        _see(attempt, task, StopSeen.ACCEPTED)


async def _runs(attempt: Attempt, task: TaskId) -> bool:
    """Return whether the server shows now, and not a while ago, that the task is Running."""
    for _ in range(READS):
        asked_at = attempt.now
        try:
            shown = await attempt.server.persistently(
                attempt.connection, partial(attempt.session.task, task)
            )
        except RequestRefused:
            return False
        if attempt.now - asked_at <= FRESH_S:
            return shown.state is TaskState.RUNNING
    return False


def _is_forced(attempt: Attempt) -> bool:
    return attempt.context.forced_end.is_wanted


def _see(attempt: Attempt, task: TaskId, seen: StopSeen, words: str | None = None) -> None:
    attempt.ledger.record(
        TaskStopSeen(at=attempt.now, key=attempt.key, task=task, seen=seen, words=words)
    )


def note(attempt: Attempt, seen: StopSeen, words: str | None = None) -> None:
    """Record what is seen of a task that was asked to stop; nothing if it was not."""
    newest = attempt.record.attempts[-1]
    if newest.stop is not None and newest.task is not None and newest.stop.seen is not seen:
        _see(attempt, newest.task, seen, words)


async def late_mount(attempt: Attempt, *, within: float | None = None) -> Mount | None:
    """Return the mount that appears although the task was stopped; None: none can any more.

    Nothing is recorded. May be repeated, also by a later process.

    Raises:
        Unsettled: a mount is listed that may be somebody else's; or one may appear after `within`
            seconds more, or as long as the server does not show the point's list.
        SessionLost, ServerUnusable: nobody can say any more.
    """
    ends = overdue.ends_at(attempt.record, attempt.request.timeouts)
    left = ends - attempt.now
    if within is not None and left > within:
        mount = await attempt.server.within(within, partial(_appearing, attempt))
        if mount is None:
            raise Unsettled(
                f"its task was asked to stop; a mount of it may yet appear, within "
                f"{duration(ends - attempt.now)}"
            )
        return mount
    if left > 0:
        mount = await attempt.server.within(left, partial(_appearing, attempt))
        if mount is not None:
            return mount
    try:
        return await _listed(attempt, strictly=True)
    except RequestRefused as exc:
        raise Unsettled(
            f"its task was asked to stop, and its mounts cannot be read: {exc}"
        ) from exc


async def shown_in_the_end(
    listed: Callable[[], Awaitable[Sequence[Mount]]],
    record: MountRecord,
    now: Callable[[], float],
    *,
    at_once: bool,
) -> Sequence[Mount]:
    """Return the mounts of a point as soon as there are any, or none once none can appear any more.

    They are waited for where a mount was found and removed although the overdue task said nothing
    of one: it may have been of a request that arrived twice, or in spite of its refusal. Where none
    was found that wait is over, or a person has ended it. `at_once`: what is shown now.
    """
    waits = overdue.may_have_a_double(record) and not at_once
    until = overdue.ends_at(record, record.planned.timeouts) if waits else -math.inf
    while not (mounts := await listed()) and now() < until:  # noqa: ASYNC110 - the server tells
        await anyio.sleep(LOOK_TICK)
    return mounts


async def _appearing(attempt: Attempt) -> Mount:
    """Return the mount as soon as it appears."""
    while True:
        try:
            mount = await _listed(attempt)
        except RequestRefused:  # this look has shown nothing; the next one may
            mount = None
        if mount is not None:
            return mount
        await anyio.sleep(LOOK_TICK)


async def _listed(attempt: Attempt, *, strictly: bool = False) -> Mount | None:
    """Return the mount of the point that can only be the attempt's own.

    No other logon session is shown then, and no task without a target that may have made it.

    Raises:
        Unsettled: with `strictly`, several are listed, or one that may be another's.
        RequestRefused: the server does not show them.
    """
    mounts = await unclaimed_mounts(
        attempt.connection, attempt.server, attempt.request.point, patience=PATIENCE
    )
    if len(mounts) > 1:
        attempt.connection.strangers = True
    elif mounts and not await has_unclaimed_tasks(attempt) and await attempt.is_alone():
        return mounts[0]
    if mounts and strictly:
        raise Unsettled(
            "its task was asked to stop, and it may yet be mounted: a mount is listed that may be "
            "another's"
        )
    return None


async def stop_now(attempt: Attempt, task: TaskId) -> Task | None:
    """Ask a running task to stop because a person wants the end at once, and read it once.

    None: it has not ended by its own word; what was seen is recorded.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    await ask_to_stop(attempt, task)
    if attempt.record.attempts[-1].stop is None:
        return None
    await anyio.sleep(ONCE_MORE_S)
    try:
        shown = await attempt.server.persistently(
            attempt.connection, partial(attempt.session.task, task)
        )
    except NotFound as exc:
        note(attempt, StopSeen.VANISHED, exc.words)
        return None
    except RequestRefused:
        return None
    note(attempt, StopSeen.ENDED if shown.is_final else StopSeen.GOES_ON, shown.message)
    return shown if shown.is_final else None


def has_gone(record: MountRecord, task: Task | None, *, vanished: bool = False) -> bool:
    """Return whether a task, as it was read last, left after it was asked to stop.

    That is, without the word that it has mounted something: `late_mount` must tell. None: it has
    not ended; `vanished`: because it is not known any more, which need not be recorded.
    """
    asked = record.attempts[-1].stop
    if asked is None or not asked.may_act:
        return False
    if task is None:
        return vanished or asked.seen is StopSeen.VANISHED
    return not task.may_be_mounted


async def mount_now(attempt: Attempt) -> Mount:
    """Look once for the mount of a task that has gone; nothing is recorded.

    Raises:
        Unsettled: none is there yet that can only be its own.
        EnterpriseManagerError, ServerUnusable: nobody can say any more.
    """
    mount = await _listed(attempt)
    if mount is None:
        task = attempt.record.attempts[-1].task
        raise Unsettled(f"{task} was asked to stop and is gone; it may yet be mounted")
    return mount
