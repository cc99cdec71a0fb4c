"""Long lines of a summary on a terminal: broken between words, where the terminal would not."""

from __future__ import annotations

import os
import sys
import textwrap

LEAST = 40
"""Columns below which wrapping helps nobody."""


def for_stdout(text: str) -> str:
    """Return a text as it is, or wrapped between words if stdout is a terminal."""
    try:
        width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    except (OSError, ValueError):
        width = 0
    return wrapped(text, width) if width >= LEAST else text


def wrapped(text: str, width: int) -> str:
    """Return the text in lines of at most `width` columns; a longer word, as a path, stays whole.

    What a line is continued in stands two columns further in than its beginning.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        margin = line[: len(line) - len(line.lstrip(" "))]
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=f"{margin}  ",
            break_long_words=False,
            break_on_hyphens=False,  # names have them
            drop_whitespace=True,
        ) or [""]
    return "\n".join(lines)
