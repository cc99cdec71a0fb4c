"""One mapping of the plan file, and the keys that it may leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.core.text import plan_duration


class Section(BaseModel):
    """One mapping of the plan file; keys it does not know are problems."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

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


def default_of(kind: type, name: str, write: Callable[[Any], str] | None = None) -> str:
    """Return the default of a field of the values that a plan becomes, as a plan writes it.

    Durations and words are known; `write` is for what is neither.
    """
    (value,) = (field.default for field in fields(kind) if field.name == name)
    if write is not None:
        return write(value)
    if isinstance(value, tuple):
        return "all" if value == tuple(value[0].__class__) else ", ".join(value)
    if isinstance(value, float):
        return plan_duration(value)
    return value.lower() if isinstance(value, StrEnum) else str(value)
