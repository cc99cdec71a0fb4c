"""A regular expression against the text of a guest's file, line by line and in bounded time.

Python's expressions backtrack: an unlucky pattern on a hostile text may search for years.
There is no thread here that could be given up, so an alarm of the process ends the search;
it interrupts the expression engine in the middle of a line.
"""

from __future__ import annotations

import re
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 2.0
"""How long all lines of one file together may be searched: nothing else happens meanwhile."""

TEXT_LIMIT = 1024 * 1024
"""Bytes at the beginning of a file that are searched."""

_LINE_END = re.compile(r"\r\n|\n|\r")


class PatternUnusable(Exception):
    """The expression cannot be searched for; the message says why."""


def line_of(pattern: str, text: str) -> int | None:
    """Return the number of the first line that matches, from 1, or None.

    Raises:
        PatternUnusable: it is no regular expression, or searching for it takes too long.
    """
    with _limited():
        wanted = _compiled(pattern)
        for number, line in enumerate(_LINE_END.split(text), start=1):
            if wanted.search(line):
                return number
    return None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what may mean something else one day
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        raise PatternUnusable(f"not a regular expression: {exc}") from None


@contextmanager
def _limited() -> Iterator[None]:
    """End what runs in this context when its time is up."""
    if threading.current_thread() is not threading.main_thread():
        raise PatternUnusable("patterns are searched only in the main thread of a process")

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise PatternUnusable(f"searching took longer than {SECONDS:g} s: simplify the pattern")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        finally:  # the alarm may go off in this very moment
            signal.signal(signal.SIGALRM, before)
