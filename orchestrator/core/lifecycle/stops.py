"""What is known of the request that the task of a target's newest attempt stops."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.core.errors import IllegalTransition
from orchestrator.core.events import TaskStopAsked, TaskStopSeen
from orchestrator.core.lifecycle.record import MountRecord, TaskStop
from orchestrator.core.model import TaskId
from orchestrator.core.stops import STOP_ANSWERS


def asked(record: MountRecord, event: TaskStopAsked) -> MountRecord:
    """Return the record once the request is about to be sent.

    Raises:
        IllegalTransition: it may have been sent before, or the task may be another target's.
    """
    newest = record.attempts[-1]
    if newest.task != event.task or newest.adopted:
        raise IllegalTransition(f"{record.planned.key}: {event.task} may be another target's")
    if newest.stop is not None:
        raise IllegalTransition(f"{record.planned.key}: {event.task} was asked to stop before")
    return _with(record, TaskStop(asked_at=event.at))


def seen(record: MountRecord, event: TaskStopSeen) -> MountRecord:
    """Return the record after an answer, or after the task was read.

    Raises:
        IllegalTransition: the task was not asked to stop.
    """
    stop = _require_asked(record, event.task)
    words = event.words if event.words is not None else stop.words
    if event.seen in STOP_ANSWERS:
        stop = replace(stop, answer=event.seen, answered_at=event.at, words=words)
    else:
        stop = replace(stop, seen=event.seen, words=words)
    return _with(record, stop)


def _with(record: MountRecord, stop: TaskStop) -> MountRecord:
    *earlier, newest = record.attempts
    return replace(record, attempts=(*earlier, replace(newest, stop=stop)))


def _require_asked(record: MountRecord, task: TaskId) -> TaskStop:
    """Return what is known of the request that this task stops.

    Raises:
        IllegalTransition: it was not asked to stop.
    """
    newest = record.attempts[-1]
    if newest.stop is None or newest.task != task:
        raise IllegalTransition(f"{record.planned.key}: {task} was not asked to stop")
    return newest.stop


def may_act(record: MountRecord) -> bool:
    """Return whether the newest attempt's task may have been stopped."""
    stop = record.attempts[-1].stop
    return stop is not None and stop.may_act
