"""Answers as elements: XML read as a stream, with refusals, and the words of error bodies.

The same view of an answer in JSON is in `json_reading`.

Only the row at hand has a light tree, so a list of 50,000 tasks costs the memory of one.
Refused: document types, entities, processing that reaches outside, more than `MAX_DEPTH`
levels, `MAX_NODES` elements, `MAX_TEXT` characters in one of them, or `MAX_HELD` bytes in all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NoReturn, Protocol, TypeVar
from xml.parsers import expat  # hardened below exactly as defusedxml does, but as a stream

from orchestrator.core.errors import ForeignAnswer, MalformedResponse
from orchestrator.em.decoding import Utf8
from orchestrator.em.json_values import DECODER, root_of

NAMESPACE = "http://www.veeam.com/ent/v1.0"
"""Of the root of every answer that is the service's own. Source: reference 1.4."""
BOM = b"\xef\xbb\xbf"
_PAGES = (b"<!doctype html", b"<html")

MAX_DEPTH = 24
MAX_NODES = 2_000_000
MAX_TEXT = 1024 * 1024
"""Characters in one element, and bytes in one tag: longer ones cost the square of their length."""
MAX_ATTRIBUTES = 64
MAX_HELD = 32 * 1024 * 1024
"""Bytes of memory that one answer may cost, as estimated by `cost_of` and these two."""
FEW = 64 * 1024
"""Bytes of a document that cannot reach any limit but those on levels and attributes."""
NODE_COST = 320
ATTRIBUTE_COST = 120
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Element(Protocol):
    """One thing of an answer, in whichever form it came: what the meanings are read from.

    In XML it is an element, in JSON an object. Attributes and elements have the same names, and
    JSON makes one thing of them.
    """

    @property
    def tag(self) -> str:
        """What it is: `Task`."""

    @property
    def children(self) -> Sequence[Element]:
        """What is in it, in order."""

    @property
    def is_nil(self) -> bool:
        """Whether it has no value, though it is there."""

    @property
    def links(self) -> Sequence[Mapping[str, str]]:
        """Its links: `Rel`, `Href`, `Type` and `Name`, as far as each has them."""

    def attribute(self, name: str) -> str:
        """Return an attribute; empty if it is absent."""

    def child(self, tag: str) -> Element | None:
        """Return the first thing in it that is called `tag`, or None."""

    def value(self, tag: str) -> str | None:
        """Return the stripped text of what is called `tag`; None if absent, nil or empty."""

    def exactly(self, tag: str) -> str:
        """Return the text of what is called `tag` as it is; empty if it is absent."""


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
        """Return the stripped text of the first child called `tag`; None if absent, nil or empty.

        Source: reference 18.2, trap 63: the three are one thing to a .NET serialiser.
        """
        for node in self.children:
            if node.tag == tag:
                return None if node.attributes and node.is_nil else node.text.strip() or None
        return None

    def attribute(self, name: str) -> str:
        """Return an attribute; empty if it is absent."""
        return self.attributes.get(name, "")

    def exactly(self, tag: str) -> str:
        """Return the text of the first child called `tag` as it is; empty if it is absent."""
        found = self.child(tag)
        return found.text if found is not None else ""

    @property
    def is_nil(self) -> bool:
        """Whether the element has no value: `xsi:nil`, with any prefix."""
        return bool(self.attributes) and any(
            name.rpartition(":")[2] == "nil" and value.strip() in {"true", "1"}
            for name, value in self.attributes.items()
        )

    @property
    def links(self) -> list[dict[str, str]]:
        """The attributes of every Link."""
        node = self.child("Links")
        return [link.attributes for link in node.children] if node is not None else []


class Reading(Protocol[T_co]):
    """An answer being read: fed with bytes as they come, closed when all are there."""

    def feed(self, chunk: bytes) -> None:
        """Take some bytes. Raises MalformedResponse."""

    def close(self) -> T_co:
        """Return the parsed value. Raises MalformedResponse."""

    def whole(self, body: bytes) -> T_co:
        """Take the whole body and return its value: `feed` once and `close`, at less cost."""


