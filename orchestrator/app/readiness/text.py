"""The readiness check as text: the answer, then problems; short even for thousands of targets."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.app.readiness.findings import Finding, Readiness, Scope, Status
from orchestrator.core.text import counted, printable
from orchestrator.report.text import words

SHOWN = 20
"""Rows per section; the rest is counted and listed in the JSON form."""

NAMED = 3
"""Targets named in one row that several of them share."""

SECTIONS = (
    (Status.PROBLEM, "Problems:"),
    (Status.WARNING, "Warnings:"),
    (Status.NOT_VISIBLE, "Not visible from here:"),
    (Status.OK, "OK:"),
)
SEEN_AT_A_GLANCE = ("trust", "logon", "clock", "inventory_age", "limits", "sessions")
"""What is shown of each server if it is in order."""


def text(readiness: Readiness, *, quiet: bool = False, verbose: bool = False) -> str:
    """Return lines for a terminal; `quiet` leaves only the answer and what prevents the run.

    `verbose` adds the sections' answers that are as they should be.
    """
    lines = [_answer(readiness), ""]
    for status, title in SECTIONS:
        if _is_shown(status, readiness, quiet=quiet, verbose=verbose):
            lines += _section(title, readiness.of(status))
    if not quiet:
        if not verbose:
            lines += _at_a_glance(readiness)
        lines += [_totals(readiness)]
    while not lines[-1]:
        lines.pop()
    return "\n".join(lines) + "\n"


def _is_shown(status: Status, readiness: Readiness, *, quiet: bool, verbose: bool) -> bool:
    if status is Status.OK:
        return verbose and not quiet
    stands_in_the_way = status is Status.PROBLEM or (status is Status.WARNING and readiness.strict)
    return stands_in_the_way or not quiet


def _answer(readiness: Readiness) -> str:
    totals = readiness.totals
    what = f"{printable(readiness.plan)}: {counted(readiness.targets, 'target')}"
    what += f" on {counted(readiness.servers, 'server')}"
    counts = ", ".join(
        counted(totals[status], word)
        for status, word in ((Status.PROBLEM, "problem"), (Status.WARNING, "warning"))
        if totals[status]
    )
    answer = "ready" if readiness.is_ready else "NOT READY"
    return f"{answer}: {what}" + (f"; {counts}" if counts else "")


def _section(title: str, findings: Iterable[Finding]) -> list[str]:
    rows = list(_grouped(findings))
    if not rows:
        return []
    lines = [title, *(f"  {row}" for row in rows[:SHOWN])]
    if len(rows) > SHOWN:
        lines.append(f"  and {len(rows) - SHOWN} more, see --json")
    return [*lines, ""]


def _grouped(findings: Iterable[Finding]) -> Iterable[str]:
    """Yield one row per detail; items and names with the same detail share it.

    Targets whose failure would halt the run come first.
    """
    items: dict[tuple[Scope, str, str], list[Finding]] = {}
    for each in sorted(findings, key=lambda each: not each.critical):
        items.setdefault((each.scope, each.name, each.detail), []).append(each)
    groups: dict[tuple[Scope, str, str], list[Finding]] = {}
    for (scope, _, detail), same in items.items():
        items_of = ", ".join(words(each.item) for each in same)
        groups.setdefault((scope, items_of, detail), []).append(same[0])
    for (_, items_of, detail), members in groups.items():
        names = ", ".join(
            printable(each.name, 120) + (" (critical)" if each.critical else "")
            for each in members[:NAMED]
        )
        if len(members) > NAMED:
            names += f" and {len(members) - NAMED} more"
        yield f"{names}: {items_of}: {printable(detail, 500)}"


def _at_a_glance(readiness: Readiness) -> list[str]:
    """Return what was seen of each server that answered."""
    rows: dict[str, list[str]] = {}
    for each in readiness.of(Status.OK):
        if each.scope is Scope.SERVER and each.item in SEEN_AT_A_GLANCE:
            rows.setdefault(each.name, []).append(f"    {words(each.item)}: {each.detail}")
    lines: list[str] = []
    for name, facts in list(rows.items())[:SHOWN]:
        lines += [f"  {printable(name)}", *(printable(fact, 500) for fact in facts)]
    if len(rows) > SHOWN:
        lines.append(f"  and {len(rows) - SHOWN} more, see --json")
    duration = [each.detail for each in readiness.of(Status.OK) if each.item == "duration"]
    lines += [f"  expected duration: {printable(detail, 500)}" for detail in duration]
    return ["Seen:", *lines, ""] if lines else []


def _totals(readiness: Readiness) -> str:
    totals = readiness.totals
    return (
        f"{counted(sum(totals.values()), 'answer')}: {totals[Status.OK]} ok, "
        f"{counted(totals[Status.WARNING], 'warning')}, "
        f"{counted(totals[Status.PROBLEM], 'problem')}, "
        f"{totals[Status.NOT_VISIBLE]} not visible"
    )
