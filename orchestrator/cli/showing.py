"""What `plan` prints: a table that fits a terminal, the reasons behind it, and the same as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.model import MountKey, RestorePoint, UnresolvedTarget, counted, printable
from orchestrator.plan.fitting import moment
from orchestrator.plan.selection import OLDER
from orchestrator.report.text import duration

if TYPE_CHECKING:
    from orchestrator.looking import Look
    from orchestrator.model import MountRequest
    from orchestrator.plan.loading import LoadedPlan
    from orchestrator.plan.selection import PassedOver

SHOWN = 10
"""Points passed over that are listed for each target, those merely older than the chosen counted
in one line; `query` lists all it returned."""

WIDTH = 80
CELL = 40


def shown_plan(found: Look, *, explain: bool) -> Iterator[str]:
    """Yield the lines of an expanded plan: targets, reasons where wanted, and totals."""
    expanded = found.expanded
    yield from _table(found, explain=explain)
    for target in expanded.unresolved if explain else ():
        yield f"{printable(target.key)} has no restore point"
        yield from _wrapped(f"because: {target.reason}", 4)
        yield from _passed(expanded.passed.get(target.key, ()), target.key, found)
    yield from (line for note in expanded.notes for line in _wrapped(note, 0))
    if found.seed:
        yield f"drawn by seed {found.seed}; draw the same again with --seed {found.seed}"
    yield _targets(len(expanded.requests), len(expanded.unresolved))


def _targets(chosen: int, unresolved: int) -> str:
    """Return the total, which is that of the run: what has no restore point is a target too."""
    total = chosen + unresolved
    targets = counted(total, "target")
    if not unresolved:
        return f"{targets}, each with its restore point" if total else targets
    of_them = f"{unresolved} of them " if total > 1 else ""
    return f"{targets}, {of_them}without a restore point"


def _table(found: Look, *, explain: bool) -> Iterator[str]:
    """Yield the targets; a column that says the same in every row stands once, above them."""
    requests = found.expanded.requests
    heads = ("WAVE", "SERVER", "BACKUP SERVER", "TARGET", "RESTORE POINT", "AGE")
    rows = [heads, *(_row(request, found.now) for request in requests)]
    shown = [tuple(printable(cell, CELL) for cell in row) for row in rows]
    same = [
        place for place in range(3) if len(requests) > 1 and len({r[place] for r in shown[1:]}) == 1
    ]
    if same:
        yield ", ".join(f"{heads[place].lower()} {shown[1][place]}" for place in same)
    columns = [place for place in range(len(heads)) if place not in same]
    widths = {place: max(len(row[place]) for row in shown) for place in columns}
    for number, row in enumerate(shown):
        yield "  ".join(row[place].ljust(widths[place]) for place in columns).rstrip()
        if number:
            request = requests[number - 1]
            if explain:
                yield from _wrapped(f"because: {request.policy}", 4)
            if explain or request.key in found.expanded.queried:
                passed = found.expanded.passed.get(request.key, ())
                yield from _passed(passed, request.key, found)


def _row(request: MountRequest, now: datetime) -> tuple[str, ...]:
    return (
        request.wave,
        request.server,
        request.backup_server,
        request.label.removesuffix(f"@{moment(request.point.created_at)}"),  # the next column
        _made(request.point),
        duration((now - request.point.created_at).total_seconds()),
    )


def _made(point: RestorePoint) -> str:
    return f"{point.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _passed(passed: Sequence[PassedOver], key: MountKey, found: Look) -> Iterator[str]:
    """Yield a line for each point; those merely older are one line, but for a query's own."""
    queried = key in found.expanded.queried
    older = [each.point for each in passed if each.why == OLDER]
    folded = len(older) > 1 and not queried
    told = [each for each in passed if not (folded and each.why == OLDER)]
    limit = len(told) if queried else SHOWN
    for each in told[:limit]:
        name = each.point.name
        named = "" if name.startswith(f"{each.point.vm}@") else f" ({name})"
        word = "in reserve" if each.in_reserve else "passed over"
        yield from _wrapped(f"{word} {_made(each.point)}{named}: {each.why}", 6)
    if len(told) > limit:
        yield f"      and {len(told) - limit} more"
    if folded:
        back_to = _made(older[-1])
        yield from _wrapped(f"passed over {len(older)}: {OLDER}, back to {back_to}", 6)


def _wrapped(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        printable(text, 600), WIDTH, initial_indent=margin, subsequent_indent=margin + "  "
    )


# --- JSON --------------------------------------------------------------------------------------


def as_values(found: Look, loaded: LoadedPlan) -> dict[str, object]:
    """Return an expanded plan as plain data. Fields may be added, never removed."""
    expanded = found.expanded
    return {
        "plan": loaded.plan.name,
        "plan_sha256": loaded.sha256,
        "seed": found.seed or None,
        "notes": list(expanded.notes),
        "targets": [_target(request, found) for request in expanded.requests],
        "unresolved": [_unresolved(target, found) for target in expanded.unresolved],
        "broken": list(expanded.broken),
    }


def _target(request: MountRequest, found: Look) -> dict[str, Any]:
    values: dict[str, Any] = {
        "key": request.key,
        "wave": request.wave,
        "server": request.server,
        "backup_server": request.backup_server,
        "vm": request.vm,
        "label": request.label,
        "os": request.os_kind.value.lower(),
        "point": _point(request.point),
        "why": request.policy,
        "incident_at": _time(request.incident_at) if request.incident_at else None,
        "search": None,
        **_passed_values(request.key, found),
    }
    if request.search.candidates:
        values["search"] = {
            "order": request.search.order.value,
            "on": [cause.value for cause in request.search.on],
            "candidates": [_point(point) for point in request.search.candidates],
        }
    return values


def _unresolved(target: UnresolvedTarget, found: Look) -> dict[str, Any]:
    return {"key": target.key, "reason": target.reason, **_passed_values(target.key, found)}


def _passed_values(key: MountKey, found: Look) -> dict[str, Any]:
    passed = found.expanded.passed.get(key, ())
    limit = len(passed) if key in found.expanded.queried else SHOWN
    return {
        "passed_over": [{**_point(each.point), "why": each.why} for each in passed[:limit]],
        "passed_over_more": max(0, len(passed) - limit),
    }


def _point(point: RestorePoint) -> dict[str, str]:
    return {"id": point.id, "name": point.name, "created_at": _time(point.created_at)}


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
