"""Which view fits stderr: decided here, because the terminal library ignores CI and more.

That library is imported only where it may be used; most runs have no terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TextIO

from orchestrator.views.lines import LineView
from orchestrator.views.view import View


class Show(StrEnum):
    """How much a person wants to see."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


def choose_view(
    stderr: TextIO, environ: Mapping[str, str], *, show: Show = Show.NORMAL, color: str = "auto"
) -> View:
    """Return the live view on a real terminal, else lines; nothing when quiet.

    `color` auto obeys `NO_COLOR` (no escape sequence at all, so lines) and `CI`; always
    overrules both on a terminal; never means lines.
    """
    if show is Show.QUIET:
        return View()
    terminal = stderr.isatty() and environ.get("TERM", "") not in {"", "dumb"}
    wanted = color == "always" or (
        color == "auto" and not environ.get("NO_COLOR") and not environ.get("CI")
    )
    if terminal and wanted and show is Show.NORMAL:
        from orchestrator.views.live import LiveView

        return LiveView(stderr)
    return LineView(stderr, verbose=show is Show.VERBOSE)
