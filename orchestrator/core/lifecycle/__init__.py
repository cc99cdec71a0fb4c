"""The phases of a mount request: which event may follow which, and the fold of its events.

`TRANSITIONS` is the only place that knows the rules; the live run, the replay of a journal
and the tests all go through `apply`. A target is concluded only from QUEUED (nothing open)
or OUT_OF_REACH (nobody can know, or it could not be removed), so "verified, released" can
be said only of a mount whose release was confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from orchestrator.core.errors import IllegalTransition
from orchestrator.core.events import TargetEvent, TargetPlanned
from orchestrator.core.lifecycle.changes import CHANGES
from orchestrator.core.lifecycle.record import (
    FIRM_RESULTS,
    AttemptRecord,
    MountRecord,
    Phase,
    Span,
    TaskStop,
    Wait,
)
from orchestrator.core.lifecycle.table import HOLDING_PHASES, TRANSITIONS
from orchestrator.core.model import MountKey

__all__ = [
    "FIRM_RESULTS",
    "HOLDING_PHASES",
    "TRANSITIONS",
    "AttemptRecord",
    "MountRecord",
    "Phase",
    "Span",
    "TaskStop",
    "Wait",
    "advance",
    "apply",
    "begin",
]


def begin(planned: TargetPlanned) -> MountRecord:
    """Return the record of a target that was just planned."""
    return MountRecord(
        planned=planned,
        point=planned.point,
        point_why=planned.policy,
        since=planned.at,
    )


def advance(records: Mapping[MountKey, MountRecord], event: TargetEvent) -> MountRecord:
    """Return the record of the event's target after it, given the records of all before it.

    Raises:
        IllegalTransition: the target was not planned, or twice, or the table does not allow it.
    """
    known = records.get(event.key)
    if isinstance(event, TargetPlanned):
        if known is not None:
            raise IllegalTransition(f"{event.key} was planned twice")
        return begin(event)
    if known is None:
        raise IllegalTransition(f"{event.key} was never planned")
    return apply(known, event)


def apply(record: MountRecord, event: TargetEvent) -> MountRecord:
    """Return the record after `event`.

    Raises:
        IllegalTransition: the table does not allow it, or it claims more than was seen.
    """
    after = TRANSITIONS[record.phase].get(type(event))
    if after is None:
        raise IllegalTransition(
            f"{record.planned.key}: {type(event).__name__} is not allowed while {record.phase}"
        )
    changed = CHANGES[type(event)](record, event)
    if after is record.phase:
        return changed
    over = Span(record.phase, record.since, event.at)
    return replace(changed, phase=after, since=event.at, spans=(*record.spans, over))
