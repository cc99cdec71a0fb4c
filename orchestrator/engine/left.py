"""The journal's facts about a session that an earlier process left."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping

from orchestrator.core.events import SessionEnded, StrayFound, TasksAttributed
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import Href, MountState, RestorePointId, SessionId, TaskId
from orchestrator.engine.connection import EarlierSession

DOUBTFUL = frozenset({Phase.SUBMITTING, Phase.IN_DOUBT})


def left_in(
    session: SessionId,
    records: Iterable[MountRecord],
    attributed: Iterable[TasksAttributed] = (),
    strays: Iterable[StrayFound] = (),
    *,
    ends: Mapping[SessionId, SessionEnded] | None = None,
    over: Container[SessionId] = (),
    used_until: float = -math.inf,
) -> EarlierSession:
    """Return the journal's facts about a session.

    `ends` says how sessions ended, as far as is told, `over` are those in which nothing can be
    left; `used_until` is when a process may have used one last.
    """
    end = None if ends is None else ends.get(session)
    untold: set[RestorePointId] = set()
    mounts: set[Href] = set()
    tasks: set[TaskId] = set()
    doubts, used = 0, False
    for record in records:
        used = used or any(attempt.session == session for attempt in record.attempts)
        tasks.update(
            attempt.task
            for attempt in record.attempts
            if attempt.session == session and attempt.task is not None
        )
        if record.attempts and record.attempts[-1].session == session:
            if record.mount is not None and is_seen(record):
                mounts.add(record.mount)
            if _is_in_doubt(record):
                doubts += 1
                untold.add(record.attempts[-1].point)
    tasks.update(
        task
        for each in attributed
        if each.session == session and not (each.mount and _point_of(each.mount) in untold)
        for task in each.tasks
    )
    return EarlierSession(
        session=session,
        tasks=frozenset(tasks),
        mounts=frozenset(mounts),
        in_doubt=bool(doubts),
        strays=tuple(each for each in strays if each.session == session),
        unended=used and end is None,
        end=end,
        over=session in over or not (used or end is not None),
        used_until=used_until,
    )


def _point_of(mount: Href) -> RestorePointId:
    """Return the restore point in the address of a mount that was found in its list."""
    return RestorePointId(mount.split("/")[-3].lower())


def is_seen(record: MountRecord) -> bool:
    """Return whether a mount answered at the address that the journal names, and may be there yet.

    The link in a finished task may lead into another family, where nothing of ours is: an
    unmount there would look like one that was carried out. Source: reference 5.2.
    """
    if record.mount is None or record.mount_state is MountState.RELEASED:
        return False
    if record.phase in {Phase.VERIFYING, Phase.HELD, Phase.UNMOUNTING}:
        return True
    if record.mount_state is MountState.LEFT and record.phase in {Phase.OUT_OF_REACH, Phase.DONE}:
        return True  # it could not be removed
    asked_at = record.attempts[-1].submitted_at
    return any(span.phase is Phase.VERIFYING and span.start >= asked_at for span in record.spans)


def _is_in_doubt(record: MountRecord) -> bool:
    """Return whether a mount was asked for, and neither task nor refusal is known."""
    return record.phase in DOUBTFUL or (
        record.may_be_open and record.mount is None and record.attempts[-1].task is None
    )
