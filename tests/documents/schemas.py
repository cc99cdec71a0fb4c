"""Keys of plans and fields of documents, from the published JSON Schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.app.forecasting.json_schema import forecast_json_schema
from orchestrator.app.readiness.as_json import readiness_json_schema
from orchestrator.plan.file.json_schema import plan_json_schema
from orchestrator.report.as_json import report_json_schema
from orchestrator.views.json_events import events_json_schema
from tests.documents.markdown import code, table

Schema = Mapping[str, Any]


def plan_keys() -> str:
    """Return a table for each section of a plan file."""
    schema = plan_json_schema()
    parts = [_keys("The whole file", schema, schema)]
    parts += [_keys(name, each, schema) for name, each in schema["$defs"].items()]
    return "\n\n".join(part for part in parts if part)


def _keys(name: str, section: Schema, schema: Schema) -> str:
    if "properties" not in section:
        return ""
    required = section.get("required", ())
    rows = [
        (
            code(key) + (" (required)" if key in required else ""),
            _kind(value, schema, link=True),
            value.get("description", ""),
        )
        for key, value in section["properties"].items()
    ]
    about = section.get("description", "")
    return f"### {name}\n\n{about}\n\n{table(('key', 'value', 'meaning'), rows)}"


def report_fields() -> str:
    """Return every field of report.json."""
    return _fields(report_json_schema())


def check_fields() -> str:
    """Return every field of `check --json`."""
    return _fields(readiness_json_schema())


def forecast_fields() -> str:
    """Return every field of `forecast --json`."""
    return _fields(forecast_json_schema())


def event_fields() -> str:
    """Return every declared field of a line of `--json`."""
    return _fields(events_json_schema())


def _fields(schema: Schema) -> str:
    rows = [
        (code(path), "always" if always else "", _kind(value, schema), value.get("description", ""))
        for path, value, always in _walk(schema, schema, "")
    ]
    return table(("field", "present", "value", "meaning"), rows)


def _walk(node: Schema, schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    """Yield each property below `node`: its path, its schema, and whether it is always there."""
    required = node.get("required", ())
    for key, value in node.get("properties", {}).items():
        place = f"{path}.{key}" if path else key
        yield place, value, key in required
        for below, more in _below(value, schema):
            yield from _walk(below, schema, place + more)


def _below(value: Schema, schema: Schema) -> Iterator[tuple[Schema, str]]:
    """Yield the objects that a value is made of, with what that adds to their path."""
    value = _resolved(value, schema)
    if "properties" in value:
        yield value, ""
    if "items" in value:
        for below, more in _below(value["items"], schema):
            yield below, f"[]{more}"
    for choice in (*value.get("anyOf", ()), *value.get("oneOf", ())):
        yield from _below(choice, schema)


def _resolved(value: Schema, schema: Schema) -> Schema:
    if "$ref" not in value:
        return value
    found: Schema = schema["$defs"][value["$ref"].rpartition("/")[2]]
    return found


def _kind(value: Schema, schema: Schema, *, link: bool = False) -> str:
    """Return in words what values there may be."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        if link and "properties" in schema["$defs"][name]:
            return f"[{name}](#{name.lower()})"
        return _kind(schema["$defs"][name], schema, link=link)
    if "const" in value:
        return code(str(value["const"]))
    if "enum" in value:
        values = ("null" if each is None else str(each) for each in value["enum"])
        return ", ".join(map(code, dict.fromkeys(values)))
    choices = (*value.get("anyOf", ()), *value.get("oneOf", ()))
    kinds = [_kind(choice, schema, link=link) for choice in choices if not _only_required(choice)]
    if kinds:
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    return _simple(value, schema, link=link)


def _simple(value: Schema, schema: Schema, *, link: bool) -> str:
    kind = value.get("type", "")
    if kind == "array":
        items = _kind(value.get("items", {}), schema, link=link)
        return f"list of {items}" if items else "list"
    more = value.get("additionalProperties")
    if kind == "object" and isinstance(more, Mapping):
        return f"name: {_kind(more, schema, link=link)}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _only_required(choice: Schema) -> bool:
    return set(choice) == {"required"}
