"""Whether a plan is due: its `every` against the last proof of each of its targets.

A plan is due until each of its machines was proven within `every`. What is not known is due: a
machine that no run has proven, selectors that no run of this very plan has expanded, a proof that
is later than now. A run that failed takes nothing from an earlier proof, so the next run is due
when that is too old.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from orchestrator.core.policy import FUTURE_SLACK
from orchestrator.core.run_state import RunState
from orchestrator.core.text import counted, duration, moment, printable, timestamp
from orchestrator.plan.file.settings import RestorePlan
from orchestrator.report.history.coverage import (
    CoverageState,
    Proofs,
    coverage_of,
    planned_machines,
)

DAY = 86400.0


class Due(Struct, frozen=True, kw_only=True):
    """Whether a plan is due, why, and the moment when its oldest proof is, or was, too old.

    `since` is None where a proof is missing.
    """

    plan: str
    is_due: bool
    why: str
    since: datetime | None


def due_of(
    plan: RestorePlan,
    sha256: str,
    every: float,
    earlier: Iterable[RunState],
    proofs: Proofs,
    *,
    now: datetime,
    ahead: float = 0.0,
) -> Due:
    """Return whether `plan` is due `now`, or will be within `ahead` seconds.

    `every` is its own; `earlier` are its runs, the newest first. Of a sample, the targets are
    those of the newest run.
    """
    wanted, _notes = planned_machines(plan, sha256, earlier, only_newest=True)
    seconds = max(0.0, every - ahead)
    coverage = coverage_of(plan.name, wanted, proofs, days=seconds / DAY, now=now)
    unknown = [row.wanted.name for row in coverage.rows if row.wanted.vm is None]
    never = [row for row in coverage.rows if row.state is CoverageState.NEVER]
    proven = [row.proof.at for row in coverage.rows if row.proof is not None]
    oldest = min(proven, default=None)
    since = None if never or oldest is None else oldest + timedelta(seconds=every)
    if unknown:
        named = ", ".join(printable(name, 60) for name in unknown[:3])
        why = f"which machines it means is not known ({named}{', …' if len(unknown) > 3 else ''})"
    elif never or oldest is None:
        why = f"{counted(len(never), 'machine')} of {len(coverage.rows)} never proven"
    elif max(proven) > now + timedelta(seconds=FUTURE_SLACK):
        why = f"a proof is from the future ({moment(max(proven))}): the clock was set back"
    elif not coverage.is_whole:
        count = counted(len(coverage.rows) - len(coverage.proven), "machine")
        ago = duration((now - oldest).total_seconds())
        why = f"{count} of {len(coverage.rows)} last proven up to {ago} ago"
    else:
        ago = duration((now - oldest).total_seconds())
        proved = f"all {counted(len(coverage.rows), 'machine')} proven within {ago}"
        failed = sum(row.failed_since is not None for row in coverage.rows)
        proved += f", {failed} failed since then" if failed else ""
        return Due(plan=plan.name, is_due=False, why=proved, since=since)
    return Due(plan=plan.name, is_due=True, why=why, since=since)


def due_line(due: Due, place: str) -> str:
    """Return one line for a terminal; `place` is the plan's file."""
    head = f"{printable(place)}: {'DUE' if due.is_due else 'not due'}: {due.why}"
    if due.since is None:
        return head
    return f"{head}; due {'since' if due.is_due else 'at'} {moment(due.since)}"


def due_values(due: Due, place: str) -> dict[str, Any]:
    """Return it as plain JSON values."""
    return {
        "file": place,
        "plan": due.plan,
        "due": due.is_due,
        "why": due.why,
        "since": timestamp(due.since) if due.since is not None else None,
    }
