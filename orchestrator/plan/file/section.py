"""One mapping of the plan file: its keys, how their values are read, and what is wrong there.

A section declares each key with an annotation, and with `needed` or `optional`. The annotation is a
kind (`scalars`), a section, or a list or mapping of them, and may allow None where the key may be
left out. Nothing is made of the annotations before a section is first read: a plan uses few of the
sections that there are, and a command must not pay for the others.
"""

from __future__ import annotations

from collections.abc import Callable, KeysView, Mapping, Sequence
from enum import Enum, StrEnum, auto
from functools import cache, partial
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    NoReturn,
    Self,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from msgspec import Struct
from msgspec.structs import fields, replace

from orchestrator.core.text import plan_duration

Place = tuple[str | int, ...]
"""The keys and the places in lists that lead to a value, from the section that is read."""


class ReadBy(Struct, frozen=True, eq=False):
    """How a value is read. `read` raises ValueError with words for the person who wrote it.

    It raises NoReference if the value may be a secret, which nobody must see.
    """

    read: Callable[[Any], Any]


class NoReference(ValueError):
    """What stands for a secret is no reference to one."""


class JsonSchema(Struct, frozen=True, eq=False):
    """What the JSON Schema says of a value."""

    schema: dict[str, Any]


class ReadLater:
    """Marks a key whose sections are read one by one; with the section it may be anything."""


class Key(Struct, frozen=True):
    """What is known of a key besides its kind; `attribute` of its section holds the value."""

    description: str
    is_needed: bool
    attribute: str = ""


class Shape(Enum):
    """What a mistake is."""

    UNKNOWN_KEY = auto()
    MISSING_KEY = auto()
    NO_LIST = auto()
    NO_MAPPING = auto()
    WRONG_VALUE = auto()
    WRONG_SECRET = auto()


class Mistake(Struct, frozen=True):
    """One thing wrong with a section; `words` are those of the error of reading a wrong value.

    The error itself would lead back here, over its traceback.
    """

    shape: Shape
    place: Place
    words: str = ""


class NotUsable(Exception):
    """A mapping that is not the section wanted.

    `rest` is the section without what is wrong, or None if it needs that. So are the sections and
    mappings within it; a list with anything wrong in it is left out as a whole.
    """

    def __init__(self, mistakes: Sequence[Mistake], rest: Any) -> None:
        super().__init__(f"{len(mistakes)} mistakes")
        self.mistakes = mistakes
        self.rest = rest


