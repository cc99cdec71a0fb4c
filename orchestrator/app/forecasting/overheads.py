"""What a run takes beside its mounts: until the first submission, and to each accepted task."""

from __future__ import annotations

from statistics import median

from msgspec import Struct

from orchestrator.core.errors import JournalError
from orchestrator.core.events import (
    ApprovalAwaited,
    ControlApplied,
    RunStarted,
    SubmissionStarted,
    TargetPlanned,
    TaskAccepted,
)
from orchestrator.core.model import MountKey, RunId
from orchestrator.core.ports.store import Store

ENOUGH = 200
"""Accepted tasks after which no more of a run is read."""


class Overheads(Struct, frozen=True, kw_only=True):
    """Seconds; `run` is the run that they were measured in, None where there is none."""

    begins: float = 0.0
    per_mount: float = 0.0
    run: RunId | None = None


def measured_overheads(store: Store, plan: str, *, besides: RunId | None = None) -> Overheads:
    """Return what the newest run of a plan took beside its mounts; nothing if none can be read.

    A run that asked a person first is measured until it asked. The run `besides` is left out.
    """
    try:
        for summary in store.runs():
            if summary.plan == plan and summary.run != besides:
                found = _of_run(store, summary.run)
                if found is not None:
                    return found
    except JournalError:
        pass  # the durations say so, or there are none
    return Overheads()


def _of_run(store: Store, run: RunId) -> Overheads | None:
    """Return what one run took; None: it mounted nothing."""
    asked, planned_at, first = False, 0.0, None
    submitted: dict[MountKey, float] = {}
    waits: list[float] = []
    for event in store.events(run):
        match event:
            case RunStarted():
                asked = not event.confirmed
            case ApprovalAwaited() | ControlApplied() if first is None:
                asked = True  # people took their time
            case TargetPlanned() if first is None:
                planned_at = event.at
            case SubmissionStarted(key=key):
                first = event.at if first is None else first
                submitted[key] = event.at
            case TaskAccepted(key=key) if key in submitted:
                waits.append(event.at - submitted.pop(key))
        if len(waits) >= ENOUGH:
            break
    if first is None or not waits:
        return None
    return Overheads(begins=planned_at if asked else first, per_mount=median(waits), run=run)
