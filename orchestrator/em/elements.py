"""Answers as elements: XML read as a stream, with refusals, and the words of error bodies.

Only the row at hand has a light tree, so a list of 50,000 tasks costs the memory of one.
Refused: document types, entities, processing that reaches outside, more than `MAX_DEPTH`
levels, `MAX_NODES` elements, `MAX_TEXT` characters in one of them, or `MAX_HELD` bytes in all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Generic, NoReturn, Protocol, TypeVar
from xml.parsers import expat  # hardened below exactly as defusedxml does, but as a stream

from orchestrator.errors import MalformedResponse

MAX_DEPTH = 24
MAX_NODES = 2_000_000
MAX_TEXT = 1024 * 1024
"""Characters in one element, and bytes in one tag: longer ones cost the square of their length."""
MAX_ATTRIBUTES = 64
MAX_HELD = 32 * 1024 * 1024
"""Bytes of memory that one answer may cost, as estimated by `cost_of` and these two."""
NODE_COST = 320
ATTRIBUTE_COST = 120
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Node:
    """One element: local name, attributes, children, text."""

    __slots__ = ("attributes", "children", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        """Made by the reader."""
        self.tag = tag
        self.attributes = attributes
        self.children: list[Node] = []
        self.text = ""

    def child(self, tag: str) -> Node | None:
        """Return the first child called `tag`, or None."""
        for node in self.children:
            if node.tag == tag:
                return node
        return None

    def value(self, tag: str) -> str | None:
        """Return the stripped text of the first child called `tag`; None if absent or empty."""
        node = self.child(tag)
        return (node.text.strip() or None) if node is not None else None

    @property
    def links(self) -> list[dict[str, str]]:
        """The attributes of every Link."""
        node = self.child("Links")
        return [link.attributes for link in node.children] if node is not None else []


class Reading(Protocol[T_co]):
    """An answer being read: fed with bytes as they come, closed when all are there."""

    def feed(self, chunk: bytes) -> None:
        """Take some bytes. Raises MalformedResponse."""
        ...

    def close(self) -> T_co:
        """Return what was read. Raises MalformedResponse."""
        ...


class XmlReading(Generic[T]):
    """Reads one XML document; each element called `row` is handed over and forgotten."""

    def __init__(
        self,
        finish: Callable[[Node], T],
        row: str | None = None,
        on_row: Callable[[Node], int] | None = None,
    ) -> None:
        """`finish` makes the value from the root, whose rows are gone by then.

        `on_row` keeps what it needs of a row, and returns how many bytes that costs.
        """
        self._finish = finish
        self._row = row
        self._on_row = on_row
        self._document = Node("", {})
        self._stack = [self._document]
        self._nodes = 0
        self._held = 0
        self._held_before_row = 0
        self._fed = 0
        self._first = True
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _refuse_dtd
        parser.EntityDeclHandler = _refuse_dtd
        parser.UnparsedEntityDeclHandler = _refuse_dtd
        parser.ExternalEntityRefHandler = _refuse_dtd
        self._parser = parser

    def feed(self, chunk: bytes) -> None:
        """Take some bytes.

        Raises:
            MalformedResponse: no XML, or more of it than any answer has.
        """
        if self._first and chunk.strip():
            self._first = False
            _refuse_html(chunk)
        self._parse(chunk, final=False)
        self._fed += len(chunk)
        if self._fed - self._parser.CurrentByteIndex > MAX_TEXT + len(chunk):
            raise MalformedResponse("the answer has a longer tag than any real one")

    def close(self) -> T:
        """Return the value of the whole document.

        Raises:
            MalformedResponse: the document is incomplete or not what was asked for.
        """
        self._parse(b"", final=True)
        self._parser.StartElementHandler = None  # or parser and reader would keep each other
        self._parser.EndElementHandler = None
        self._parser.CharacterDataHandler = None
        if not self._document.children:
            raise MalformedResponse("the answer is empty")
        return self._finish(self._document.children[0])

    def _parse(self, chunk: bytes, *, final: bool) -> None:
        try:
            self._parser.Parse(chunk, final)
        except (expat.ExpatError, ValueError, LookupError) as exc:
            raise MalformedResponse(f"the answer is not XML: {exc}") from exc

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        stack = self._stack
        self._nodes += 1
        if self._nodes > MAX_NODES or len(stack) > MAX_DEPTH:
            raise MalformedResponse("the answer has more elements or levels than any real one")
        if ":" in name:
            name = name.rpartition(":")[2]
        if name == self._row:
            self._held_before_row = self._held
        values = sum(map(cost_of, attributes.values()))
        self._hold(NODE_COST + ATTRIBUTE_COST * len(attributes) + values)
        if len(attributes) > MAX_ATTRIBUTES:
            raise MalformedResponse("the answer has more attributes than any real one")
        node = Node(name, attributes)
        parent = stack[-1]
        parent.text = ""  # no answer mixes text and elements; joining it would cost its square
        parent.children.append(node)
        stack.append(node)

    def _end(self, _name: str) -> None:
        node = self._stack.pop()
        if node.tag == self._row and self._on_row is not None and len(self._stack) > 1:
            kept = self._on_row(node)
            self._stack[-1].children.pop()
            self._held = self._held_before_row
            self._hold(kept)

    def _characters(self, text: str) -> None:
        node = self._stack[-1]
        node.text += text
        self._hold(cost_of(text))
        if len(node.text) > MAX_TEXT:
            raise MalformedResponse("the answer has a longer text than any real one")

    def _hold(self, cost: int) -> None:
        self._held += cost
        if self._held > MAX_HELD:
            raise MalformedResponse("the answer holds more than any real one")


def cost_of(text: str) -> int:
    """Return about how many bytes a text takes: one wide character makes all of them wide."""
    return len(text) if text.isascii() else 4 * len(text)


def _refuse_dtd(*_arguments: object) -> NoReturn:
    raise MalformedResponse("the answer declares a document type; no real one does")


def _refuse_html(chunk: bytes) -> None:
    start = chunk.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise MalformedResponse(
            "the answer is a web page, not the REST API; is the port right? (9398 by default)"
        )


# --- errors ------------------------------------------------------------------------------


PAGE_HEAD = 64 * 1024
"""Bytes of a web page in which its title must stand."""
_TITLE = re.compile(rb"<title[^<>]{0,200}>([^<]{1,200})</title>", re.IGNORECASE)


def words_of(body: bytes, secrets: Iterable[str] = ()) -> str | None:
    """Return what an error body says, whatever form it has; None if it says nothing.

    What it repeats of our `secrets` is left out.
    Source: reference section 8: XML, JSON in either case, HTML from in front of the service.
    """
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if text.startswith((b"{", b"[")):
        said = _json_message(text)
    elif text.startswith(b"<"):
        said = _xml_message(text)
    else:
        said = text.decode("utf-8", errors="replace")
    for secret in secrets:
        said = said.replace(secret, "***") if said else said
    return said.strip()[:300] or None if said else None


def is_error(body: bytes) -> bool:
    """Tell whether an error body is the service's own: an Error in XML, or JSON.

    Others answer in front of it: HTTP.sys with HTML, also while it is stopped, and proxies.
    """
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if text.startswith((b"{", b"[")):
        return True
    reading = XmlReading(lambda root: root.tag == "Error")
    try:
        reading.feed(text)
        return reading.close()
    except MalformedResponse:
        return False


def _json_message(text: bytes) -> str | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        for name, value in found.items():
            if str(name).lower() == "message" and isinstance(value, str):
                return value
    return None


def _xml_message(text: bytes) -> str | None:
    reading = XmlReading(lambda root: root.attributes.get("Message"))
    try:
        reading.feed(text)
        return reading.close()
    except MalformedResponse:
        title = _TITLE.search(text[:PAGE_HEAD])
        return title.group(1).decode("utf-8", errors="replace") if title else None
