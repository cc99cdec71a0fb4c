"""The published JSON Schema of the plan file, made of the loader's own sections.

An editor that reads it completes keys, shows what they mean and marks mistakes while they are
made. What depends on several places (names, circles, VMs selected twice) only the loader can
see.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

from orchestrator.plan.file.scalars import NAME_PATTERN
from orchestrator.plan.file.schema import PlanFile
from orchestrator.plan.file.section import (
    JsonSchema,
    Section,
    alternatives,
    marks,
)
from orchestrator.plan.file.selectors import KEYS
from orchestrator.plan.file.variables import NAME_PATTERN as VARIABLE_NAME_PATTERN

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def plan_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a plan file."""
    definitions: dict[str, Any] = {}
    plan = _of_section(PlanFile, definitions)
    properties = plan["properties"]
    properties["variables"] |= {"propertyNames": {"pattern": f"^{VARIABLE_NAME_PATTERN}$"}}
    properties["servers"] |= {"propertyNames": {"pattern": NAME_PATTERN}, "minProperties": 1}
    properties["checks"] |= {"propertyNames": {"pattern": NAME_PATTERN}}
    properties["checks"]["additionalProperties"]["minItems"] = 1
    definitions["Download"]["oneOf"] = _exactly_one(("to", "write"))
    for holder in (properties, definitions["Wave"]["properties"]):
        holder["targets"]["minItems"] = 1
    for name in ("Defaults", "Wave", "Target"):
        definitions[name]["properties"]["volumes"] |= {"propertyNames": {"pattern": "^[A-Za-z]$"}}
    properties["waves"]["minItems"] = properties["gates"]["minItems"] = 1
    definitions["Target"]["oneOf"] = _exactly_one(KEYS)
    definitions["Expect"]["minProperties"] = 1
    definitions["Notification"]["properties"]["on"]["minItems"] = 1
    both = {"required": ["ca_file", "fingerprint_sha256"]}
    definitions["Tls"] |= {"minProperties": 1, "not": both}
    return {
        "$schema": DIALECT,
        **plan,
        "title": "bulk-restore plan",
        "oneOf": _exactly_one(("targets", "waves")),
        "$defs": dict(sorted(definitions.items())),
    }


def _exactly_one(keys: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"required": [key]} for key in keys]


def _of_section(section: type[Section], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a mapping; the sections within it are added to `definitions`."""
    properties = {
        name: {**_of_value(kind, definitions), "description": section.keys[name].description}
        for name, kind in section.kinds().items()
    }
    needed = [name for name, key in section.keys.items() if key.is_needed]
    return {
        "type": "object",
        "description": section.__doc__,
        "properties": properties,
        "additionalProperties": False,
        **({"required": needed} if needed else {}),
    }


def _of_value(annotation: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of what an annotation of a section allows."""
    kind, *others = alternatives(annotation)
    if others:
        return {"anyOf": [_of_value(each, definitions) for each in (kind, *others)]}
    for mark in marks(kind):
        if isinstance(mark, JsonSchema):
            return mark.schema
    bare = kind.__origin__ if marks(kind) else kind
    if get_origin(bare) is list:
        return {"type": "array", "items": _of_value(get_args(bare)[0], definitions)}
    if get_origin(bare) is dict:
        return {
            "type": "object",
            "additionalProperties": _of_value(get_args(bare)[1], definitions),
        }
    name = bare.__name__.removesuffix("File")
    if name not in definitions:
        definitions[name] = {}  # its place, should it hold itself
        definitions[name] = _of_section(bare, definitions)
    return {"$ref": f"#/$defs/{name}"}
