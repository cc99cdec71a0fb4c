"""Answers as elements: XML read as a stream, with refusals.

The same view of an answer in JSON is in `json_reading`.

Only the row at hand has a light tree, so a list of 50,000 tasks costs the memory of one.
Refused: document types, entities, processing that reaches outside, more than `MAX_DEPTH`
levels, `MAX_NODES` elements, `MAX_TEXT` characters in one of them, or `MAX_HELD` bytes in all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NoReturn, Protocol, TypeVar
from xml.parsers import expat  # hardened below exactly as defusedxml does, but as a stream

from msgspec import Struct

from orchestrator.core.errors import ForeignAnswer, MalformedResponse
from orchestrator.em.decoding import Utf8, as_utf8

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


class Node(Struct):
    """One element: local name, attributes, children, text."""

    tag: str
    attributes: dict[str, str]
    children: list[Node] = []
    text: str = ""

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
        self._what = (row, on_row, namespace)
        self._stream: _Stream | None = None

    def feed(self, chunk: bytes) -> None:
        """Take some bytes.

        Raises:
            MalformedResponse: no XML, or more of it than any answer has.
        """
        if self._stream is None:
            self._stream = _Stream(*self._what)
        self._stream.feed(chunk)

    def close(self) -> T:
        """Return the value of the whole document.

        Raises:
            MalformedResponse: the document is incomplete or not what was asked for.
        """
        return self._finish((self._stream or _Stream(*self._what)).close())

    def whole(self, body: bytes) -> T:
        """Take the whole document and return its value: `feed` once and `close`, at less cost.

        Raises:
            MalformedResponse: as those two.
        """
        if len(body) > FEW:
            self.feed(body)
            return self.close()
        return self._finish(_root_of_few(as_utf8(body), *self._what))


def _root_of_few(
    text: bytes,
    row: str | None,
    on_row: Callable[[Node], int] | None,
    namespace: str | None,
) -> Node:
    """Return the root of a document that is all there, and small, as nearly every answer is.

    Only that is counted of which few bytes can be too much.
    """
    _refuse_html(text)
    document = Node("", {})
    stack = [document]

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

    parser = _parser(start, end, characters)
    _parse(parser, text, final=True)
    return _only(document)


class _Stream:
    """A document as it comes, with every limit."""

    def __init__(
        self, row: str | None, on_row: Callable[[Node], int] | None, namespace: str | None
    ) -> None:
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
        self._parser = _parser(self._start, self._end, self._characters)

    def feed(self, chunk: bytes) -> None:
        self._take(self._utf8.feed(chunk))

    def close(self) -> Node:
        """Return the root, without its rows."""
        self._take(self._utf8.feed(b"", final=True))
        _parse(self._parser, b"", final=True)
        self._parser.StartElementHandler = None  # or parser and reader would keep each other
        self._parser.EndElementHandler = None
        self._parser.CharacterDataHandler = None
        return _only(self._document)

    def _take(self, chunk: bytes) -> None:
        if self._first and chunk.strip():
            self._first = False
            _refuse_html(chunk)
        _parse(self._parser, chunk, final=False)
        self._fed += len(chunk)
        if self._fed - self._parser.CurrentByteIndex > MAX_TEXT + len(chunk):
            raise MalformedResponse("the answer has a longer tag than any real one")

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


def _parser(
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None],
    characters: Callable[[str], None],
) -> expat.XMLParserType:
    """Return a parser that reaches nothing outside, and refuses what could declare anything."""
    parser = expat.ParserCreate("utf-8")  # whatever the declaration says
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = _refuse_dtd
    parser.EntityDeclHandler = _refuse_dtd
    parser.UnparsedEntityDeclHandler = _refuse_dtd
    parser.ExternalEntityRefHandler = _refuse_dtd
    return parser


def _parse(parser: expat.XMLParserType, chunk: bytes, *, final: bool) -> None:
    try:
        parser.Parse(chunk, final)
    except (expat.ExpatError, ValueError, LookupError) as exc:
        raise MalformedResponse(f"the answer is not XML: {exc}") from exc


def _only(document: Node) -> Node:
    if not document.children:
        raise MalformedResponse("the answer is empty")
    return document.children[0]


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


def is_page(body: bytes) -> bool:
    """Return whether a body is a web page."""
    return body.removeprefix(BOM).lstrip()[:15].lower().startswith(_PAGES)
