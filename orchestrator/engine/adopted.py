"""Whether a task that a target took for its own, because it was the only one, is proven to be.

A request may be carried out twice, or in spite of its refusal, and the task of another one may be
forgotten before anybody has seen it. So a task whose link does not name the target's restore point
is the target's only where the server keeps its tasks: then the target's own would be shown as well.
What it has mounted is looked for before the session ends. Source: reference 4, 5.2 and trap 48.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.core.lifecycle import AttemptRecord
from orchestrator.core.model import MountLink, RestorePointId, SessionId, Task, TaskId
from orchestrator.engine.ledger import Ledger


def point_of(link: MountLink | None) -> RestorePointId | None:
    """Return the restore point that a finished task's link names, in its Name or its address."""
    if link is None:
        return None
    return link.point or RestorePointId(link.href.split("/")[-3].lower())


def keeps_tasks(
    ledger: Ledger, session: SessionId, shown: Collection[TaskId], since: float
) -> bool:
    """Return whether a task is shown that ended before `since`: then later ones would be, too."""
    return any(
        attempt.task in shown
        and attempt.session == session
        and attempt.finished_at is not None
        and attempt.finished_at <= since
        for record in ledger.records
        for attempt in record.attempts
    )


def adopted_in(ledger: Ledger, session: SessionId) -> dict[TaskId, AttemptRecord]:
    """Return the attempts that have adopted a task in a session, by that task."""
    return {
        attempt.task: attempt
        for record in ledger.records
        for attempt in record.attempts
        if attempt.task is not None and attempt.adopted and attempt.session == session
    }


def unproven(
    ledger: Ledger, session: SessionId, tasks: Iterable[Task], shown: Collection[TaskId]
) -> set[TaskId]:
    """Return which of the `tasks` were adopted and may be another request's.

    `shown` are all tasks that the session shows now.
    """
    adopted = adopted_in(ledger, session)
    return {
        task.id
        for task in tasks
        if task.id in adopted
        and task.may_be_mounted
        and point_of(task.mount) != adopted[task.id].point
        and not keeps_tasks(ledger, session, shown, adopted[task.id].submitted_at)
    }
