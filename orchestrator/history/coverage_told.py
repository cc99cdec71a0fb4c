"""A coverage as text and as JSON: what a proof is worth, and what has failed since it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from orchestrator.history.coverage import Coverage, Row, Standing, Tried
from orchestrator.model import Result, counted, printable
from orchestrator.report.as_json import moment
from orchestrator.report.text import duration


def coverage_values(found: Coverage) -> dict[str, Any]:
    """Return the coverage as plain JSON values."""
    counts = {each.value: 0 for each in Standing}
    for row in found.rows:
        counts[row.standing.value] += 1
    return {
        "plan": found.plan,
        "days": found.days,
        "now": moment(found.now),
        "counts": counts,
        "proven": {
            **{each.value: count for each, count in _by_proof(found).items()},
            "failed_since": sum(row.failed_since is not None for row in found.proven),
        },
        "notes": list(found.notes),
        "machines": [
            {
                "server": row.wanted.server,
                "backup_server": row.wanted.backup_server,
                "name": row.wanted.name,
                "is_known": row.wanted.vm is not None,
                "why": row.wanted.source,
                "standing": row.standing.value,
                "proven": _tried_values(row.proof),
                "last_tried": _tried_values(row.newest),
                "failed_since": _tried_values(row.failed_since),
            }
            for row in found.rows
        ],
    }


def _tried_values(tried: Tried | None) -> dict[str, Any] | None:
    if tried is None:
        return None
    return {
        "run": tried.run,
        "at": moment(tried.at),
        "result": tried.result.value,
        "message": tried.message,
        "point_created_at": moment(tried.point_created_at),
    }


def _by_proof(found: Coverage) -> dict[Result, int]:
    """Return how many machines were proven by checks, and how many by their mount alone."""
    counted = Counter(row.proof.result for row in found.proven if row.proof is not None)
    return {result: counted[result] for result in _PROOFS}


_PROOFS = {Result.VERIFIED: "verified by checks", Result.MOUNTED: "only mounted"}
"""What a proof is worth: a mount shows that the guest opens, checks look at what is in it."""


def coverage_lines(found: Coverage, *, verbose: bool = False) -> list[str]:
    """Return the coverage for a terminal, the worst first.

    `verbose` names also the machines that checks have proven and that did not fail since.
    """
    lines = [_summary(found)]
    for title, rows, is_shown in (
        ("Never proven:", _standing(found, Standing.NEVER), True),
        ("Longer ago:", _standing(found, Standing.LONGER_AGO), True),
        ("Proven, but not good since:", [r for r in found.proven if r.failed_since], True),
        ("Proven, but only mounted:", _still_good(found, Result.MOUNTED), True),
        ("Proven, verified by checks:", _still_good(found, Result.VERIFIED), verbose),
    ):
        if rows and is_shown:
            lines += [title, *(f"  {_line(row, found.now)}" for row in rows)]
    return lines + [f"note: {printable(note)}" for note in found.notes]


def _standing(found: Coverage, standing: Standing) -> list[Row]:
    return [row for row in found.rows if row.standing is standing]


def _still_good(found: Coverage, proof: Result) -> list[Row]:
    return [r for r in found.proven if not r.failed_since and r.proof and r.proof.result is proof]


def _summary(found: Coverage) -> str:
    """Return the answer in one line, with what it is worth and what has become of it since."""
    said = (
        f"{printable(found.plan, 60)}: {len(found.proven)} of "
        f"{counted(len(found.rows), 'machine')} proven in the last {found.days:g} days"
    )
    by = ", ".join(f"{n} {_PROOFS[proof]}" for proof, n in _by_proof(found).items() if n)
    said += f" ({by})" if by else ""
    failures = [row.failed_since for row in found.proven if row.failed_since is not None]
    if failures:
        counts = Counter(each.result.value for each in failures)
        results = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
        last = _when(max(failures, key=lambda each: each.at), found.now)
        said += f"; SINCE THEN {results} of them, last on {last}"
    return said


def _line(row: Row, now: datetime) -> str:
    wanted, since = row.wanted, row.failed_since
    behind = f" behind {printable(wanted.backup_server, 60)}" if wanted.backup_server else ""
    said = [f"{printable(wanted.server, 40)}: {printable(wanted.name, 80)}{behind}"]
    if wanted.vm is None:
        said.append(wanted.source)
    if row.proof is not None:
        said.append(f"{_PROOFS[row.proof.result]} {_when(row.proof, now)}")
    if since is not None:
        said.append(f"since then {_with_reason(since)}, {_when(since, now)}")
    newest = row.newest
    if newest not in (None, row.proof, since) and (since is None or newest.at > since.at):
        said.append(f"last tried {_when(newest, now)}: {_with_reason(newest)}")
    return ", ".join(said)


def _with_reason(tried: Tried) -> str:
    why = f" ({printable(tried.message, 100)})" if tried.message else ""
    return f"{tried.result.value}{why}"


def _when(tried: Tried, now: datetime) -> str:
    ago = duration(max(0.0, (now - tried.at).total_seconds()))
    return f"{tried.at:%Y-%m-%d} ({ago} ago, run {tried.run})"
