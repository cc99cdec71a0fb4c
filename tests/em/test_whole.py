"""A small answer is read in one go: it gives what reading it in pieces gives, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import MalformedResponse
from orchestrator.em.elements import MAX_ATTRIBUTES, MAX_DEPTH, Node, XmlReading
from tests.em.documents import NAMESPACE, SAMPLES, document

NAMES = ("Row", "Task", "a:Row", "x:y:Row", "Links", "b:Task", "nil")
ATTRIBUTES = (
    'Href="/api/1"',
    'Name="a &amp; b"',
    'a:Href="2"',
    'xsi:nil="true"',
    'nil="1"',
    'xmlns:a="urn:a"',
    'xmlns:nil="true"',
    'Href="twice"',
    f'xmlns="{NAMESPACE}"',
    'xmlns="urn:other"',
)
TEXTS = (
    "",
    " ",
    "text",
    "\r\n",
    "<?pi x?>",
    "<!-- c -->",
    "<![CDATA[<x>]]>",
    "&lt;",
    "&#x41;",
    "&#0;",
    "&what;",
    "<!DOCTYPE x>",
    "\u20ac",
    "]]>",
)
ROOTS = (
    f'xmlns="{NAMESPACE}"',
    f'xmlns="{NAMESPACE}" xmlns:xsi="urn:i" xmlns:a="urn:a"',
    f'xmlns:a="{NAMESPACE}" xmlns:xsi="urn:i"',
    'xmlns="urn:other"',
    "",
)


def shown(node: Node) -> object:
    """Return what a reading may see of a node."""
    inner = [shown(child) for child in node.children]
    return (node.tag, node.attributes, node.is_nil, node.text, inner)


def outcome(read: Callable[[XmlReading[Any]], object], **options: Any) -> object:
    """Return what a reading gives: the rows and the root, or the words of its refusal."""
    rows: list[object] = []

    def keep(node: Node) -> int:
        rows.append(shown(node))
        return 0

    reading: XmlReading[Any] = XmlReading(shown, "Row", keep, **options)
    try:
        return read(reading), rows
    except MalformedResponse as exc:
        return type(exc), str(exc)


def assert_alike(data: bytes, **options: Any) -> None:
    """Assert that both ways give the same."""

    def as_stream(reading: XmlReading[Any]) -> object:
        reading.feed(data)
        return reading.close()

    expected = outcome(as_stream, **options)
    assert outcome(lambda reading: reading.whole(data), **options) == expected


@st.composite
def elements_of(draw: st.DrawFn, depth: int = 0) -> str:
    """Draw an element, which may be none that XML allows."""
    name = draw(st.sampled_from(NAMES))
    attributes = " ".join(draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=2)))
    inner = st.sampled_from(TEXTS)
    if depth < 3:
        inner = st.one_of(inner, elements_of(depth + 1))
    body = "".join(draw(st.lists(inner, max_size=4)))
    return f"<{name} {attributes}>{body}</{name}>"


@given(st.lists(st.one_of(elements_of(), st.sampled_from(TEXTS)), max_size=3), st.data())
def test_any_document_is_read_alike(parts: list[str], data: st.DataObject) -> None:
    """Prefixes, nil values, declarations, and what XML forbids change nothing."""
    name = data.draw(st.sampled_from(["Root", "a:Root", "Row"]))
    head = data.draw(st.sampled_from(ROOTS))
    document = f"<{name} {head}>{''.join(parts)}</{name}>".encode()

    assert_alike(document)
    assert_alike(document, namespace=None)


@given(st.data(), st.sampled_from(sorted(SAMPLES.glob("*.xml"))))
def test_any_damage_is_read_alike(data: st.DataObject, path: Any) -> None:
    """A byte more, less or another one gives the same value or the same refusal."""
    body = path.read_bytes()
    at = data.draw(st.integers(0, len(body)))
    inserted = data.draw(st.sampled_from([b"", b"<", b"&", b'"', b"\x00", b"\xff", b"nil", b":"]))

    assert_alike(body[:at] + inserted + body[at + data.draw(st.integers(0, 2)) :])


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 5000])
def test_levels_are_limited_alike(depth: int) -> None:
    """A document of too many levels is refused, however small it is."""
    assert_alike(document("<a>" * depth + "</a>" * depth))


@pytest.mark.parametrize("kind", ["a{}='1'", "xmlns:a{}='urn:{}'"])
@pytest.mark.parametrize("count", [MAX_ATTRIBUTES // 2, MAX_ATTRIBUTES - 1, MAX_ATTRIBUTES + 1])
def test_attributes_are_limited_alike(count: int, kind: str) -> None:
    """An element of too many attributes is refused; a declared prefix is one."""
    attributes = " ".join(kind.format(number, number) for number in range(count))

    assert_alike(document(f"<Row {attributes} />"))
