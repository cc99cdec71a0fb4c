"""What `plan` prints: a table that fits a terminal, the reasons behind it, and the same as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from orchestrator.core.model import MountKey, OsSource, RestorePoint
from orchestrator.core.policy import FUTURE_SLACK
from orchestrator.core.text import counted, duration, moment, printable, timestamp
from orchestrator.plan.choose.fitting import rfc3339
from orchestrator.plan.choose.selection import OLDER
from orchestrator.plan.file.left_out import left_out_lines

if TYPE_CHECKING:
    from orchestrator.app.preview import Preview
    from orchestrator.core.model import MountRequest
    from orchestrator.plan.choose.selection import PointPassedOver
    from orchestrator.plan.file.loading import LoadedPlan

SHOWN = 10
"""Points passed over that are listed for each target, those merely older than the chosen counted
in one line; `query` lists all it returned."""

WIDTH = 80
CELL = 40


def shown_plan(preview: Preview, *, explain: bool) -> Iterator[str]:
    """Yield the lines of an expanded plan: targets, reasons where wanted, and totals."""
    expansion = preview.expansion
    yield from _table(preview, explain=explain)
    for target in expansion.unresolved if explain else ():
        yield f"{printable(target.key)} has no restore point"
        yield from _wrapped(f"because: {target.reason}", 4)
        yield from _passed(expansion.passed.get(target.key, ()), target.key, preview)
    yield from _systems(expansion.requests)
    yield from (line for note in expansion.notes for line in _wrapped(note, 0))
    for text in left_out_lines(preview.left_out):
        yield from _wrapped(text, 0, limit=3000)
    if preview.seed:
        yield f"random seed {preview.seed}; --seed {preview.seed} gives the same selection again"
    yield _targets(len(expansion.requests), len(expansion.unresolved))


def _systems(requests: Sequence[MountRequest]) -> Iterator[str]:
    """Yield a line for the targets whose system the plan leaves open, if there are any."""
    counts = Counter(
        (each.os_source, each.os_kind) for each in requests if each.os_source is not OsSource.PLAN
    )
    words = {OsSource.EARLIER_RUN: "known from earlier runs", OsSource.ASSUMED: "assumed"}
    parts = [
        f"{count} {os_kind} ({words.get(source, source)})"
        for (source, os_kind), count in sorted(counts.items())
    ]
    if parts:
        yield from _wrapped(f"os: auto: {', '.join(parts)}", 0)


def _targets(chosen: int, unresolved: int) -> str:
    """Return the total, which is that of the run: what has no restore point is a target too."""
    total = chosen + unresolved
    targets = counted(total, "target")
    if not unresolved:
        return f"{targets}, each with its restore point" if total else targets
    of_them = f"{unresolved} of them " if total > 1 else ""
    return f"{targets}, {of_them}without a restore point"


def _table(preview: Preview, *, explain: bool) -> Iterator[str]:
    """Yield the targets; a column that is the same in every row is shown once, above them."""
    requests = preview.expansion.requests
    heads = ("WAVE", "SERVER", "BACKUP SERVER", "TARGET", "RESTORE POINT", "AGE")
    rows = [heads, *(_row(request, preview.age_s(request)) for request in requests)]
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
            if explain or request.key in preview.expansion.queried:
                passed = preview.expansion.passed.get(request.key, ())
                yield from _passed(passed, request.key, preview)


def _row(request: MountRequest, age_s: float) -> tuple[str, ...]:
    return (
        request.wave,
        request.server,
        request.backup_server,
        request.label.removesuffix(f"@{rfc3339(request.point.created_at)}"),  # the next column
        moment(request.point.created_at),
        duration(age_s) if age_s > -FUTURE_SLACK else f"{duration(-age_s)} ahead",
    )


def _passed(passed: Sequence[PointPassedOver], key: MountKey, preview: Preview) -> Iterator[str]:
    """Yield a line for each point; those merely older are one line, but for a query's own."""
    queried = key in preview.expansion.queried
    older = [each.point for each in passed if each.why == OLDER]
    folded = len(older) > 1 and not queried
    listed = [each for each in passed if not (folded and each.why == OLDER)]
    limit = len(listed) if queried else SHOWN
    for each in listed[:limit]:
        name = each.point.name
        named = "" if name.startswith(f"{each.point.vm}@") else f" ({name})"
        word = "in reserve" if each.in_reserve else "passed over"
        yield from _wrapped(f"{word} {moment(each.point.created_at)}{named}: {each.why}", 6)
    if len(listed) > limit:
        yield f"      and {len(listed) - limit} more"
    if folded:
        back_to = moment(older[-1].created_at)
        yield from _wrapped(f"passed over {len(older)}: {OLDER}, back to {back_to}", 6)


def _wrapped(text: str, indent: int, *, limit: int = 600) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        printable(text, limit),
        WIDTH,
        initial_indent=margin,
        subsequent_indent=margin + "  ",
        break_on_hyphens=False,  # names have them
    )


# --- JSON --------------------------------------------------------------------------------------


def as_values(preview: Preview, loaded: LoadedPlan) -> dict[str, object]:
    """Return an expanded plan as plain data. Fields may be added, never removed."""
    expansion = preview.expansion
    return {
        "plan": loaded.plan.name,
        "plan_sha256": loaded.sha256,
        "seed": preview.seed or None,
        "notes": list(expansion.notes),
        "left_out": [
            {**asdict(each), "machines": list(each.machines)} for each in preview.left_out
        ],
        "targets": [_target(request, preview) for request in expansion.requests],
        "unresolved": [
            {"key": each.key, "reason": each.reason, **_passed_values(each.key, preview)}
            for each in expansion.unresolved
        ],
        "broken": list(expansion.broken),
        "missing": [
            {"server": server, "reason": str(why)} for server, why in preview.missing.items()
        ],
    }


def _target(request: MountRequest, preview: Preview) -> dict[str, Any]:
    values: dict[str, Any] = {
        "key": request.key,
        "wave": request.wave,
        "server": request.server,
        "backup_server": request.backup_server,
        "vm": request.vm,
        "label": request.label,
        "os": request.os_kind.value.lower(),
        "os_known": request.os_source.value,
        "point": _point(request.point),
        "why": request.policy,
        "incident_at": timestamp(request.incident_at, "auto") if request.incident_at else None,
        "search": None,
        **_passed_values(request.key, preview),
    }
    if request.search.candidates:
        values["search"] = {
            "order": request.search.order.value,
            "on": [cause.value for cause in request.search.on],
            "candidates": [_point(point) for point in request.search.candidates],
        }
    return values


def _passed_values(key: MountKey, preview: Preview) -> dict[str, Any]:
    passed = preview.expansion.passed.get(key, ())
    limit = len(passed) if key in preview.expansion.queried else SHOWN
    return {
        "passed_over": [{**_point(each.point), "why": each.why} for each in passed[:limit]],
        "passed_over_more": max(0, len(passed) - limit),
    }


def _point(point: RestorePoint) -> dict[str, str]:
    return {"id": point.id, "name": point.name, "created_at": timestamp(point.created_at, "auto")}
