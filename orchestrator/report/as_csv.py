"""report.csv: one row per target, and per mount of none, safe to open in a spreadsheet.

A text that a spreadsheet would read as a formula, a number, a date or a truth value (`=1+1`,
`007`, `1e5`, `mar-01`, `TRUE`) begins with an apostrophe, and so does one that begins with an
apostrophe itself: a program that takes one away from the front of a cell has the text again.
Quoting alone keeps no name: LibreOffice 7.4 and Gnumeric 1.12 read "007" as 7, and keep the text
with the apostrophe. Control characters are escaped; every cell is quoted. UTF-8 with a byte-order
mark, CRLF, as Excel reads.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from orchestrator.core.text import printable, timestamp
from orchestrator.report.values import Report, TargetReport

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
    "narrowed",
)
_SPECIAL = ("=", "+", "-", "@", "\t", "\r", "|", "%", "#", "'")
"""Beginnings of formulas and of error values; and our own mark."""

_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_VALUE = re.compile(
    r"[^a-z]*\d[^a-z]*(e[^a-z]*\d[^a-z]*|[ap]\.?m\.?)?"  # numbers, dates, times, amounts
    rf"|[\d\s.,/-]*{_MONTH}[\d\s.,/-]*\d[\d\s.,/-]*|[\d\s.,/-]*\d[\d\s.,/-]*{_MONTH}"
    r"|true|false",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\d+(\.\d+){3}")
"""No spreadsheet reads four numbers as one."""


def render(report: Report) -> str:
    """Return the whole file."""
    return "".join(pieces(report))


def pieces(report: Report) -> Iterator[str]:
    """Yield the file, row by row."""
    yield "\N{BYTE ORDER MARK}"
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    for row in _rows(report):
        writer.writerow(row)
        yield out.getvalue()
        out.seek(0)
        out.truncate()


def _rows(report: Report) -> Iterator[Sequence[str]]:
    yield COLUMNS
    for target in report.targets:
        own = {**_values(target), "narrowed": report.run.narrowed}
        fields = (own[name] if name in own else getattr(target, name) for name in COLUMNS)
        yield [cell(value) for value in fields]
    for stray in report.strays:
        values = {
            "key": "(no target)",
            "server": stray.server,
            "mount": "left",
            "message": f"{stray.mount_href or stray.task_id}: {stray.message}",
            "narrowed": report.run.narrowed,
        }
        yield [cell(values.get(name)) for name in COLUMNS]
    for unread in report.unread:
        values = {
            "key": "(no target)",
            "server": unread.server,
            "mount": "unknown",
            "message": unread.message,
            "narrowed": report.run.narrowed,
        }
        yield [cell(values.get(name)) for name in COLUMNS]


def cell(value: object) -> str:
    """Return a value as a cell that is only ever read as text or as a number."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return _text(str(value))


@lru_cache(maxsize=1024)
def _text(value: str) -> str:
    """Return a text as a cell; most columns repeat few texts."""
    text = printable(value, 2000)
    bare = text.strip()
    is_value = _VALUE.fullmatch(bare) is not None and _ADDRESS.fullmatch(bare) is None
    return f"'{text}" if is_value or bare.startswith(_SPECIAL) else text


def _values(target: TargetReport) -> dict[str, object]:
    """Return what a column has in place of the target's field of its name."""
    point = target.point
    met = {each.kind: each.met for each in target.scoped_objectives()}
    fates = [copied.fate for copied in target.downloads]
    return {
        "point": point.name if point else None,
        "point_created_at": timestamp(point.created_at if point else None),
        "point_age_s": round(point.age_s) if point else None,
        "fallback_depth": point.fallback_depth if point else None,
        "attempts": len(target.attempts),
        "checks_passed": sum(check.passed for check in target.checks),
        "checks": len(target.checks),
        "files_copied": sum(
            copied.fate.value in {"saved", "restored"} for copied in target.downloads
        ),
        "files": len(fates),
        "verdict_s": None if target.verdict_s is None else round(target.verdict_s, 1),
        "rto_met": met.get("rto"),
        "rpo_met": met.get("rpo"),
    }