class XmlReading(Generic[T]):
    """Reads one XML document; each element called `row` is handed over and forgotten."""

    def __init__(
        self,
        finish: Callable[[Node], T],
        row: str | None = None,
        on_row: Callable[[Node], int] | None = None,
        *,
        namespace: str | None = NAMESPACE,
    ) -> None:
        """`finish` makes the value from the root, whose rows are gone by then.

        `on_row` keeps what it needs of a row, and returns how many bytes that costs. The root
        must be of `namespace`, so that no other service's XML is taken for an answer.
        """
        self._finish = finish
        self._namespace = namespace
        self._row = row
        self._on_row = on_row
        self._document = Node("", {})
        self._stack = [self._document]
        self._nodes = 0
        self._held = 0
        self._held_before_row = 0
        self._fed = 0
        self._first = True
        self._utf8 = Utf8()
        parser = expat.ParserCreate("utf-8")  # whatever the declaration says
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
        self._take(self._utf8.feed(chunk))

    def _take(self, chunk: bytes) -> None:
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
        self._take(self._utf8.feed(b"", final=True))
        self._parse(b"", final=True)
        return self._value()

    def whole(self, body: bytes) -> T:
        """Take the whole document and return its value: `feed` once and `close`, in one parse.

        Raises:
            MalformedResponse: as those two.
        """
        text = self._utf8.feed(body, final=True)
        _refuse_html(text)
        if len(text) <= FEW:
            self._count_less()
        self._parse(text, final=True)
        return self._value()

    def _count_less(self) -> None:
        """Count only what few bytes can be too much of: this runs for nearly every answer."""
        stack, row, on_row, namespace = self._stack, self._row, self._on_row, self._namespace

        def start(name: str, attributes: dict[str, str]) -> None:
            if len(stack) > MAX_DEPTH:
                _refuse_number()
            if len(stack) == 1 and namespace is not None:
                _require_namespace(name, attributes)
            if ":" in name:
                name = name.rpartition(":")[2]
            if len(attributes) > MAX_ATTRIBUTES:
                _refuse_attributes()
            node = Node(name, attributes)
            parent = stack[-1]
            parent.text = ""
            parent.children.append(node)
            stack.append(node)

        def end(_name: str) -> None:
            node = stack.pop()
            if node.tag == row and on_row is not None and len(stack) > 1:
                on_row(node)
                stack[-1].children.pop()

        def characters(text: str) -> None:
            stack[-1].text += text

        self._parser.StartElementHandler = start
        self._parser.EndElementHandler = end
        self._parser.CharacterDataHandler = characters

    def _value(self) -> T:
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
            _refuse_number()
        if len(stack) == 1 and self._namespace is not None:
            _require_namespace(name, attributes)
        if ":" in name:
            name = name.rpartition(":")[2]
        if name == self._row:
            self._held_before_row = self._held
        held = self._held + NODE_COST
        if attributes:
            held += ATTRIBUTE_COST * len(attributes)
            for value in attributes.values():
                held += (
                    len(value) if value.isascii() else 4 * len(value)
                )  # cost_of, uncalled: this runs for every element
        self._held = held
        if held > MAX_HELD:
            _refuse_size()
        if len(attributes) > MAX_ATTRIBUTES:
            _refuse_attributes()
        node = Node(name, attributes)
        parent = stack[-1]
        parent.text = ""  # no answer mixes text and elements; joining it would cost its square
        parent.children.append(node)
        stack.append(node)

    def _end(self, _name: str) -> None:
        node = self._stack.pop()
        if self._on_row is not None and node.tag == self._row and len(self._stack) > 1:
            kept = self._on_row(node)
            self._stack[-1].children.pop()
            self._held = self._held_before_row + kept
            if self._held > MAX_HELD:
                _refuse_size()

    def _characters(self, text: str) -> None:
        node = self._stack[-1]
        node.text += text
        self._held += len(text) if text.isascii() else 4 * len(text)
        if self._held > MAX_HELD:
            _refuse_size()
        if len(node.text) > MAX_TEXT:
            raise MalformedResponse("the answer has a longer text than any real one")


def cost_of(text: str) -> int:
    """Return about how many bytes a text takes: one wide character makes all of them wide."""
    return len(text) if text.isascii() else 4 * len(text)


