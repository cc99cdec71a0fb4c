"""The tasks of a run that were asked to stop, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from orchestrator.report.values import AttemptReport, Report, TargetReport

ANSWERS: Final = {
    "accepted": "accepted",
    "refused": "refused",
    "not_sent": "not sent",
    "lost": "the answer is lost",
    None: "whether it was sent is not known",
}
SEEN: Final = {
    "ended": "the task ended",
    "vanished": "the task vanished",
    "goes_on": "the task goes on",
    None: "the task was not read again",
}


def stop_words(attempt: AttemptReport) -> str | None:
    """Return that the task of an attempt was asked to stop, and what was seen; None: it was not."""
    stop = attempt.stop
    if stop is UNSET:
        return None
    said = f" ({stop.message})" if stop.message else ""
    task = f"{attempt.task_id} " if attempt.task_id else ""
    return f"{task}was asked to stop: {ANSWERS[stop.answer]}; {SEEN[stop.seen]}{said}"


def stopped_tasks(report: Report) -> Iterator[tuple[TargetReport, str]]:
    """Yield each target whose task was asked to stop, and the words for it."""
    for target in report.targets:
        for attempt in target.attempts:
            words = stop_words(attempt)
            if words is not None:
                yield target, words
