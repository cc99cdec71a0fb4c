"""report.json and its schema: both are made from `values.PublishedReport`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.core.text import printable_json, timestamp
from orchestrator.report.described import Moment, seconds
from orchestrator.report.values import PublishedReport, PublishedTarget, Report

TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}


_NO_TARGETS = '\n "targets": []'
"""A line that only the report itself can have: a text has no line breaks, what is in it more
spaces."""


def render(report: Report) -> str:
    """Return report.json: RFC 3339 times in UTC, seconds, stable order."""
    return "".join(pieces(report))


def pieces(report: Report) -> Iterator[str]:
    """Yield report.json, one target after another: as a whole it would need much memory."""
    frame = _shown(
        msgspec.convert(replace(report, targets=()), PublishedReport, from_attributes=True)
    )
    if not report.targets:
        yield f"{frame}\n"
        return
    before, _, after = frame.partition(_NO_TARGETS)
    between = f"{before}{_NO_TARGETS.removesuffix(']')}\n  "
    for target in report.targets:
        published = msgspec.convert(target, PublishedTarget, from_attributes=True)
        yield between + _shown(published).replace("\n", "\n  ")
        between = ",\n  "
    yield f"\n ]{after}\n"


def _shown(value: Struct) -> str:
    content = msgspec.json.encode(value, enc_hook=_encoded)
    return printable_json(msgspec.json.format(content, indent=1).decode())


def as_values(report: Report) -> dict[str, Any]:
    """Return the report as plain JSON values."""
    published = msgspec.convert(report, PublishedReport, from_attributes=True)
    values: dict[str, Any] = msgspec.to_builtins(published, enc_hook=_encoded)
    return values


def _encoded(value: Any) -> Any:
    """Return what JSON has in place of a value; msgspec asks for `Moment` only."""
    return timestamp(value)


def plain_values(value: Struct) -> dict[str, Any]:
    """Return a struct as JSON values: times as in the report, seconds to the millisecond."""
    return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Struct):
        return plain_values(value)
    return seconds(value) if isinstance(value, float) else value


def report_json_schema() -> dict[str, Any]:
    """Return the schema: draft 2020-12; fields may be added, never removed."""
    schema = msgspec.json.schema(PublishedReport, schema_hook=_custom_schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_in_place(schema["$defs"]["PublishedReport"], schema["$defs"]),
        "title": "bulk-restore report",
    }


def _custom_schema(kind: type) -> dict[str, Any]:
    if kind is Moment:
        return TIME
    raise NotImplementedError(f"{kind} has no JSON Schema")


def _in_place(schema: Any, named: dict[str, Any]) -> Any:
    """Return a schema with what it refers to in place of each reference."""
    if isinstance(schema, list):
        return [_in_place(each, named) for each in schema]
    if not isinstance(schema, dict):
        return schema
    here = {name: each for name, each in schema.items() if name != "$ref"}
    if "$ref" in schema:
        here = {**named[schema["$ref"].rpartition("/")[2]], **here}
    if isinstance(here.get("required"), list):
        fields = here["properties"]
        here["required"] = [name for name in here["required"] if "since" not in fields[name]]
    return {name: _in_place(each, named) for name, each in here.items()}
