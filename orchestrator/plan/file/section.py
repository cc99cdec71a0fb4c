"""One mapping of the plan file, and the keys that it may leave out."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any

from msgspec import Struct
from msgspec.structs import fields
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
)
from pydantic.fields import FieldInfo
from pydantic_core.core_schema import CoreSchema, any_schema

from orchestrator.core.text import plan_duration


class ReadLater:
    """Marks a key whose sections are read one by one: no validator of theirs is made for it.

    Only the JSON Schema asks for them.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Take any value."""

        def in_json(_: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
            return handler(TypeAdapter(source).core_schema)

        return any_schema(metadata={"pydantic_js_annotation_functions": [in_json]})


class Section(BaseModel):
    """One mapping of the plan file; keys it does not know are problems.

    Its validator is made when it is first used: a plan uses few of the sections that there are.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True
    )

    def __init_subclass__(cls, of: type[Struct] | None = None) -> None:
        """Add the defaults of `of`, the value that it becomes, to what describes its keys."""
        for name, key in list(vars(cls).items()):
            if of is not None and isinstance(key, FieldInfo) and not key.is_required():
                setattr(cls, name, optional(key.description or "", default_of(of, name)))

    def values(self, *keys: str) -> dict[str, Any]:
        """Return the values of this section, or of some of its keys, without the keys left out."""
        return {
            key: getattr(self, key)
            for key in keys or type(self).model_fields
            if key in self.model_fields_set
        }


def optional(text: str, default: str = "") -> Any:
    """Return a key that a section may leave out; `text` describes it, `default` holds then."""
    return Field(None, description=f"{text} Default: {default}." if default else text)


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
