"""The few pieces of HTML that every part of the page is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from orchestrator.core.text import escape_html, local_moment, moment, printable

ABSENT = "&mdash;"


def shown(text: object, limit: int = 300) -> str:
    """Return a text for the page, between tags or in an attribute."""
    return escape_html(printable(str(text), limit)) if text not in (None, "") else ABSENT


def table(head: Iterable[str], rows: Iterable[str], *, kind: str = "") -> str:
    """Return a table; `rows` are whole `tr` elements, `kind` its classes."""
    named = f' class="{kind}"' if kind else ""
    cells = "".join(f'<th scope="col">{escape_html(name)}</th>' for name in head)
    return f"<table{named}><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>\n"


def scrolled(inner: str, label: str, *, kind: str = "") -> str:
    """Return what scrolls by itself where it is wider than the page, by the keyboard too.

    `label` is text already escaped; `kind` are further classes.
    """
    fold_log = f"wide {kind}".rstrip()
    return f'<div class="{fold_log}" tabindex="0" role="group" aria-label="{label}">{inner}</div>\n'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values; the values are markup already."""
    lines = (
        f'<tr><th scope="row">{escape_html(name)}</th><td>{cell}</td></tr>' for name, cell in rows
    )
    return f'<table class="narrow facts"><tbody>{"".join(lines)}</tbody></table>\n'


def cards(
    head: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    kind: str = "",
    on_paper: int | None = None,
) -> str:
    """Return a table whose rows become cards on a narrow screen; nothing without a row.

    Each cell says what it is. Paper shows only the first `on_paper` rows, if that is given.
    """
    head, rows = tuple(head), list(rows)
    if not rows:
        return ""
    named = [f' data-of="{escape_html(name)}"' for name in head]
    lines = (
        f"<tr{_unprinted(place, on_paper)}>"
        f"{''.join(f'<td{of}>{cell}</td>' for of, cell in zip(named, cells, strict=True))}</tr>"
        for place, cells in enumerate(rows)
    )
    return table(head, lines, kind=f"cards {kind}".rstrip())


def _unprinted(place: int, on_paper: int | None) -> str:
    return "" if on_paper is None or place < on_paper else ' class="screen"'


def only_on_paper(words: str) -> str:
    """Return a sentence that is only printed; it is markup already."""
    return f'<p class="paper">{words}</p>'


def more(count: int, where: str = ", see report.json") -> str:
    """Return a sentence about those that are not named, if there are any."""
    return f"<p>and {count} more{where}</p>" if count > 0 else ""


def section(title: str, *parts: str) -> str:
    """Return a section with a heading, or nothing if no part has anything in it."""
    inner = "".join(parts)
    if not inner:
        return ""
    return f'<section id="{anchor(title)}"><h2>{escape_html(title)}</h2>{inner}</section>\n'


def anchor(title: str) -> str:
    """Return the name by which the page itself links to a section of this title."""
    return "-".join(re.findall("[a-z0-9]+", title.lower()))


def utc(at: datetime | None) -> str:
    """Return a moment in UTC to the second, or that there is none."""
    return moment(at) if at is not None else ABSENT


def local_and_utc(at: datetime | None, offset_s: float) -> str:
    """Return a moment in local time and in UTC, once where they are the same."""
    if at is None:
        return ABSENT
    return utc(at) if not offset_s else f"{local_moment(at, offset_s)} · {utc(at)}"
