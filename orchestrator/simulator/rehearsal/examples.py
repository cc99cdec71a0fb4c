"""Names that match a glob, and texts in which a regular expression is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice

from orchestrator.core.expressions import ExpressionRefused, SearchTooLong, compiled

TRIES = 2000
_PART = re.compile(r"\*|\?|\[(?P<set>!?\]?[^\]]*)\]|[^*?\[]+|\[")


def names_like(glob: str) -> Iterator[str]:
    """Yield different names that match a glob: without end where it leaves anything open."""
    parts = list(_PART.finditer(glob))
    if not any(match[0] in {"*", "?"} or match["set"] for match in parts):
        yield glob
        return
    known: set[str] = set()
    for number in range(1, TRIES):
        name = "".join(_filled(parts, f"{number:02}"))
        if name not in known and fnmatchcase(name, glob):
            known.add(name)
            yield name


def _filled(parts: list[re.Match[str]], number: str) -> Iterator[str]:
    """Yield the pieces of one name: the number is in the first `*`, else in each `?`."""
    stars = 0
    marks = [match for match in parts if match[0] == "?"]
    digits = iter(number.rjust(len(marks), "0")[-len(marks) :] if marks else "")
    for match in parts:
        if match[0] == "*":
            yield "" if stars else number
            stars += 1
        elif match[0] == "?":
            yield next(digits)
        elif match["set"]:
            yield "0" if match["set"].startswith("!") else match["set"][0]
        else:
            yield match[0]


def first_names(glob: str, count: int) -> list[str]:
    """Return `count` different names that match a glob, or fewer where there are no more."""
    return list(islice(names_like(glob), count))


# --- expressions -------------------------------------------------------------------------------

_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": " ", "S": "a", "t": "\t", "n": ""}
_NO_WIDTH = frozenset("bBAzZ")
_QUANTIFIER = re.compile(r"([*+?]|\{(\d+)(?:,\d*)?\})[?+]?")


def line_like(expression: str) -> str | None:
    """Return a line in which an expression is found, or None if none could be thought of.

    Simple expressions only: the first of alternatives, the least of repetitions.
    """
    try:
        line = _Line(expression).made()
        found = compiled(expression).line_in(line)
    except (ExpressionRefused, SearchTooLong, ValueError, IndexError):
        return None
    return line if found is not None else None


class _Line:
    """Reads an expression from left to right, and writes what it asks for."""

    def __init__(self, expression: str) -> None:
        self._text, self._place = expression, 0

    def made(self) -> str:
        return self._alternatives()

    def _alternatives(self) -> str:
        first = self._sequence()
        while self._next() == "|":
            self._place += 1
            self._sequence()
        return first

    def _next(self) -> str:
        return self._text[self._place : self._place + 1]

    def _sequence(self) -> str:
        made = ""
        while self._next() and self._next() not in "|)":
            piece = self._piece()
            quantifier = _QUANTIFIER.match(self._text, self._place)
            if quantifier is not None:
                self._place = quantifier.end()
                least = {"*": 0, "+": 1, "?": 0}.get(quantifier[1])
                piece *= int(quantifier[2]) if least is None else least
            made += piece
        return made

    def _piece(self) -> str:
        char = self._next()
        self._place += 1
        if char == "(":
            return self._group()
        if char == "[":
            return self._set()
        if char == "\\":
            return self._escape()
        return {".": "a", "^": "", "$": ""}.get(char, char)

    def _group(self) -> str:
        head = re.compile(r"\?(?:P?<\w+>|[a-zA-Z-]*([:)]))").match(self._text, self._place)
        if head is not None:
            self._place = head.end()
            if head[1] == ")":
                return ""
        inner = self._alternatives()
        self._place += 1
        return inner

    def _escape(self) -> str:
        char = self._next()
        self._place += 1
        return "" if char in _NO_WIDTH else _CLASSES.get(char, char)

    def _set(self) -> str:
        end = self._text.index("]", self._place + 1)
        inner, self._place = self._text[self._place : end], end + 1
        if inner.startswith("^"):
            return next((char for char in "a0-_ ~" if char not in inner), "")
        if inner.startswith("\\"):
            return _CLASSES.get(inner[1], inner[1])
        return inner[0]
