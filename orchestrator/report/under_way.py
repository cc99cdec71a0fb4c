"""The report of a run that still goes on: what is under way is neither a result nor left open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import MountState
from orchestrator.report.values import Report, RunReport, TargetReport

WITHOUT = "without a result yet"


def state_words(run: RunReport) -> str:
    """Return `still running`, `interrupted`, or "" for a run that came to its end."""
    if run.goes_on:
        return "still running"
    return "interrupted" if run.interrupted else ""


def under_way(report: Report) -> list[TargetReport]:
    """Return the targets that have no result yet and go on; not those that are held."""
    return [
        each for each in report.targets if each.phase is not None and each.phase != Phase.HELD.value
    ]


def concluded(report: Report) -> Sequence[TargetReport]:
    """Return the targets that have their result, or will get none; and those that are held."""
    return [each for each in report.targets if each.phase is None or each.phase == Phase.HELD.value]


def shown_totals(report: Report) -> dict[str, int]:
    """Return the totals without what targets under way are counted as in report.json."""
    going = under_way(report)
    if not going:
        return dict(report.totals)
    results = Counter(each.result.value for each in going)
    mounts = Counter(each.mount for each in going)
    less = {
        **results,
        "left": mounts[MountState.LEFT],
        "may_be_mounted": mounts[MountState.UNKNOWN],
    }
    totals = {name: count - less.get(name, 0) for name, count in report.totals.items()}
    return {**totals, WITHOUT.replace(" ", "_"): len(going)}
