"""The few pieces of HTML that every part of the page is made of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from html import escape

from orchestrator.model import printable

ABSENT = "&mdash;"


def shown(text: object, limit: int = 300) -> str:
    """Return a text as it may stand in the page, between tags or in an attribute."""
    return escape(printable(str(text), limit)) if text not in (None, "") else ABSENT


def table(head: Iterable[str], rows: Iterable[str], *, kind: str = "", around: str = "") -> str:
    """Return a table that scrolls by itself on a narrow screen; `rows` are whole `tr` elements.

    `kind` and `around` are classes of the table and of what it scrolls in.
    """
    named = f' class="{kind}"' if kind else ""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    return (
        f'<div class="wide{around and f" {around}"}"><table{named}><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def row(cells: Iterable[str], kind: str = "") -> str:
    """Return one row of cells that are markup already."""
    named = f' class="{kind}"' if kind else ""
    return f"<tr{named}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def cards(head: Iterable[str], rows: Iterable[Iterable[str]], *, kind: str = "") -> str:
    """Return a table whose rows become cards on a narrow screen: each cell says what it is."""
    head = tuple(head)
    named = [f' data-of="{escape(name)}"' if name else "" for name in head]
    lines = (
        f"<tr>{''.join(f'<td{of}>{cell}</td>' for of, cell in zip(named, cells, strict=True))}</tr>"
        for cells in rows
    )
    return table(head, lines, kind=f"cards {kind}".rstrip())


def section(title: str, *parts: str) -> str:
    """Return a section with a heading, or nothing if no part has anything in it."""
    inner = "".join(parts)
    if not inner:
        return ""
    return f'<section id="{anchor(title)}"><h2>{escape(title)}</h2>{inner}</section>\n'


def anchor(title: str) -> str:
    """Return the name by which the page itself links to a section of this title."""
    return title.lower().replace(" ", "-")


def utc(at: datetime | None) -> str:
    """Return a moment in UTC to the second, or that there is none."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if at is not None else ABSENT


def local(at: datetime, offset_s: float) -> str:
    """Return a moment in the local time of the machine that ran, with its offset."""
    sign, minutes = ("-" if offset_s < 0 else "+"), int(abs(offset_s)) // 60
    moved = at.astimezone(UTC) + timedelta(seconds=offset_s)
    return f"{moved:%Y-%m-%d %H:%M:%S} {sign}{minutes // 60:02}:{minutes % 60:02}"
