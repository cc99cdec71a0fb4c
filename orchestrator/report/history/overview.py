"""One line of the list of runs, with the chain checked and without folding what needs no fold."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from orchestrator.core.events import RunFinished, RunResumed, RunStarted, from_json
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.left_open import LeftOpen
from orchestrator.core.ports.store import RecordedRuns
from orchestrator.core.records import Record, RunSummary

NOTHING_OPEN = frozenset(
    {
        ExitCode.GOOD,
        ExitCode.NOT_GOOD,
        ExitCode.UNUSABLE,
        ExitCode.HALTED,
        ExitCode.SIGINT,
        ExitCode.SIGTERM,
    }
)
"""Exit codes that IN_DOUBT would have come before: no mount was left, or was unknown."""


class RunOverview(Struct, frozen=True, kw_only=True):
    """One run in the list of runs; `open` is what may still be mounted."""

    finished: RunFinished | None
    targets: int
    report_dir: str
    open: LeftOpen = LeftOpen()
    is_held_up: bool = False
    """Whether a living run waits for people: it is paused, or a wave needs their approval."""
    awaits_confirmation: bool = False


def overview_of(
    runs: RecordedRuns, summary: RunSummary, *, process_gone: bool = False
) -> RunOverview:
    """Return a run as the list of runs has it; `process_gone`: nobody works on it.

    A run that ended, with an exit code which says that nothing is open, and that kept no mount
    on purpose, needs no fold; every other one is folded.

    Raises:
        JournalDamaged: a record is not what was written.
    """
    counts: Counter[str] = Counter()
    report_dir, last = summary.report_dir, None
    for record in runs.records(summary.run):
        counts[record.kind] += 1
        last = record
        if record.kind in {"RunStarted", "RunResumed"}:
            event = from_json(record.kind, record.body)
            if isinstance(event, RunStarted | RunResumed):
                report_dir = event.report_dir
    finished = _clean_end(last) if not counts["MountKept"] else None
    if finished is not None:
        targets = counts["TargetPlanned"] - counts["PlaceholderReplaced"]
        return RunOverview(finished=finished, targets=targets, report_dir=report_dir)
    state = runs.replay(summary.run)
    state.process_gone = process_gone
    return RunOverview(
        finished=state.finished,
        targets=len(state.records),
        report_dir=state.report_dir,
        open=state.left_open,
        is_held_up=state.is_held_up,
        awaits_confirmation=state.awaits_confirmation,
    )


def _clean_end(last: Record | None) -> RunFinished | None:
    """Return the end of the run if it is the last record, and means that nothing is open."""
    if last is None or last.kind != "RunFinished":
        return None
    event = from_json(last.kind, last.body)
    if isinstance(event, RunFinished) and event.exit_code in NOTHING_OPEN:
        return event
    return None
