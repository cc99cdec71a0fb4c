"""The query language of `/query`: comparisons, `;` and `,`, parentheses, quoting.

Values in double quotes are taken as they are, a doubled quote inside is one; an unquoted
value loses its spaces rather than failing, and silently matches something else.
Source: reference 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Field = Callable[[Any], object]

_TOKEN = re.compile(r'\s*(?:(==|!=|>=|<=|>|<)|([;,()])|"((?:[^"]|"")*)"|([^"=!<>;,()]+))')


class BadQuery(ValueError):
    """The filter cannot be read: the server answers 400."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One `field op value`."""

    field: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Group:
    """Several conditions, all of them (`all_of`) or any."""

    all_of: bool
    members: Sequence[Condition]


Condition = Comparison | Group


def parsed(text: str) -> Condition | None:
    """Return the filter as conditions; None for an empty one.

    Raises:
        BadQuery: it is not of the language.
    """
    tokens = _tokens(text)
    if not tokens:
        return None
    condition, rest = _any_of(tokens, 0)
    if rest != len(tokens):
        raise BadQuery(f"unexpected {tokens[rest][1]!r}")
    return condition


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens = []
    place = 0
    while place < len(text.rstrip()):
        match = _TOKEN.match(text, place)
        if match is None or match.end() == place:
            raise BadQuery(f"unreadable at {place}")
        operator, mark, quoted, bare = match.groups()
        if operator:
            tokens.append(("op", operator))
        elif mark:
            tokens.append(("mark", mark))
        elif quoted is not None:
            tokens.append(("value", quoted.replace('""', '"')))
        else:
            tokens.append(("word", bare.replace(" ", "")))
        place = match.end()
    return tokens


def _any_of(tokens: list[tuple[str, str]], place: int) -> tuple[Condition, int]:
    return _joined(tokens, place, ",", _all_of, all_of=False)


def _all_of(tokens: list[tuple[str, str]], place: int) -> tuple[Condition, int]:
    return _joined(tokens, place, ";", _one, all_of=True)


def _joined(
    tokens: list[tuple[str, str]],
    place: int,
    mark: str,
    part: Callable[[list[tuple[str, str]], int], tuple[Condition, int]],
    *,
    all_of: bool,
) -> tuple[Condition, int]:
    first, place = part(tokens, place)
    members = [first]
    while place < len(tokens) and tokens[place] == ("mark", mark):
        member, place = part(tokens, place + 1)
        members.append(member)
    return (first if len(members) == 1 else Group(all_of, members)), place


def _one(tokens: list[tuple[str, str]], place: int) -> tuple[Condition, int]:
    if place < len(tokens) and tokens[place] == ("mark", "("):
        condition, place = _any_of(tokens, place + 1)
        if place >= len(tokens) or tokens[place] != ("mark", ")"):
            raise BadQuery("a parenthesis is not closed")
        return condition, place + 1
    kinds = [kind for kind, _ in tokens[place : place + 3]]
    if (
        len(kinds) < 3
        or kinds[0] != "word"
        or kinds[1] != "op"
        or kinds[2] not in {"word", "value"}
    ):
        raise BadQuery("a comparison is field, operator, value")
    name, operator, value = (text for _, text in tokens[place : place + 3])
    return Comparison(name.lower(), operator, value), place + 3


def equal_values(condition: Condition | None, field: str) -> list[str] | None:
    """Return the values if the condition is only `field == value`, once or joined by OR."""
    members = condition.members if isinstance(condition, Group) else [condition]
    if isinstance(condition, Group) and condition.all_of:
        return None
    values = []
    for member in members:
        if not isinstance(member, Comparison) or (member.field, member.operator) != (field, "=="):
            return None
        values.append(member.value)
    return values


def check_fields(condition: Condition | None, fields: Mapping[str, Field]) -> None:
    """Refuse a condition on a field that this type does not have, whatever rows there are.

    Raises:
        BadQuery: there is such a field in it.
    """
    if isinstance(condition, Group):
        for member in condition.members:
            check_fields(member, fields)
    elif condition is not None and condition.field not in fields:
        raise BadQuery(f"there is no field {condition.field}")


def holds(condition: Condition | None, row: object, fields: Mapping[str, Field]) -> bool:
    """Tell whether `row` satisfies the condition, whose fields were checked."""
    if condition is None:
        return True
    if isinstance(condition, Group):
        results = (holds(member, row, fields) for member in condition.members)
        return all(results) if condition.all_of else any(results)
    return _compares(fields[condition.field](row), condition)


ORDERS = {
    "state": ("running", "operationfinished", "finished"),
    "algorithm": ("full", "reversedincremental", "incremental", "syntheticfull"),
    "type": ("full", "reverseincrement", "increment", "snapshot"),
}
"""Enumerations compare by their order in this list."""


def rank(field: str, value: object) -> tuple[int, str]:
    """Return what to sort a value by: its place in an enumeration, or its text."""
    text = str(value).casefold()
    order = ORDERS.get(field, ())
    return (order.index(text), "") if text in order else (0, text)


def _compares(actual: object, condition: Comparison) -> bool:
    left, right = str(actual).casefold(), condition.value.casefold()
    order = ORDERS.get(condition.field)
    if order is not None and left in order and right in order:
        return _ordered(condition.operator, order.index(left), order.index(right))
    if condition.field == "creationtime":
        left, right = left.rstrip("z")[:19], right.rstrip("z")[:19]
    return _ordered(condition.operator, left, right)


def _ordered(operator: str, left: Any, right: Any) -> bool:
    results = {
        "==": left == right,
        "!=": left != right,
        ">": left > right,
        "<": left < right,
        ">=": left >= right,
        "<=": left <= right,
    }
    return bool(results[operator])
