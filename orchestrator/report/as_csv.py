"""report.csv: one row per target, safe to open in a spreadsheet.

A cell that a spreadsheet would read as a formula begins with an apostrophe; control
characters are escaped; every cell is quoted. UTF-8 with a byte-order mark, CRLF, as Excel reads.
"""

from __future__ import annotations

import csv
import io

from orchestrator.model import printable
from orchestrator.report.as_json import moment
from orchestrator.report.summary import Report, TargetReport

COLUMNS = (
    "key",
    "wave",
    "server",
    "backup_server",
    "vm",
    "label",
    "os",
    "source",
    "critical",
    "result",
    "mount",
    "message",
    "point",
    "point_created_at",
    "point_age_s",
    "fallback_depth",
    "attempts",
    "checks_passed",
    "checks",
    "files_copied",
    "files",
    "verdict_s",
    "rto_met",
    "rpo_met",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "|", "%")


def render(report: Report) -> str:
    """Return the whole file."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for target in report.targets:
        writer.writerow([cell(value) for value in _values(target)])
    return "\N{BYTE ORDER MARK}" + out.getvalue()


def cell(value: object) -> str:
    """Return a value as a cell that is only ever read as text or as a number."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = printable(str(value), 2000)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _values(target: TargetReport) -> list[object]:
    point = target.point
    met = {each.kind: each.met for each in target.objectives}
    return [
        target.key,
        target.wave,
        target.server,
        target.backup_server,
        target.vm,
        target.label,
        target.os,
        target.source,
        target.critical,
        target.result.value,
        target.mount.value,
        target.message,
        point.name if point else None,
        moment(point.created_at) if point else None,
        round(point.age_s) if point else None,
        point.fallback_depth if point else None,
        len(target.attempts),
        sum(check.passed for check in target.checks),
        len(target.checks),
        sum(copied.fate.value in {"saved", "restored"} for copied in target.downloads),
        len(target.downloads),
        None if target.verdict_s is None else round(target.verdict_s, 1),
        met.get("rto"),
        met.get("rpo"),
    ]
