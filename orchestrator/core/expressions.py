"""Regular expressions that are searched for in time linear in the text, whatever they are.

The language is RE2's: no look-around, no back-references. A text is searched line by line, in one
pass: `^`, `$`, `\\A` and `\\z` are the ends of a line, and nothing matches a line end.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from orchestrator.core.text import duration

if TYPE_CHECKING:
    import re2

LARGEST_PROGRAM = 4000
"""Instructions of a compiled expression: the time of a search grows with them."""
BLOCK = 128 * 1024
"""Bytes that are searched at a time, up to the end of a line; between two the time is looked at."""
SECONDS = 20.0
"""How long a text may be searched for one expression."""

LINE_BY_LINE = "(?m)"
_TOKEN = re.compile(
    r"\\Q.*?(?:\\E|$)|\\u[0-9a-fA-F]{4}|\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]"
    r"|\{(?:\d+(?:,\d*)?|,\d*)\}|\(\?(?:<?[=!]|P=|>|\(|\#|[a-zA-Z-]*[:)])|.",
    re.DOTALL,
)
_LINE_END = re.compile(rb"\r\n|\r")
_ENDS = {"\\A": "^", "\\z": "$", "\\Z": "$"}


class ExpressionRefused(ValueError):
    """The expression cannot be searched for; the message says why, and where in it."""


class SearchTooLong(Exception):
    """The search was given up; the message says why."""


class Expression(Struct, frozen=True):
    """A compiled expression."""

    _compiled: re2._Regexp

    def steps(self, size: int) -> int:
        """Return how many steps a search of `size` bytes may take in the worst case."""
        return int(self._compiled.programsize) * size

    def line_in(self, text: str) -> int | None:
        """Return the number of the first line that matches, from 1, or None.

        Safe to call in a thread.

        Raises:
            SearchTooLong: it took longer than `SECONDS`.
        """
        data = _LINE_END.sub(b"\n", text.encode("utf-8", errors="surrogateescape"))
        until = time.monotonic() + SECONDS
        start = lines = 0
        while True:
            end = data.find(b"\n", start + BLOCK)
            block = data[start:] if end < 0 else data[start:end]
            match = self._compiled.search(block)
            if match is not None:
                return lines + block.count(b"\n", 0, match.start()) + 1
            if end < 0:
                return None
            if time.monotonic() > until:
                raise SearchTooLong(
                    f"searching took longer than {duration(SECONDS)}: simplify the pattern"
                )
            lines += block.count(b"\n") + 1
            start = end + 1


def compiled(text: str) -> Expression:
    """Return the expression of a plan.

    Raises:
        ExpressionRefused: it is none, or not one that can be searched for in linear time.
    """
    import re2  # only plans that search for expressions need it

    options = re2.Options()
    options.log_errors = False
    options.never_nl = True
    options.never_capture = True
    try:
        pattern = re2.compile((LINE_BY_LINE + _translated(text)).encode(), options)
    except (re2.error, UnicodeEncodeError) as exc:
        raise ExpressionRefused(f"is no regular expression: {_words(exc)}") from None
    if pattern.programsize > LARGEST_PROGRAM:
        raise ExpressionRefused(
            "is no regular expression that is searched for quickly: fewer or smaller repetitions"
        )
    return Expression(pattern)


def _translated(text: str) -> str:
    """Return an expression as the library takes it, or say at which character it cannot.

    Raises:
        ExpressionRefused: it asks for what takes more than linear time, or has no meaning here.
    """
    parts = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        why = _why_not(token)
        if why is not None:
            raise ExpressionRefused(
                f"cannot be searched for in linear time: {why} at character {match.start() + 1}"
            )
        if token[:2] == "\\u" and len(token) > 2:
            token = f"\\x{{{token[2:]}}}"
        if token[:2] == "{,":
            token = f"{{0{token[1:]}"
        parts.append(_ENDS.get(token, token))
    return "".join(parts)


def _why_not(token: str) -> str | None:
    if re.fullmatch(r"\\[1-9]", token):
        return "a back-reference"
    if token[:1] == "{" and any(len(count) > 4 for count in re.findall(r"\d+", token)):
        return "a repetition of more than 1000"
    flags = re.fullmatch(r"\(\?([a-zA-Z]*)(?:-([a-zA-Z]*))?[:)]", token)
    if flags is not None and (set(flags[1]) - set("imsU") or set(flags[2] or "") - set("isU")):
        return f"the flag of {token}"
    return {
        **dict.fromkeys(("(?=", "(?!", "(?<=", "(?<!"), "look-around"),
        "(?P=": "a back-reference",
        "(?>": "an atomic group",
        "(?(": "a condition",
        "(?#": "a comment",
        "\\C": "a single byte",
    }.get(token)


def _words(exc: Exception) -> str:
    """Return what the library says, whose messages are bytes, of the expression as it was given."""
    said = exc.args[0] if exc.args else ""
    if not isinstance(said, bytes):
        return "not text"
    return said.decode("utf-8", errors="replace").replace(LINE_BY_LINE, "", 1)
