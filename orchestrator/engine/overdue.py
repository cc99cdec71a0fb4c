"""What may come yet of a task that was asked to stop, by its target's record alone.

See `mount.stop`, which asks, and looks.
"""

from __future__ import annotations

from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import PhaseTimeouts, SessionId
from orchestrator.core.policy import PROOF_AFTER
from orchestrator.core.stops import StopSeen


def has_acted(record: MountRecord) -> bool:
    """Return whether the newest attempt's task may have been stopped."""
    asked = record.attempts[-1].stop
    return asked is not None and asked.may_act


def may_mount_yet(record: MountRecord, session: SessionId) -> bool:
    """Return whether a concluded target's task was asked to stop there, and may mount something.

    Also where a mount was seen and removed: it may have been that of a request that arrived twice.
    """
    if not record.is_final or not record.attempts:
        return False
    newest = record.attempts[-1]
    seen = None if newest.stop is None else newest.stop.seen
    is_gone = seen in {StopSeen.VANISHED, StopSeen.ENDED}
    unseen = newest.outcome in {"failed", "unknown"}
    return newest.session == session and (unseen or is_gone) and has_acted(record)


def ends_at(record: MountRecord, timeouts: PhaseTimeouts) -> float:
    """Return until when a mount may appear, on the run's clock.

    What is asked for without an answer may be carried out late, as a mount request may.
    """
    newest = record.attempts[-1]
    assert newest.stop is not None  # noqa: S101 - nobody waits for anything else
    acted_at = newest.stop.asked_at + PROOF_AFTER
    if newest.stop.answer is StopSeen.ACCEPTED and newest.stop.answered_at is not None:
        acted_at = newest.stop.answered_at
    return acted_at + timeouts.mount


def may_have_a_double(record: MountRecord) -> bool:
    """Return whether a mount was found and removed although the overdue task said nothing of one.

    It may have been of a request that arrived twice, or in spite of its refusal; so another may
    appear, until `ends_at`.
    """
    newest = record.attempts[-1]
    of_its_task = any(
        span.phase is Phase.COLLECTING and span.start >= newest.submitted_at
        for span in record.spans
    )
    return record.overdue and newest.outcome == "success" and not of_its_task
