"""A coverage as text and as JSON: what a proof is worth, and what has failed since it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from orchestrator.core.model import Result
from orchestrator.core.text import counted, duration, printable, timestamp
from orchestrator.report.as_json import plain_values
from orchestrator.report.history.coverage import Coverage, CoverageState, MachineResult, Row


def coverage_values(coverage: Coverage) -> dict[str, Any]:
    """Return the coverage as plain JSON values."""
    states = Counter(row.state for row in coverage.rows)
    return {
        "plan": coverage.plan,
        "days": coverage.days,
        "now": timestamp(coverage.now),
        "counts": {each.value: states[each] for each in CoverageState},
        "proven": {
            **{each.value: count for each, count in _by_proof(coverage).items()},
            "failed_since": sum(row.failed_since is not None for row in coverage.proven),
        },
        "notes": list(coverage.notes),
        "machines": [
            {
                "server": row.wanted.server,
                "backup_server": row.wanted.backup_server,
                "name": row.wanted.name,
                "is_known": row.wanted.vm is not None,
                "why": row.wanted.source,
                "standing": row.state.value,
                "proven": row.proof and plain_values(row.proof),
                "last_tried": row.newest and plain_values(row.newest),
                "failed_since": row.failed_since and plain_values(row.failed_since),
            }
            for row in coverage.rows
        ],
    }


def _by_proof(coverage: Coverage) -> dict[Result, int]:
    """Return how many machines were proven by checks, and how many by their mount alone."""
    counted = Counter(row.proof.result for row in coverage.proven if row.proof is not None)
    return {result: counted[result] for result in PROOF_WORDS}


PROOF_WORDS = {Result.VERIFIED: "verified by checks", Result.MOUNTED: "only mounted"}
"""What a proof is worth: a mount shows that the guest opens, checks look at what is in it."""


def coverage_lines(coverage: Coverage, *, verbose: bool = False) -> list[str]:
    """Return the coverage for a terminal, the worst first.

    `verbose` names also the machines that checks have proven and that did not fail since.
    """
    lines = [_summary(coverage)]
    for title, rows, is_shown in (
        ("Never proven:", _in_state(coverage, CoverageState.NEVER), True),
        ("Longer ago:", _in_state(coverage, CoverageState.LONGER_AGO), True),
        ("Proven, but not good since:", [r for r in coverage.proven if r.failed_since], True),
        ("Proven, but only mounted:", _still_good(coverage, Result.MOUNTED), True),
        ("Proven, verified by checks:", _still_good(coverage, Result.VERIFIED), verbose),
    ):
        if rows and is_shown:
            lines += [title, *(f"  {_line(row, coverage.now)}" for row in rows)]
    return lines + [f"note: {printable(note)}" for note in coverage.notes]


def _in_state(coverage: Coverage, state: CoverageState) -> list[Row]:
    return [row for row in coverage.rows if row.state is state]


def _still_good(coverage: Coverage, proof: Result) -> list[Row]:
    still_good = [row for row in coverage.proven if not row.failed_since]
    return [row for row in still_good if row.proof and row.proof.result is proof]


def _summary(coverage: Coverage) -> str:
    """Return the answer in one line, with what it is worth and what has become of it since."""
    parts = (
        f"{printable(coverage.plan, 60)}: {len(coverage.proven)} of "
        f"{counted(len(coverage.rows), 'machine')} proven in the last {coverage.days:g} days"
    )
    by = ", ".join(f"{n} {PROOF_WORDS[proof]}" for proof, n in _by_proof(coverage).items() if n)
    parts += f" ({by})" if by else ""
    failures = [row.failed_since for row in coverage.proven if row.failed_since is not None]
    if failures:
        counts = Counter(each.result.value for each in failures)
        results = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
        last = _when(max(failures, key=lambda each: each.at), coverage.now)
        parts += f"; of these, {results} SINCE THEN, last on {last}"
    return parts


def _line(row: Row, now: datetime) -> str:
    wanted, since = row.wanted, row.failed_since
    behind = f" behind {printable(wanted.backup_server, 60)}" if wanted.backup_server else ""
    parts = [f"{printable(wanted.server, 40)}: {printable(wanted.name, 80)}{behind}"]
    if wanted.vm is None:
        parts.append(wanted.source)
    if row.proof is not None:
        parts.append(f"{PROOF_WORDS[row.proof.result]} {_when(row.proof, now)}")
    if since is not None:
        parts.append(f"since then {_with_reason(since)}, {_when(since, now)}")
    newest = row.newest
    if newest not in (None, row.proof, since) and (since is None or newest.at > since.at):
        parts.append(f"last tried {_when(newest, now)}: {_with_reason(newest)}")
    return ", ".join(parts)


def _with_reason(tried: MachineResult) -> str:
    why = f" ({printable(tried.message, 100)})" if tried.message else ""
    return f"{tried.result.value}{why}"


def _when(tried: MachineResult, now: datetime) -> str:
    ago = duration(max(0.0, (now - tried.at).total_seconds()))
    return f"{tried.at:%Y-%m-%d} ({ago} ago, run {tried.run})"
