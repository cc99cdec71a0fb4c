"""Answers in JSON: a whole one, or a list row by row, with the same refusals as in XML.

A list costs the memory of one row. Refused is what `elements` refuses of XML: too many levels,
texts that are too long, and what would take more memory than any real answer.
Source: reference 17.4.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Callable, Generator
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

from orchestrator.core.errors import ForeignAnswer, MalformedResponse
from orchestrator.em.elements import FEW, MAX_DEPTH, MAX_HELD, MAX_TEXT, NAMESPACE, Element, is_page
from orchestrator.em.json_values import (
    DECODER,
    KNOWN,
    MAX_MEMBERS,
    NAMES,
    JsonNode,
    has_something,
    items,
    refuse_members,
    root_of,
)
from orchestrator.em.masking import MASK

T = TypeVar("T")
_Steps = Generator[None, None, T]
"""A part of a walk through an answer: it stops where more of the answer must come."""

MAX_WHOLE: Final = MAX_HELD // 4
"""Bytes of an answer that is not read row by row."""
MAX_HELD_OF_ROW: Final = MAX_HELD // 4
"""Bytes of memory that one row may take, by an estimate."""
ROW_PASSED: Final = 64
"""Counted as held for every row, so that rows of which nothing is kept end as well."""
HEAD: Final = 1024
"""Characters of a document in another form that are looked at."""
OBJECT_COST, LIST_COST, VALUE_COST = 240, 72, 64
"""Bytes of memory that each takes at most, beside its characters."""

_ABOVE_ROWS: Final = frozenset({"Entities", "Resources"})
"""What holds lists two levels down. Source: trap 65."""
_KEPT: Final = frozenset(KNOWN.values())
"""What is kept of an object above the rows."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_MASK: Final = MASK.decode()
_MASKED_NUMBER: Final = re.compile(r"([:,\[]\s*)-?[0-9.eE+-]*\*\*\*[0-9.eE+*-]*(?=\s*[,\]}])")


# --- refusals --------------------------------------------------------------------------------


def _refuse_others(text: str) -> None:
    """Refuse what does not begin as an answer in JSON does."""
    if text.startswith("{"):
        return
    if not text:
        raise MalformedResponse("the answer is empty")
    if not text.startswith("<"):
        raise MalformedResponse("the answer is not JSON")
    if is_page(text[:64].encode("utf-8", errors="replace")):
        raise ForeignAnswer(
            "the answer is a web page, not the REST API; is the port right? (9398 by default)"
        )
    if NAMESPACE in text[:HEAD]:
        raise MalformedResponse("the answer is XML, though JSON was asked for")
    raise ForeignAnswer(
        "the answer is XML of something else, not the REST API; is the port right? "
        "(9398 by default)"
    )


def _refuse_costly(text: str, at: int = 0, most: int = MAX_HELD) -> None:
    """Refuse what could take more memory than any real answer, before it is taken."""
    cost = (
        sys.getsizeof(text)
        + OBJECT_COST * text.count("{", at)
        + LIST_COST * text.count("[", at)
        + VALUE_COST * text.count(",", at)
    )
    if cost > most:
        _refuse_size()


def _refuse_deep(value: Any, levels: int = MAX_DEPTH) -> None:
    """Refuse more levels than an answer in XML may have."""
    level = [value]
    for _ in range(levels):
        level = [
            inner
            for each in level
            for inner in (each.values() if each.__class__ is dict else each)
            if inner.__class__ is dict or inner.__class__ is list
        ]
        if not level:
            return
    _refuse_levels()


def _refuse_levels() -> NoReturn:
    raise MalformedResponse("the answer has more elements or levels than any real one")


def _refuse_size() -> NoReturn:
    raise MalformedResponse("the answer holds more than any real one")


def _refuse_text() -> NoReturn:
    raise MalformedResponse("the answer is not JSON")


def _end_of_space(text: str, at: int) -> int:
    """Return where white space that begins at `at` ends."""
    found = _SPACE.match(text, at)
    return found.end() if found is not None else at


def _unmasked_numbers(text: str) -> str:
    """Return JSON in which a number that was masked is null: a mask is no number."""
    return _MASKED_NUMBER.sub(r"\1null", text) if _MASK in text else text


# --- readers ---------------------------------------------------------------------------------


