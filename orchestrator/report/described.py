"""How the fields of report.json are described, for its schema."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from msgspec import Meta

V2, V3 = "0.2.0", "0.3.0"
"""Versions that added a field."""


class Moment(datetime):
    """A point in time; report.json has it in UTC with milliseconds."""

    __slots__ = ()

    @classmethod
    def of(cls, at: datetime) -> Self:
        """Return the same point in time."""
        return cls.combine(at.date(), at.timetz())


def seconds(value: float) -> float:
    """Return seconds as the report has them: to the millisecond."""
    return round(value, 3)


def doc(description: str, *, since: str | None = None, **schema: Any) -> Meta:
    """Return the description of a field, and what the schema demands besides its type.

    `since` is the version that added it: reports of earlier versions are valid without it.
    """
    known = {"since": since} if since else {}
    return Meta(description=description, extra_json_schema={**known, **schema})


def one_of(description: str, words: tuple[str | None, ...], *, since: str | None = None) -> Meta:
    """Return the description of a field that has one of these words."""
    return doc(description, since=since, enum=list(words))


Count = Annotated[int, Meta(extra_json_schema={"minimum": 0})]
SHA256 = {"pattern": "^[0-9a-f]{64}$"}


def counts(description: str, names: tuple[str, ...], optional: set[str], of: str) -> Meta:
    """Return the description of a mapping with these names to numbers; some may be missing."""
    number: dict[str, Any] = {"type": of} if of == "number" else {"type": of, "minimum": 0}
    required = [name for name in names if name not in optional]
    fields = dict.fromkeys((*required, *sorted(optional)), number)
    return doc(description, properties=fields, required=required)
