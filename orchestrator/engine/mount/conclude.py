"""How a target ends: exactly one result, and no more than its record allows.

`skipped` and `cancelled` say that nothing of a target was begun. One that a server took and that
waited for its next mount (another try, another restore point, the other system) has `failed` when
the run ends first, or is `unknown`; its message says what was not tried, and why.
"""

from __future__ import annotations

from orchestrator.core import point_search
from orchestrator.core.events import TargetConcluded
from orchestrator.core.lifecycle import FIRM_RESULTS, MountRecord, Phase
from orchestrator.core.model import MountRequest, Result
from orchestrator.core.text import counted
from orchestrator.engine.content.system import words_of_wrong_system
from orchestrator.engine.content.write_back import in_doubt
from orchestrator.engine.mount.attempt import RunContext, had_no_time
from orchestrator.engine.mount.busy import result_of as busy_result


def conclude(request: MountRequest, context: RunContext, *, withdrawn: bool = False) -> None:
    """Record the one result of a target, saying no more than its record allows.

    `withdrawn`: while it waited for another try. One whose server only ever turned it away has
    not failed. One that a server took has: it is never called skipped or cancelled. A verdict that
    was reached stands, whatever became of the mount, or of another restore point, afterwards. One
    into whose guest a file may have been written is unknown, never failed. Nothing happens if the
    target has its result already.
    """
    record = context.ledger[request.key]
    if record.is_final:
        return
    result, message = _result(request, record, context)
    doubt = in_doubt(record)
    if doubt is not None and result not in FIRM_RESULTS:
        result = Result.UNKNOWN
        if message is None or doubt not in message:
            message = "; ".join(filter(None, (doubt, message)))
    about = point_search.about(record)
    context.ledger.record(
        TargetConcluded(
            at=context.ledger.now(),
            key=request.key,
            result=result,
            mount=record.mount_state,
            message=message,
            point=None if record.point is None or about == record.point.id else about,
            point_why=point_search.found_how(record),
            no_time=had_no_time(request, context, withdrawn=withdrawn),
        )
    )


def _result(
    request: MountRequest, record: MountRecord, context: RunContext
) -> tuple[Result, str | None]:
    """Return what a target amounts to now, and the message."""
    if record.standing is not None:
        return record.standing, _in_words(request, record, context)
    if record.phase is Phase.OUT_OF_REACH:
        return Result.UNKNOWN, record.message
    if record.phase is Phase.BUSY:
        return busy_result(record)
    if not record.was_taken:
        return _never_begun(request, record, context)
    if _is_unproven(record):
        words = _unproven(record) if record.tries else _in_words(request, record, context)
        return Result.UNKNOWN, words
    return Result.FAILED, _in_words(request, record, context)


def _never_begun(
    request: MountRequest, record: MountRecord, context: RunContext
) -> tuple[Result, str]:
    """Return how a target ends that no server took, and how often its server turned it away."""
    result, why = context.unsubmitted(request)
    refusals = sum(attempt.outcome == "refused" for attempt in record.attempts)
    if refusals:
        why = f"{why}; {counted(refusals, 'mount request')} of it came to nothing before"
    return result, why


def _is_unproven(record: MountRecord) -> bool:
    """Return whether nobody knows what the last mount, which is gone, would have shown."""
    newest = record.attempts[-1]
    if newest.unread or newest.fault or newest.verdict is Result.FAILED:
        return False
    return newest.outcome in {"success", "unknown"}


def _in_words(request: MountRequest, record: MountRecord, context: RunContext) -> str | None:
    """Return the message of a result: what went wrong, and which other points were tried."""
    said = record.message or _said_before(record)
    words = [said] if said else []
    tried, about = point_search.points_tried(record), point_search.about(record)
    if record.standing in FIRM_RESULTS:
        if about != record.attempts[-1].point:
            words = [f"another restore point was tried after it: {record.message}"]
            if context.holds.rule.asked(record.standing) is not None:
                words.append("so the good one's mount was not held")
        if record.planned.point is not None and about != record.planned.point.id:
            words.insert(0, f"good from an older restore point, one of {tried} that were tried")
        return "; ".join(words) or None
    words += words_of_wrong_system(record)
    if tried > 1:
        words.append(f"{tried} restore points were tried, none was good")
    words += _not_tried(request, record, context)
    return "; ".join(words) or None


def _said_before(record: MountRecord) -> str | None:
    """Return how the last try ended, of a target that was taken up again and not tried."""
    if record.tries or not record.attempts:
        return None
    newest = record.attempts[-1]
    return newest.message if newest.verdict is None else f"its last mount was {newest.verdict}"


def _not_tried(request: MountRequest, record: MountRecord, context: RunContext) -> list[str]:
    """Return what would have been tried yet, and why it was not; nothing if that is nothing."""
    left = []
    if record.phase is Phase.QUEUED and not point_search.is_settled(record):
        newest = next(each for each in reversed(record.attempts) if not each.was_turned_away)
        left.append(f"not mounted as {record.os_kind}" if newest.unread else "not tried again")
    if point_search.is_unfinished(record):
        left.append("the others were not tried")
    if not left:
        return []
    why = "its mount may still be open"
    if record.phase is Phase.QUEUED:
        why = context.unsubmitted(request)[1]
    return [f"{', and '.join(left)}: {why}"]


def _unproven(record: MountRecord) -> str:
    """Return why a mount has no verdict although it is gone: the run was stopped first."""
    what = "its checks were made" if record.planned.checks else "it was judged"
    return f"mounted, and stopped before {what}"
