"""Structs as journals and locked plans keep them."""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from orchestrator.core.proof import CheckSets

_PLAIN = frozenset({str, int, float, bool, type(None)})
"""What most fields hold: each is itself."""


def brief(value: Any) -> Any:
    """Return what JSON can hold in place of a value: structs without fields at their defaults."""
    if isinstance(value, Struct):
        kept = {}
        for name, default in _defaults(type(value)):
            each = getattr(value, name)
            if each != default:
                kept[name] = each if type(each) in _PLAIN else brief(each)
        return kept
    if isinstance(value, tuple):
        return [brief(each) for each in value]
    if isinstance(value, dict):
        return {key: brief(each) for key, each in value.items()}
    return value


@cache
def _defaults(kind: type[Struct]) -> tuple[tuple[str, object], ...]:
    """Return the fields of a struct with their defaults; a required one equals its own never."""
    return tuple(
        (each.name, each.default if each.default_factory is NODEFAULT else each.default_factory())
        for each in fields(kind)
    )


def read(kind: type, value: Any) -> object:
    """Read what msgspec asks for: check sets, whose checks have no word for their kind."""
    if kind is CheckSets and isinstance(value, dict):
        return CheckSets.read(value)
    raise TypeError(f"{kind} is not read from {type(value)}")
