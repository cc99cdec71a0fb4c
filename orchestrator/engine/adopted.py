"""Whether a task that a target took for its own, because it was the only one, is proven to be.

A request may be carried out twice, or in spite of its refusal, and the task of another one may be
forgotten before anybody has seen it. So a task whose link does not name the target's restore point
is known to be the target's only if nothing else can have begun it:

1. every request that the session had made by then was for the same restore point; or
2. a task is still shown that ended before the target's request: the server keeps its tasks, and
   would show the target's own as well.

Else it may have mounted one of the restore points that were asked for before it was adopted. The
closing audit looks there; a session that is lost before is not accounted for.
Source: reference 4, 5.2 and trap 48.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from orchestrator.core.errors import RequestRefused
from orchestrator.core.lifecycle import AttemptRecord
from orchestrator.core.model import MountLink, RestorePointId, SessionId, Task, TaskId
from orchestrator.core.ports.server import GuestSession
from orchestrator.engine.ledger import Ledger


def point_of(link: MountLink | None) -> RestorePointId | None:
    """Return the restore point that a finished task's link names, in its Name or its address."""
    if link is None:
        return None
    return link.point or RestorePointId(link.href.split("/")[-3].lower())


async def with_links(
    read: Callable[[TaskId], Awaitable[Task]], tasks: Iterable[Task]
) -> list[Task]:
    """Return the tasks with their links; one that is shown without is `read` alone.

    A server may leave links out of what it answers to a query. What it refuses stays as it is.
    """
    return [
        await _alone(read, task) if task.may_be_mounted and not task.mount else task
        for task in tasks
    ]


async def _alone(read: Callable[[TaskId], Awaitable[Task]], task: Task) -> Task:
    try:
        return await read(task.id)
    except RequestRefused:
        return task


def keeps_tasks(
    ledger: Ledger, session: SessionId, shown: Collection[TaskId], since: float
) -> bool:
    """Return whether a task is shown that ended before `since`: then later ones would be, too."""
    return any(
        attempt.task in shown and attempt.finished_at is not None and attempt.finished_at <= since
        for attempt in _attempts(ledger, session)
    )


def others_asked(
    ledger: Ledger, session: SessionId, point: RestorePointId, until: float
) -> set[RestorePointId]:
    """Return the other restore points that a task shown at a time may have mounted."""
    return {
        attempt.point
        for attempt in _attempts(ledger, session)
        if attempt.point != point and attempt.submitted_at <= until
    }


def took_by_list(ledger: Ledger, session: SessionId) -> bool:
    """Return whether a mount was taken as a target's, and no task: one shown may have made it."""
    return any(
        attempt.outcome == "success" and attempt.task is None
        for attempt in _attempts(ledger, session)
    )


def adopted_in(ledger: Ledger, session: SessionId) -> dict[TaskId, AttemptRecord]:
    """Return the attempts that have adopted a task in a session, by that task."""
    return {
        attempt.task: attempt
        for attempt in _attempts(ledger, session)
        if attempt.task is not None and attempt.adopted
    }


def unproven(
    ledger: Ledger, session: SessionId, tasks: Iterable[Task], shown: Collection[TaskId]
) -> dict[TaskId, set[RestorePointId]]:
    """Return which of the `tasks` were adopted and may be another request's, and of which points.

    `shown` are all tasks that the session shows now. The target's own point is left out once its
    mount was found: it was the only one in the point's list after the task had ended, so what is
    listed there later is not the task's.
    """
    adopted = adopted_in(ledger, session)
    found: dict[TaskId, set[RestorePointId]] = {}
    for task in tasks:
        attempt, named = adopted.get(task.id), point_of(task.mount)
        if attempt is None or not task.may_be_mounted or named == attempt.point:
            continue
        until = attempt.submitted_at if attempt.accepted_at is None else attempt.accepted_at
        others = others_asked(ledger, session, attempt.point, until)
        if named in others:
            found[task.id] = others & {named}
        elif others and not keeps_tasks(ledger, session, shown, attempt.submitted_at):
            found[task.id] = others if attempt.outcome == "success" else {*others, attempt.point}
    return found


async def is_any_unproven(ledger: Ledger, session: GuestSession, tasks: Sequence[Task]) -> bool:
    """Return whether one of all `tasks` that a session shows was adopted and may be another's.

    Those that seem to be are read alone.

    Raises:
        EnterpriseManagerError: as for any request; a task that is refused stays unproven.
    """
    shown = {task.id for task in tasks}
    perhaps = unproven(ledger, session.id, tasks, shown)
    if not perhaps:
        return False
    again = await with_links(session.task, [task for task in tasks if task.id in perhaps])
    return bool(unproven(ledger, session.id, again, shown))


def _attempts(ledger: Ledger, session: SessionId) -> Iterable[AttemptRecord]:
    return (
        attempt
        for record in ledger.records
        for attempt in record.attempts
        if attempt.session == session
    )
