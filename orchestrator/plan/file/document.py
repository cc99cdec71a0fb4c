"""YAML bytes to a tree of texts, lists and mappings with their positions.

A strict subset of YAML: every scalar is text until the schema types it; duplicate keys,
anchors, aliases, merge keys, tags and further documents are problems with a position. Built
from the parser's events, so that nothing recurses and a hostile file meets the limits first
(the C library's own composer crashes on deep nesting).
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView
from typing import Any, Final, NoReturn, TypeVar, cast

import yaml

from orchestrator.plan.file.problems import START, Position, Problems
from orchestrator.plan.file.syntax import position_of_byte, reader_words, syntax_words

MAX_BYTES: Final = 32 * 1024 * 1024
MAX_DEPTH: Final = 20
MAX_NODES: Final = 2_000_000
_NOT_ALLOWED = "are not allowed: write the value out, or use 'variables:' or 'defaults:'"


class _LocatedNode:
    """A node of the tree that knows where it starts."""

    __slots__ = ()
    line: int
    column: int

    @property
    def position(self) -> Position:
        """Where it starts."""
        return Position(self.line, self.column)


class Text(_LocatedNode, str):
    """A scalar with its position. Compares and hashes as the plain text."""

    __slots__ = ("column", "line")


class Block(_LocatedNode, dict[str, Any]):
    """A mapping with its position: a block mapping starts at its first key.

    Its keys are Texts too; `fields` and `key` give them with their positions.
    """

    __slots__ = ("column", "line")

    def fields(self) -> ItemsView[Text, Any]:
        """Return every key and its value, in the order of the file."""
        return cast("ItemsView[Text, Any]", self.items())

    def key(self, name: str) -> Text:
        """Return the key `name` with its position."""
        return next(key for key, _ in self.fields() if key == name)


class Items(_LocatedNode, list[Any]):
    """A sequence with its position: a block sequence starts at its first dash."""

    __slots__ = ("column", "line")


Tree = Text | Block | Items
T = TypeVar("T")


class NotReadable(Exception):
    """The bytes are no usable YAML document; the problems say why."""


def text_at(value: str, position: Position) -> Text:
    """Return `value` as a scalar at `position`."""
    text = Text(value)
    text.line, text.column = position
    return text


def read_document(
    data: bytes,
    problems: Problems,
    *,
    wanted: str = "a plan is a mapping of keys: start with 'version: 1' and 'name:'",
    empty: str = "the file is empty: start with 'version: 1'",
) -> Block:
    """Return the mapping that `data` holds; what the subset refuses goes to `problems`.

    `wanted` says what a file without a mapping should hold, `empty` what one without anything.

    Raises:
        NotReadable: no tree can be made of it; `problems` says why.
    """
    return _read(lambda: _Builder(data, problems).read(wanted, empty), data, problems)


def read_list(data: bytes, problems: Problems, words: str) -> Items:
    """Return the list that `data` holds, of a file that is no plan; `words` say what it is to be.

    Raises:
        NotReadable: no tree can be made of it; `problems` says why.
    """
    return _read(lambda: _Builder(data, problems).read_items(words), data, problems)


def _read(read: Callable[[], T], data: bytes, problems: Problems) -> T:
    """Return what `read` does; what the parser refuses goes to `problems`."""
    try:
        return read()
    except yaml.reader.ReaderError as exc:
        problems.add(position_of_byte(data, exc), reader_words(exc))
    except yaml.MarkedYAMLError as exc:
        position, message = syntax_words(exc, problems)
        problems.add(position, message)
    except RecursionError:  # pragma: no cover - the events never recurse; a guard, not a path
        problems.add(START, "nested too deeply")
    raise NotReadable


class _Builder:
    """Follows the event stream with an explicit stack of open containers."""

    def __init__(self, data: bytes, problems: Problems) -> None:
        self._loader = yaml.CSafeLoader(data)
        self._problems = problems
        self._open: list[Block | Items] = []
        self._keys: list[Text | None] = []
        self._nodes = 0
        self._root: Tree | None = None

    def read(self, wanted: str, empty: str) -> Block:
        self._follow_all()
        if self._root is None:
            self._refuse(START, empty)
        if not isinstance(self._root, Block):
            self._refuse(START, wanted)
        return self._root

    def read_items(self, words: str) -> Items:
        self._follow_all()
        if not isinstance(self._root, Items):
            self._refuse(START if self._root is None else self._root.position, words)
        return self._root

    def _follow_all(self) -> None:
        try:
            self._follow()
        finally:
            self._loader.dispose()

    def _refuse(self, position: Position, message: str) -> NoReturn:
        self._problems.add(position, message)
        raise NotReadable

    def _follow(self) -> None:
        # Events are read as Any: the types of the C loader say that everything may be None.
        get_event: Callable[[], Any] = self._loader.get_event
        while True:
            event = get_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent:
                self._start(event, Block())
            elif kind is yaml.SequenceStartEvent:
                self._start(event, Items())
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._open.pop()
                self._keys.pop()
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind is yaml.DocumentStartEvent and self._root is not None:
                self._refuse(
                    _start_of(event), "a second document starts here: a plan file holds one"
                )
            elif kind is yaml.StreamEndEvent:
                return

    def _scalar(self, event: Any) -> None:
        mark = event.start_mark
        text = Text(event.value)
        text.line, text.column = mark.line + 1, mark.column + 1
        if event.anchor is not None or event.tag is not None:
            self._decorated(event)
        # A plain scalar of no characters is a value that was left out.
        self._place(text, left_out=not event.value and not event.style)

    def _start(self, event: Any, container: Block | Items) -> None:
        mark = event.start_mark
        container.line, container.column = mark.line + 1, mark.column + 1
        if event.anchor is not None or event.tag is not None:
            self._decorated(event)
        if len(self._open) >= MAX_DEPTH:
            self._refuse(
                container.position, f"nested more than {MAX_DEPTH} levels deep: no plan needs that"
            )
        self._place(container)
        self._open.append(container)
        self._keys.append(None)

    def _alias(self, event: Any) -> None:
        position = _start_of(event)
        self._problems.add(position, f"aliases (*name) {_NOT_ALLOWED}")
        self._place(text_at("", position))

    def _decorated(self, event: Any) -> None:
        words = "tags (!name) are not allowed: the key decides how a value is read"
        if event.anchor is not None:
            words = f"anchors (&name) {_NOT_ALLOWED}"
        self._problems.add(_start_of(event), words)

    def _place(self, node: Tree, *, left_out: bool = False) -> None:
        """Put a finished scalar or a starting container where the stack points."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(node.position, f"more than {MAX_NODES} values: split the plan")
        if not self._open:
            self._root = None if left_out else node
            return
        parent = self._open[-1]
        if isinstance(parent, Items):
            if left_out:
                self._problems.add(node.position, "an item without a value: give it one")
            parent.append(node)
            return
        key = self._keys[-1]
        if key is None:
            self._keys[-1] = self._key(node)
            return
        self._keys[-1] = None
        if left_out:
            self._problems.add(key.position, "this key has no value: give it one or remove it")
            node = text_at("", key.position)
        if key not in parent:
            parent[key] = node

    def _key(self, node: Tree) -> Text:
        """Return the key that `node` is, after noting what is wrong with it."""
        if not isinstance(node, Text):
            self._problems.add(node.position, "a key must be a single text")
            return text_at("", node.position)
        parent = self._open[-1]
        if node == "<<":
            self._problems.add(
                node.position, "merge keys (<<) are not allowed: use 'defaults:', or write it out"
            )
        elif node in parent:
            first = parent.key(node) if isinstance(parent, Block) else node
            self._problems.add(
                node.position, f"this key is here twice (first at {first.position}): keep one"
            )
        return node


def _start_of(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)
