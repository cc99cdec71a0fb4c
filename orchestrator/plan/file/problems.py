"""What is wrong with a plan, where, and what to do: `file:line:column: message`, line, caret.

A line that is shown is masked first: whatever is in the place of a secret, or looks like
one, never reaches a terminal or a CI log.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

from orchestrator.plan.file.quantities import shown

MASK = "***"
_WIDTH = 150
"""Columns of a source line that are shown; a longer line is cut around the caret."""

_line_break = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # YAML 1.1's own line breaks
_reference = (
    r"(?:env:\s*[A-Za-z_]\w*|credential:\s*[\w.@-]+|file:\s*[./][^\s{}]*|"
    r"keyring:\s*[^\s/{}]+/[^\s{}]+)"
)
"""A well-formed reference that is shown; a command's arguments may be private."""
_KEY = r"(?i:pass|pwd|secret|token|credential|api_?key)[\w.-]{0,40}[\"']?\s{0,20}:"
_secret_value = re.compile(rf"(?P<key>{_KEY}\s*)(?!\{{\s*{_reference}\s*\}}|\#|$)\S.*")
_secret_above = re.compile(_KEY)
_secret_unfinished = re.compile(rf"{_KEY}\s*(?:[|>{{\[\"'][^\"'}}\]]*)?$")
_hook_above = re.compile(r"(?i:webhook)[\"']?\s{0,20}:")
_hook_url = re.compile(
    rf"(?P<key>(?i:\burl)[\"']?\s{{0,20}}:\s*)(?!\{{\s*{_reference}\s*\}}|\#|$)\S.*|https?://\S+"
)
"""A webhook's address, which is a secret as a whole."""
_url_account = re.compile(r"(://)[^/\s]+@")
_reference_line = re.compile(rf"\s*{_reference}\s*(?:\#.*)?$")
_key_line = re.compile(r"\s*[\w.-]+:(?:\s|$)")


class Position(NamedTuple):
    """Line and column in a file, both from 1, columns in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        """Return `line:column`."""
        return f"{self.line}:{self.column}"


START = Position(1, 1)
"""The position of a problem that concerns a file as a whole."""


class SourceText:
    """The text of a plan or inventory file, kept to show lines of it."""

    def __init__(self, name: str, data: bytes) -> None:
        """Keep `data` as read; `name` is what messages call the file."""
        self.name = name
        self._data = data
        self._masked_lines: dict[int, str] = {}

    @cached_property
    def _lines(self) -> list[str]:
        return _line_break.split(self._data.decode("utf-8-sig", errors="replace"))

    @property
    def last_line(self) -> int:
        """The number of the last line with text on it, at least 1."""
        lines = self._lines
        return next((i for i in range(len(lines), 0, -1) if lines[i - 1].strip()), 1)

    def line(self, number: int) -> str:
        """Return line `number` without its break, or nothing where there is none."""
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def excerpt(self, position: Position, *, secret_from: int | None = None) -> str:
        """Return the line at `position`, masked and cut to size, with a caret below.

        `secret_from` is the column from which the line is known to hold a secret.
        """
        text = self._masked_lines.get(position.line)
        if text is None:  # a plan in one line may have thousands of problems in it
            text = self._masked_lines[position.line] = self._masked(position.line)
        if secret_from is not None:
            text = text[: secret_from - 1] + MASK
        column = min(position.column, len(text) + 1)
        start = max(0, min(column - _WIDTH // 2, len(text) - _WIDTH))
        cut = text[start : start + _WIDTH]
        printable = "".join(c if c.isprintable() else " " for c in cut)
        pad = " " * sum(_columns(c) for c in printable[: column - 1 - start])
        return f"    {printable}\n    {pad}^"

    def _masked(self, number: int) -> str:
        text = self.line(number)
        if self._continues_a_secret(number):
            return text[: len(text) - len(text.lstrip())] + MASK
        text = _secret_value.sub(lambda match: match["key"] + MASK, text)
        if self._is_of_a_webhook(number):
            text = _hook_url.sub(lambda match: (match["key"] or "") + MASK, text)
        return _url_account.sub(rf"\1{MASK}@", text)

    def _is_of_a_webhook(self, number: int) -> bool:
        """Return whether line `number` names a webhook, or is below one that does."""
        indent = _indent(self.line(number))
        if _hook_above.search(self.line(number)):
            return True
        for above in range(number - 1, max(0, number - 50), -1):
            line = self.line(above)
            if line.strip() and _indent(line) < indent:
                if _hook_above.search(line):
                    return True
                indent = _indent(line)
        return False

    def _continues_a_secret(self, number: int) -> bool:
        """Return whether line `number` belongs to the value of a secret's key above it."""
        text = self.line(number)
        if _reference_line.match(text):
            return False
        indent = _indent(text)
        for above in range(number - 1, max(0, number - 200), -1):
            line = self.line(above)
            if not line.strip():
                continue
            if _indent(line) < indent:
                indent = _indent(line)
                if _secret_above.search(line):
                    return True
            elif (
                above == number - 1
                and not _key_line.match(text)
                and _secret_unfinished.search(line[-_WIDTH:])
            ):
                return True  # badly indented, as in a plan with a syntax error
        return False


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _columns(character: str) -> int:
    """Return how many terminal columns a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


_name_or_number = re.compile(r"'[^']*'|\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One reason why a plan cannot be used.

    The line is looked up in `source` when it is shown: a plan may have 50,000 problems, and 20 of
    a kind are shown. From the column `secret_from` on, the line holds a secret.
    """

    file: str
    position: Position
    message: str
    source: SourceText | None = field(default=None, repr=False, compare=False)
    secret_from: int | None = field(default=None, repr=False, compare=False)

    @property
    def kind(self) -> tuple[str, str]:
        """The file, and the message without names and numbers."""
        return self.file, _name_or_number.sub("", self.message)

    @property
    def head(self) -> str:
        """`file:line:column: message`."""
        return f"{self.file}:{self.position}: {self.message}"

    @property
    def excerpt(self) -> str:
        """The line, masked, and a caret; empty where the problem is about the whole file."""
        if self.source is None:
            return ""
        return self.source.excerpt(self.position, secret_from=self.secret_from)

    def __str__(self) -> str:
        """Return `file:line:column: message`, the line and a caret."""
        excerpt = self.excerpt
        return f"{self.head}\n{excerpt}" if excerpt else self.head