def _refuse_dtd(*_arguments: object) -> NoReturn:
    raise MalformedResponse("the answer declares a document type; no real one does")


def _refuse_number() -> NoReturn:
    raise MalformedResponse("the answer has more elements or levels than any real one")


def _refuse_attributes() -> NoReturn:
    raise MalformedResponse("the answer has more attributes than any real one")


def _refuse_size() -> NoReturn:
    raise MalformedResponse("the answer holds more than any real one")


def _require_namespace(qualified: str, attributes: dict[str, str]) -> None:
    """Refuse a root that is not the service's own."""
    prefix, _, name = qualified.rpartition(":")
    found = attributes.get(f"xmlns:{prefix}" if prefix else "xmlns")
    if found != NAMESPACE:
        raise ForeignAnswer(
            f"the answer is a {name[:80]} of something else, not the REST API; is the port right? "
            "(9398 by default)"
        )


def _refuse_html(chunk: bytes) -> None:
    if is_page(chunk):
        raise ForeignAnswer(
            "the answer is a web page, not the REST API; is the port right? (9398 by default)"
        )
    if chunk.lstrip().startswith(b"{"):
        raise MalformedResponse("the answer is JSON, though XML was asked for")


# --- errors ------------------------------------------------------------------------------


PAGE_HEAD = 64 * 1024
"""Bytes of a web page in which its title must stand."""
_TITLE = re.compile(rb"<title[^<>]{0,200}>([^<]{1,200})</title>", re.IGNORECASE)


def words_of(body: bytes) -> str | None:
    """Return the message of an error body in any form; None if it has none.

    Source: reference section 8: XML, JSON in either case, HTML from in front of the service.
    """
    text = body.removeprefix(BOM).strip()
    if text.startswith(b"{"):
        said = _json_message(text)
    elif text.startswith(b"["):
        said = None
    elif text.startswith(b"<"):
        said = _xml_message(text)
    else:
        said = text.decode("utf-8", errors="replace")
    return said.strip()[:300] or None if said else None


def is_error(body: bytes) -> bool:
    """Return whether an error body is the service's own: its Error in XML, or the same in JSON.

    Others answer in front of it, in HTML, JSON and XML of their own: HTTP.sys, also while it is
    stopped, and proxies.
    """
    text = body.removeprefix(BOM).strip()
    if text.startswith(b"{"):
        return {name.lower() for name in _json_object(text)} >= _JSON_ERROR
    return _root_of(text) == "Error"


def is_answer(body: bytes) -> bool:
    """Return whether a body that nobody reads is none, or the service's own."""
    text = body.removeprefix(BOM).strip()
    root = _root_in_json(text) if text.startswith(b"{") else _root_of(text)
    return not text or root not in {None, "Error"}


def is_page(body: bytes) -> bool:
    """Return whether a body is a web page."""
    return body.removeprefix(BOM).lstrip()[:15].lower().startswith(_PAGES)


_JSON_ERROR = frozenset({"message", "statuscode"})
"""What an error in JSON always has, in whatever case. Source: reference section 8."""


def _root_of(text: bytes) -> str | None:
    """Return the name of the root of a document of the service's own, or None if it is none."""
    try:
        return XmlReading(lambda root: root.tag).whole(text)
    except MalformedResponse:
        return None


def _root_in_json(text: bytes) -> str | None:
    """Return what a root of the service's own would be called in XML, or None if it is none."""
    try:
        return root_of(DECODER.decode(text.decode("utf-8", errors="replace"))).tag
    except (MalformedResponse, ValueError, RecursionError):
        return None


def _json_object(text: bytes) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _json_message(text: bytes) -> str | None:
    for name, value in _json_object(text).items():
        if name.lower() == "message" and isinstance(value, str):
            return value
    return None


def _xml_message(text: bytes) -> str | None:
    reading = XmlReading(lambda root: root.attributes.get("Message"), namespace=None)
    try:
        return reading.whole(text)
    except MalformedResponse:
        title = _TITLE.search(text[:PAGE_HEAD])
        return title.group(1).decode("utf-8", errors="replace") if title else None
