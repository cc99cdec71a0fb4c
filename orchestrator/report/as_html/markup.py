"""The few pieces of HTML that every part of the page is made of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from html import escape

from orchestrator.model import printable

ABSENT = "—"


def shown(text: object, limit: int = 300) -> str:
    """Return a text as it may stand in the page, between tags or in an attribute."""
    return escape(printable(str(text), limit)) if text not in (None, "") else ABSENT


def table(head: Iterable[str], rows: Iterable[str], *, kind: str = "") -> str:
    """Return a table that scrolls by itself on a narrow screen; `rows` are whole `tr` elements."""
    named = f' class="{kind}"' if kind else ""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    return (
        f'<div class="wide"><table{named}><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def row(cells: Iterable[str], kind: str = "") -> str:
    """Return one row of cells that are markup already."""
    named = f' class="{kind}"' if kind else ""
    return f"<tr{named}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def section(title: str, *parts: str, kind: str = "") -> str:
    """Return a section with a heading, or nothing if no part has anything in it."""
    inner = "".join(parts)
    named = f' class="{kind}"' if kind else ""
    return f"<section{named}><h2>{escape(title)}</h2>{inner}</section>\n" if inner else ""


def utc(at: datetime | None) -> str:
    """Return a moment in UTC to the second, or that there is none."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if at is not None else ABSENT


def local(at: datetime, offset_s: float) -> str:
    """Return a moment in the local time of the machine that ran, with its offset."""
    sign, minutes = ("-" if offset_s < 0 else "+"), int(abs(offset_s)) // 60
    moved = at.astimezone(UTC) + timedelta(seconds=offset_s)
    return f"{moved:%Y-%m-%d %H:%M:%S} {sign}{minutes // 60:02}:{minutes % 60:02}"
