"""The published schema of `forecast --json`."""

from __future__ import annotations

from typing import Any

from orchestrator.engine.forecast.outlook import Met

VERSION = 1

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}


def forecast_json_schema() -> Schema:
    """Return the schema: draft 2020-12; fields may be added, never removed."""
    required = {
        "v": {"const": VERSION, "description": "version of this form"},
        "plan": _said(TEXT, "name of the plan"),
        "limits_changed": _named(COUNT, "limits asked for in place of the plan's own: --limit"),
        **_of_a_forecast(),
        "seconds_without_history": _said(SECONDS, "what a mount counts without a history"),
        "overheads_of_run": _or_null(TEXT, "run that begins_s and per_mount_s are of; null: none"),
        "deadline_s": _or_null(SECONDS, "the plan's deadline; null: none"),
        "exceeds_deadline": {
            "type": "boolean",
            "description": "the deadline is expected to end the run",
        },
        "without_restore_point": _list(TEXT, "keys of targets that have none"),
        "broken": _list(TEXT, "guards that are broken, in words"),
        "missing": _named(TEXT, "servers that cannot be used, and why"),
    }
    planned = _said(
        _object(_of_a_forecast()), "the same with the plan's own limits; absent: no --limit"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bulk-restore forecast",
        **_object(required),
        "properties": {**required, "as_planned": planned},
    }


def _of_a_forecast() -> dict[str, Schema]:
    """Return what a forecast with some limits consists of."""
    return {
        "makespan": _range("end of the run"),
        "waves": _list(_object(WAVE), "in their order"),
        "objectives": _list(_object(OBJECTIVE), "RTO of the run, of waves and of targets"),
        "limits": _list(_object(LIMIT), "what the end of the run waits for, the longest first"),
        "targets": _said(COUNT, "targets with a restore point"),
        "without_history": _said(COUNT, "of these, targets of which no earlier run knows anything"),
        "plays": _said(COUNT, "how many earlier mounts of each machine were played, at most"),
        "begins_s": _said(SECONDS, "until the first submission: logon and listing"),
        "per_mount_s": _said(SECONDS, "from a slot to the accepted task"),
    }


def _said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def _or_null(schema: Schema, description: str) -> Schema:
    return {**schema, "type": [schema["type"], "null"], "description": description}


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


def _named(values: Schema, description: str) -> Schema:
    return {"type": "object", "additionalProperties": values, "description": description}


def _object(properties: dict[str, Schema]) -> Schema:
    """Return an object of which every property is always there."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _range(description: str) -> Schema:
    """Return seconds since the start of the run: what is expected, and between which two."""
    ends = {
        "low_s": _said(SECONDS, "the earliest, in seconds since the start of the run"),
        "about_s": _said(SECONDS, "the middle play"),
        "high_s": _said(SECONDS, "the latest"),
    }
    return _said(_object(ends), description)


WAVE = {
    "name": _said(TEXT, "name of the wave"),
    "targets": _said(COUNT, "targets of it with a restore point"),
    "start": _range("when the waves before it have ended"),
    "end": _range("when its last target is decided"),
}
OBJECTIVE = {
    "scope": _said(TEXT, "run, wave NAME, or the key of a target"),
    "target_s": _said(SECONDS, "the RTO"),
    "expected": {
        "anyOf": [_range("when it is reached"), {"type": "null"}],
        "description": "null: none of its targets has a restore point",
    },
    "status": {"enum": [each.value for each in Met]},
    "why": _said(TEXT, "where that is not the time alone; else empty"),
    "is_of_target": {"type": "boolean"},
}
LIMIT = {
    "name": _said(TEXT, "as --limit takes it"),
    "mounts": _said(COUNT, "how many it allows"),
    "seconds": _said(SECONDS, "how long the end of the run waits for it"),
    "share": {"type": "number", "minimum": 0, "maximum": 1, "description": "of the run"},
}
