"""What has changed since the last check of a plan, which a state directory remembers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.app.readiness.findings import Finding, Readiness, Scope
from orchestrator.core.text import moment, printable
from orchestrator.journal.store import private_directory, private_file

TOLD_IN_FULL = frozenset({"at_work", "trust", "restores_long_open"})
"""Items whose words count, too: another job, another certificate."""

NAMED = 20


class LastCheck(Struct, frozen=True, kw_only=True):
    """The answers of the check before."""

    checked_at: str
    findings: tuple[Finding, ...]


def last_check(state: Path, plan: str) -> LastCheck | None:
    """Return what the last check of a plan has answered; None if none is known."""
    try:
        return msgspec.json.decode(_place(state, plan).read_bytes(), type=LastCheck)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def remember(state: Path, readiness: Readiness) -> str | None:
    """Keep the answers for the next check; return why that was not possible, or None."""
    place = _place(state, readiness.plan)
    kept = LastCheck(checked_at=moment(readiness.checked_at), findings=readiness.findings)
    try:
        private_directory(state)
        private_directory(place.parent)
        fresh = place.with_suffix(".new")
        private_file(fresh)
        fresh.write_bytes(msgspec.json.encode(kept))
        fresh.replace(place)
    except OSError as exc:
        return f"this check was not remembered: {exc}"
    return None


def changed_since(before: LastCheck, readiness: Readiness) -> list[str]:
    """Return one line for each answer that is another one now, the servers' first."""
    was, now = _by_item(before.findings), _by_item(readiness.findings)
    lines = []
    for place in sorted({*was, *now}, key=lambda each: (each[0] is not Scope.SERVER, each)):
        old, new = was.get(place), now.get(place)
        if _essence(old) == _essence(new):
            continue
        _, name, item = place
        lines.append(
            f"{printable(name, 120)}: {item.replace('_', ' ')}: {_from(old)} -> {_to(new)}"
        )
    return lines


def _by_item(findings: Sequence[Finding]) -> dict[tuple[Scope, str, str], Finding]:
    return {(each.scope, each.name, each.item): each for each in findings}


def _essence(finding: Finding | None) -> tuple[str, str] | None:
    if finding is None:
        return None
    return finding.status.value, finding.detail if finding.item in TOLD_IN_FULL else ""


def _from(finding: Finding | None) -> str:
    return "nothing" if finding is None else finding.status.value.replace("_", " ")


def _to(finding: Finding | None) -> str:
    if finding is None:
        return "nothing"
    return f"{finding.status.value.replace('_', ' ')}: {printable(finding.detail, 500)}"


def _place(state: Path, plan: str) -> Path:
    return state / "checks" / f"{hashlib.sha256(plan.encode()).hexdigest()[:16]}.json"
