"""The published JSON Schema of the plan file, generated from the loader's own models.

An editor that reads it completes keys, shows what they mean and marks mistakes while they are
made. What depends on several places (names, circles, VMs selected twice) only the loader can
see.
"""

from __future__ import annotations

from typing import Any

from orchestrator.plan.file.scalars import NAME_PATTERN
from orchestrator.plan.file.schema import PlanFile
from orchestrator.plan.file.selectors import KEYS
from orchestrator.plan.file.variables import NAME_PATTERN as VARIABLE_NAME_PATTERN

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def plan_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a plan file."""
    generated = _tidy(PlanFile.model_json_schema())
    definitions: dict[str, Any] = {
        key.removesuffix("File"): value for key, value in generated.pop("$defs").items()
    }
    properties = generated["properties"]
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
        **generated,
        "title": "bulk-restore plan",
        "oneOf": _exactly_one(("targets", "waves")),
        "$defs": definitions,
    }


def _exactly_one(keys: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"required": [key]} for key in keys]


def _tidy(node: Any) -> Any:
    """Return a generated schema without what only the generator needs.

    Optional keys are not nullable in a plan, and titles only repeat the keys.
    """
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        node = {**node, "$ref": node["$ref"].removesuffix("File")}
    choices = [item for item in node.get("anyOf", ()) if item != {"type": "null"}]
    tidy = {
        # Properties have the plan's names, whatever they are called.
        key: {name: _tidy(each) for name, each in value.items()}
        if key in {"properties", "$defs"}
        else _tidy(value)
        for key, value in node.items()
        if key not in {"title", "default", "anyOf"}
    }
    if len(choices) == 1:
        return {**_tidy(choices[0]), **tidy}
    if choices:
        tidy["anyOf"] = _tidy(choices)
    return tidy