class JsonReading(Generic[T]):
    """Reads one answer as a whole; implements `Reading`."""

    def __init__(self, finish: Callable[[Element], T]) -> None:
        """`finish` makes the value from the root."""
        self._finish = finish
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Take some bytes.

        Raises:
            MalformedResponse: they are more than any answer has.
        """
        self._size += len(chunk)
        if self._size > MAX_WHOLE:
            _refuse_size()
        self._parts.append(chunk)

    def close(self) -> T:
        """Return the value of all that came. Raises MalformedResponse, as `whole`."""
        return self.whole(b"".join(self._parts))

    def whole(self, body: bytes) -> T:
        """Take the whole answer and return its value.

        Raises:
            MalformedResponse: it is no JSON, or not what was asked for.
        """
        return self._finish(root_of(_members(body)))


def _members(body: bytes) -> dict[str, Any]:
    """Return the object that a whole answer is."""
    text = body.decode("utf-8", errors="replace").removeprefix("\ufeff").strip(" \t\r\n")
    _refuse_others(text)
    if len(text) > FEW:
        _refuse_costly(text)
    text = _unmasked_numbers(text)
    try:
        members, end = DECODER.raw_decode(text)
    except RecursionError:
        _refuse_levels()
    except ValueError as exc:
        raise MalformedResponse(f"the answer is not JSON: {exc}") from None
    if end != len(text):
        raise MalformedResponse("the answer is not JSON: it goes on after its end")
    _refuse_deep(members)
    return cast("dict[str, Any]", members)


class JsonRowReading(Generic[T]):
    """Reads a list as it comes; each row is handed over and forgotten. Implements `Reading`."""

    def __init__(
        self, tag: str, finish: Callable[[Element], T], on_row: Callable[[Element], int]
    ) -> None:
        """`tag` is what the rows are called in XML; the others as `XmlReading`.

        Rows are those of the list of that name at the top, or below `Entities` or `Resources`.
        """
        self._tag = tag
        self._list = f"{tag}s"
        self._finish = finish
        self._on_row = on_row
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._text = ""
        self._at = 0
        self._more: list[str] = []
        self._pending = 0
        self._wanted = 1
        """Characters that must have come before another look is worth it."""
        self._is_whole = False
        self._held = 0
        self._level = 0
        """How many objects and lists the walk is in."""
        self._members: dict[str, Any] = {}
        self._walk = self._document()
        """The walk, as far as it has come."""

    def feed(self, chunk: bytes) -> None:
        """Take some bytes.

        Raises:
            MalformedResponse: no JSON, or more of it than any answer has.
        """
        for start in range(0, len(chunk), FEW):  # what is counted of a row is little more than it
            self._take(self._decode(chunk[start : start + FEW]))
            if self._pending >= self._wanted:
                self._look()

    def close(self) -> T:
        """Return the value of the whole answer.

        Raises:
            MalformedResponse: it is incomplete or not what was asked for.
        """
        self._take(self._decode(b"", final=True))
        self._is_whole = True
        self._look()
        return self._finish(root_of(self._members))

    def whole(self, body: bytes) -> T:
        """Take the whole answer and return its value. Raises MalformedResponse, as those two.

        Nearly every answer is small: it is read at once, which costs a third of the walk.
        """
        if len(body) > FEW:
            self.feed(body)
            return self.close()
        members = _members(body)
        for name, value in members.items():
            if name == self._list:
                self._keep_all(value, is_ours=True)
            elif name in _ABOVE_ROWS and value.__class__ is dict:
                self._find_rows(value)
        return self._finish(root_of(members))

    def _find_rows(self, members: dict[str, Any]) -> None:
        """Hand over the rows below `Entities` or `Resources`, as the walk does."""
        for above, value in members.items():
            if value.__class__ is list and above != "Links":
                self._keep_all(value, is_ours=above == self._list)
            if value.__class__ is not dict:
                continue
            has_rows = False
            for name, inner in value.items():
                is_list = inner.__class__ is list and name != "Links"
                if is_list or (inner.__class__ is dict and name in {self._list, above}):
                    has_rows = True
                    self._keep_all(inner, is_ours=name == self._list)
            if not has_rows and has_something(value):
                self._keep(value, is_ours=above == self._list)

    def _keep_all(self, value: Any, *, is_ours: bool) -> None:
        for row in items(self._list, value):
            self._keep(row.members, is_ours=is_ours)

    def _take(self, text: str) -> None:
        self._more.append(text)
        self._pending += len(text)

    def _look(self) -> None:
        """Go on with what has come."""
        text = self._text[self._at :] + "".join(self._more)
        self._more.clear()
        self._text, self._at = _unmasked_numbers(text), 0
        next(self._walk, None)
        self._pending = len(self._text) - self._at

    # What follows is one walk through the answer. It yields where more of it must come.

    def _document(self) -> _Steps[None]:
        yield from self._wait("the answer is empty")
        while self._text.startswith("<", self._at) and not self._is_whole:
            if len(self._text) - self._at >= HEAD:
                break
            self._wanted = HEAD  # what it is instead is told by its root
            yield
        _refuse_others(self._text[self._at :])
        self._members = yield from self._object(0)
        while not self._is_whole or self._text[self._at :].strip():
            if self._text[self._at :].strip():
                raise MalformedResponse("the answer is not JSON: it goes on after its end")
            self._at = len(self._text)
            self._wanted = 1
            yield

    def _object(self, level: int, within: str = "") -> _Steps[dict[str, Any]]:
        """Read an object above the rows, so many levels down; return what is kept of the rest."""
        found: dict[str, Any] = {}
        has_rows = has_values = False
        self._at += 1
        self._level += 1
        char = yield from self._wait()
        while char != "}":
            if char != '"':
                _refuse_text()
            name = NAMES[(yield from self._value())]
            if (yield from self._wait()) != ":":
                _refuse_text()
            self._at += 1
            char = yield from self._wait()
            if name in found or len(found) == MAX_MEMBERS:
                refuse_members(len(found) + 1)
            if char == "[" and self._has_rows(level, name):
                has_rows, found[name] = True, ()
                yield from self._rows(name)
            elif char == "{" and (level == 1 or (level == 0 and name in _ABOVE_ROWS)):
                has_rows, found[name] = True, {}
                yield from self._object(level + 1, name)
            else:
                value = yield from self._value()
                found[name] = self._counted(value, name)
                has_values = has_values or value is not None
                if value.__class__ is dict and (name == self._list or name == within):
                    has_rows = True
                    self._keep_all(value, is_ours=name == self._list)
            char = yield from self._next("}")
        self._at += 1
        self._level -= 1
        if level == 2 and not has_rows and has_values:
            self._keep(found, is_ours=within == self._list)
        return found

    def _has_rows(self, level: int, name: str) -> bool:
        """Return whether a list holds rows: by its name at the top, further down any but one."""
        return name == self._list if level == 0 else name != "Links"

    def _rows(self, name: str) -> _Steps[None]:
        """Hand over the rows of a list; those of another kind are only passed over."""
        is_ours = name == self._list
        self._at += 1
        self._level += 1
        char = yield from self._wait()
        while char != "]":
            value = yield from self._value()
            self._held += ROW_PASSED
            if value is not None:
                self._keep(value if value.__class__ is dict else {}, is_ours=is_ours)
            elif self._held > MAX_HELD:
                _refuse_size()
            char = yield from self._next("]")
        self._at += 1
        self._level -= 1

    def _value(self) -> _Steps[Any]:
        """Read one value whose first character has come."""
        while True:
            at, value = self._at, None
            try:
                value, end = DECODER.raw_decode(self._text, at)
            except RecursionError:
                _refuse_levels()
            except ValueError as exc:
                if self._is_whole:
                    raise MalformedResponse(f"the answer is not JSON: {exc}") from None
                end = len(self._text)
            if end < len(self._text) or self._is_whole:
                if value.__class__ is dict or value.__class__ is list:
                    _refuse_deep(value, MAX_DEPTH - self._level)
                self._at = end
                return value
            if end - at > MAX_TEXT:
                raise MalformedResponse("the answer has a longer text than any real one")
            self._wanted = 2 * (end - at)
            yield
            if len(self._text) - self._at > FEW:
                _refuse_costly(self._text, self._at, MAX_HELD_OF_ROW)

    def _wait(self, missing: str = "the answer is not JSON: it ends too early") -> _Steps[str]:
        """Return the next character that is no white space."""
        while True:
            self._at = _end_of_space(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if self._is_whole:
                raise MalformedResponse(missing)
            self._wanted = 1
            yield

    def _next(self, closing: str) -> _Steps[str]:
        """Go on to the next of a list or object; return its first character, or `closing`."""
        char = yield from self._wait()
        if char == ",":
            self._at += 1
            char = yield from self._wait()
            if char != closing:
                return char
        elif char == closing:
            return char
        _refuse_text()

    def _keep(self, row: dict[str, Any], *, is_ours: bool) -> None:
        """Hand over a row that its list or its own `Type` calls by the name that is asked for.

        Lists are not always called by the rule, and a restore session has all that a restore
        point has. Source: trap 65.
        """
        if is_ours or row.get("Type") == self._tag:
            self._held += self._on_row(JsonNode(self._tag, row))
        if self._held > MAX_HELD:
            _refuse_size()

    def _counted(self, value: Any, name: str) -> Any:
        """Return what is kept of a value beside the rows, and count what it takes."""
        if name not in _KEPT:
            return None
        self._held += _cost_of(value)
        if self._held > MAX_HELD:
            _refuse_size()
        return value


def _cost_of(value: Any) -> int:
    """Return about how many bytes a value takes."""
    if value.__class__ is dict:
        inner = [*value, *value.values()]
        return OBJECT_COST + sum(map(_cost_of, inner))
    if value.__class__ is list:
        return LIST_COST + sum(map(_cost_of, value))
    return sys.getsizeof(value)