class Section:
    """One mapping of the plan file; keys it does not know are mistakes.

    A key that was left out is None. Where a key is a word of Python, `_` follows it in the
    attribute's name. Values do not change.
    """

    keys: ClassVar[Mapping[str, Key]] = {}
    """What is known of each key, by its name in the plan."""

    def __init_subclass__(cls, of: type[Struct] | None = None) -> None:
        """Collect the keys; add the defaults of `of`, the value that the section becomes."""
        own: dict[str, Key] = {}
        for name, key in [(name, key) for name, key in vars(cls).items() if isinstance(key, Key)]:
            default = default_of(of, name) if of is not None and not key.is_needed else ""
            text = _described(key.description, default)
            own[name.removesuffix("_")] = replace(key, attribute=name, description=text)
            setattr(cls, name, None)
        cls.keys = {**cls.keys, **own}

    def __init__(self, values: Mapping[str, Any]) -> None:
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: what was read stays as it is."""
        raise AttributeError(f"{type(self).__name__}.{name} does not change")

    @classmethod
    @cache
    def kinds(cls) -> Mapping[str, Any]:
        """Return the annotation of each key."""
        hints = get_type_hints(cls, include_extras=True)
        return {name: hints[key.attribute] for name, key in cls.keys.items()}

    @classmethod
    def read(cls, node: Mapping[str, Any]) -> Self:
        """Return the section that `node` holds.

        Raises:
            NotUsable: a key is unknown or missing, or a value is wrong; with all such mistakes.
        """
        mistakes: list[Mistake] = []
        section: Self | None = _read_section(cls, node, (), mistakes)
        if mistakes or section is None:
            raise NotUsable(mistakes, section)
        return section

    @property
    def given(self) -> KeysView[str]:
        """The attributes of the keys that were not left out."""
        return vars(self).keys()

    def values(self, *keys: str) -> dict[str, Any]:
        """Return the values of this section, or of some of its keys, without the keys left out."""
        attributes = keys or [key.attribute for key in self.keys.values()]
        return {name: getattr(self, name) for name in attributes if name in self.given}


def needed(text: str) -> Any:
    """Return a key that a section must have; `text` describes it."""
    return Key(text, is_needed=True)


def optional(text: str, default: str = "") -> Any:
    """Return a key that a section may leave out; `text` describes it, `default` holds then."""
    return Key(_described(text, default), is_needed=False)


def _described(text: str, default: str) -> str:
    return f"{text} Default: {default}." if default else text


def default_of(kind: type[Struct], name: str, write: Callable[[Any], str] | None = None) -> str:
    """Return the default of a field of the values that a plan becomes, as a plan writes it.

    It is empty where there is none, or where it is nothing, none or false. Durations and words
    are known; `write` is for what is neither.
    """
    value = _defaults(kind).get(name)
    if write is not None:
        return write(value)
    if isinstance(value, tuple):
        return "all" if value and value == tuple(value[0].__class__) else ", ".join(value)
    if isinstance(value, float):
        return plan_duration(value)
    if isinstance(value, str | int) and value:
        return value.lower() if isinstance(value, StrEnum) else str(value)
    return ""


@cache
def _defaults(kind: type[Struct]) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind)}


# --- annotations -------------------------------------------------------------------------


def alternatives(annotation: Any) -> Sequence[Any]:
    """Return what a value may be: the members of a union without None, or the annotation alone."""
    if get_origin(annotation) in {Union, UnionType}:
        return [part for part in get_args(annotation) if part is not NoneType]
    return [annotation]


def marks(annotation: Any) -> Sequence[Any]:
    """Return what an annotation says of its type: how it is read, and its JSON Schema."""
    return getattr(annotation, "__metadata__", ())


# --- reading -----------------------------------------------------------------------------

_Read = Callable[[Any, Place, list[Mistake]], Any]
"""Reads a value at a place, and adds what is wrong with it; None if nothing can be made of it."""


def _read_section(section: Any, node: Any, place: Place, mistakes: list[Mistake]) -> Any:
    if not isinstance(node, dict):
        mistakes.append(Mistake(Shape.NO_MAPPING, place))
        return None
    readers, needed_keys = _readers(section)
    missing = (key for key in needed_keys if key not in node)
    mistakes.extend(Mistake(Shape.MISSING_KEY, (*place, key)) for key in missing)
    values: dict[str, Any] = {}
    for key, value in node.items():
        if key not in readers:
            mistakes.append(Mistake(Shape.UNKNOWN_KEY, (*place, key)))
            continue
        name, read = readers[key]
        usable = read(value, (*place, key), mistakes)
        if usable is not None:
            values[name] = usable
    is_whole = all(readers[key][0] in values for key in needed_keys)
    return section(values) if is_whole else None


@cache
def _readers(section: Any) -> tuple[Mapping[str, tuple[str, _Read]], Sequence[str]]:
    """Return the attribute and the reader of each key as a plan writes it, and the needed keys."""
    readers = {
        name: (section.keys[name].attribute, _reader(annotation))
        for name, annotation in section.kinds().items()
    }
    return readers, [name for name, key in section.keys.items() if key.is_needed]


def _reader(annotation: Any) -> _Read:
    (kind,) = alternatives(annotation)
    for mark in marks(kind):
        if isinstance(mark, ReadBy):
            return partial(_read_value, mark.read)
        if isinstance(mark, ReadLater):
            return _leave
    if kind is Any:
        return _leave
    if get_origin(kind) is list:
        return partial(_read_list, _reader(get_args(kind)[0]))
    if get_origin(kind) is dict:
        return partial(_read_mapping, _reader(get_args(kind)[1]))
    return partial(_read_section, kind)


def _read_value(
    read: Callable[[Any], Any], value: Any, place: Place, mistakes: list[Mistake]
) -> Any:
    try:
        return read(value)
    except ValueError as exc:
        shape = Shape.WRONG_SECRET if isinstance(exc, NoReference) else Shape.WRONG_VALUE
        mistakes.append(Mistake(shape, place, str(exc)))
        return None


def _read_list(read: _Read, value: Any, place: Place, mistakes: list[Mistake]) -> Any:
    if not isinstance(value, list):
        mistakes.append(Mistake(Shape.NO_LIST, place))
        return None
    before = len(mistakes)
    items = [read(each, (*place, index), mistakes) for index, each in enumerate(value)]
    return items if len(mistakes) == before else None


def _read_mapping(read: _Read, value: Any, place: Place, mistakes: list[Mistake]) -> Any:
    if not isinstance(value, dict):
        mistakes.append(Mistake(Shape.NO_MAPPING, place))
        return None
    values = ((str(key), read(each, (*place, key), mistakes)) for key, each in value.items())
    return {key: each for key, each in values if each is not None}


def _leave(value: Any, _place: Place, _mistakes: list[Mistake]) -> Any:
    return value
