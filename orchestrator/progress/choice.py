"""Which view fits: decided here, because the terminal library ignores CI and more."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TextIO

from orchestrator.progress.lines import LineView
from orchestrator.progress.live import LiveView
from orchestrator.progress.view import QuietView, View


class Show(StrEnum):
    """How much a person wants to see."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


def choose_view(
    stderr: TextIO,
    environ: Mapping[str, str],
    *,
    show: Show = Show.NORMAL,
    color: str = "auto",
) -> View:
    """Return the live view on a real terminal, else lines; nothing when quiet.

    `NO_COLOR` means no escape sequence at all, so it means lines. `color` is auto, always
    or never, as on the command line.
    """
    if show is Show.QUIET:
        return QuietView()
    plain = color == "never" or bool(environ.get("NO_COLOR"))
    terminal = stderr.isatty() and environ.get("TERM", "") not in {"", "dumb"}
    if terminal and not environ.get("CI") and not plain and show is Show.NORMAL:
        return LiveView(stderr)
    return LineView(stderr, verbose=show is Show.VERBOSE)