class Problems:
    """Collects the problems of one file, in the order they are found."""

    def __init__(self, source: SourceText) -> None:
        """Start without any problem in `source`."""
        self.source = source
        self._errors: list[Problem] = []
        self._doubts: list[Problem] = []
        self._included: list[Problems] = []
        self._places: set[Position] = set()

    def add(self, position: Position, message: str, *, secret_from: int | None = None) -> None:
        """Note that `message` is wrong at `position`."""
        self._errors.append(self._at(position, message, secret_from))

    def add_new(self, position: Position, message: str) -> None:
        """Note it, unless something is known to be wrong there already."""
        if not self.known_at(position):
            self.add(position, message)

    def doubt(self, position: Position, message: str) -> None:
        """Note a warning at `position`: probably a mistake, but no reason to refuse the plan."""
        self._doubts.append(self._at(position, message, None))

    def _at(self, position: Position, message: str, secret_from: int | None) -> Problem:
        self._places.add(position)
        return Problem(
            file=self.source.name,
            position=position,
            message=message,
            source=self.source,
            secret_from=secret_from,
        )

    def include(self, other: Problems) -> None:
        """Take over the problems of another file that this one names, later ones too."""
        self._included.append(other)

    def known_at(self, position: Position) -> bool:
        """Return whether something is already known to be wrong at `position`."""
        return position in self._places

    def __bool__(self) -> bool:
        """Return whether anything is wrong."""
        return bool(self._errors) or any(self._included)

    def __len__(self) -> int:
        """Return how many problems of this file are known."""
        return len(self._errors)

    def since(self, number: int) -> list[Problem]:
        """Return the problems of this file after the first `number`."""
        return self._errors[number:]

    def sorted(self) -> tuple[Problem, ...]:
        """Return every problem, those of one file together and in the order of its lines."""
        return self._in_order([*self._errors, *(p for x in self._included for p in x.sorted())])

    def doubts(self) -> tuple[Problem, ...]:
        """Return the warnings, in the same order."""
        return self._in_order([*self._doubts, *(p for x in self._included for p in x.doubts())])

    def _in_order(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        own = self.source.name
        return tuple(sorted(problems, key=lambda p: (p.file != own, p.file, p.position)))


@lru_cache(maxsize=1024)
def closest(word: str, known: tuple[str, ...]) -> str | None:
    """Return the known word that `word` is most like, or None if it is like none."""
    folded = {name.casefold(): name for name in reversed(known)}
    nearest = difflib.get_close_matches(word.casefold()[:80], list(folded), n=1, cutoff=0.6)
    return folded[nearest[0]] if nearest else None


def did_you_mean(word: str, known: Iterable[str], *, noun: str) -> str:
    """Return what to write instead of `word`: the nearest of the `known`, or all of them.

    `noun` is their plural: `keys here`, `servers`.
    """
    names = tuple(known)
    nearest = closest(word, names)
    if nearest is not None:
        return f"did you mean {shown(nearest)}?"
    if not names:
        return f"there are no {noun}"
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"{noun}: {listed}"
