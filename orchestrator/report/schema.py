"""The published JSON Schema of report.json."""

from __future__ import annotations

from typing import Any

from orchestrator.model import MountState, Result, Source
from orchestrator.proof import Fate
from orchestrator.report.as_json import SCHEMA_VERSION

TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
SECONDS = {"type": "number", "description": "seconds"}
TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _thing(required: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **more}, "required": list(required)}


def _listed(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


OBJECTIVE = {
    "target_s": SECONDS,
    "actual_s": _or_null(SECONDS),
    "met": {"type": ["boolean", "null"]},
}
PHASES = ("queued", "submitting", "running", "collecting", "verifying", "unmounting")
CHECK = {
    "name": TEXT,
    "path": TEXT,
    "expected": TEXT,
    "observed": TEXT,
    "passed": {"type": "boolean"},
}


def report_json_schema() -> dict[str, Any]:
    """Return the schema: draft 2020-12; fields may be added, never removed."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bulk-restore report",
        **_thing(
            {
                "schema_version": {"const": SCHEMA_VERSION},
                "run": _run(),
                "totals": _thing(
                    dict.fromkeys(("targets", *(result.value for result in Result), "left"), COUNT),
                    may_be_mounted=COUNT,
                ),
                "servers": _listed(_server()),
                "waves": _listed(
                    _thing(
                        {
                            "name": TEXT,
                            "started_at": _or_null(TIME),
                            "finished_at": _or_null(TIME),
                            "targets": COUNT,
                        }
                    )
                ),
                "targets": _listed(_target()),
                "objectives": _listed(
                    _thing({"scope": TEXT, "kind": {"enum": ["rto", "rpo"]}, **OBJECTIVE})
                ),
                "not_proven": _listed(TEXT),
            },
            warnings=_listed(TEXT),
        ),
    }


def _run() -> dict[str, Any]:
    return _thing(
        {
            "id": TEXT,
            "plan": TEXT,
            "plan_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "mode": {"enum": ["drill", "recovery"]},
            "reason": _or_null(TEXT),
            "version": TEXT,
            "started_at": TIME,
            "finished_at": _or_null(TIME),
            "duration_s": SECONDS,
            "exit_code": {"type": ["integer", "null"]},
            "halted": _or_null(TEXT),
            "interrupted": {"type": "boolean"},
            "resumed_from": _or_null(TEXT),
        },
        plan_path=TEXT,
        locked_sha256=_or_null(TEXT),
        description=_or_null(TEXT),
        user=TEXT,
        host=TEXT,
        require_checks={"type": "boolean"},
        journal_head=_or_null(TEXT),
        journal_records=_or_null(COUNT),
    )


def _server() -> dict[str, Any]:
    return _thing(
        {
            "name": TEXT,
            "url": TEXT,
            "tls": TEXT,
            "api_version": TEXT,
            "clock_offset_s": _or_null(SECONDS),
            "mounts_limit": {"type": ["integer", "null"]},
            "peak_mounts": {"type": ["integer", "null"]},
            "sessions": COUNT,
            "requests": {"type": ["integer", "null"]},
            "retries": {"type": ["integer", "null"]},
        },
        certificate_sha256=_or_null(TEXT),
        user=_or_null(TEXT),
        problem=_or_null(TEXT),
        outages=_listed(_thing({"start_s": SECONDS, "end_s": _or_null(SECONDS), "reason": TEXT})),
        paces=_listed(_thing({"at_s": SECONDS, "mounts": {"type": ["integer", "null"]}})),
    )


def _check() -> dict[str, Any]:
    return _thing(
        CHECK,
        warning={"type": "boolean"},
        measured=_thing({"files": COUNT, "bytes": COUNT}),
    )


def _target() -> dict[str, Any]:
    point = _thing(
        {
            "id": TEXT,
            "name": TEXT,
            "created_at": TIME,
            "age_s": SECONDS,
            "fallback_depth": COUNT,
        },
        policy=TEXT,
    )
    attempt = _thing(
        {
            "point_id": TEXT,
            "session": TEXT,
            "task_id": _or_null(TEXT),
            "submitted_at": TIME,
            "accepted_at": _or_null(TIME),
            "finished_at": _or_null(TIME),
            "outcome": {"enum": ["success", "failed", "refused", "not_sent", "unknown"]},
            "message": _or_null(TEXT),
        },
        adopted={"type": "boolean"},
        verdict={"enum": [*(result.value for result in Result), None]},
        failed_checks=_listed(_check()),
    )
    return _thing(
        {
            "key": TEXT,
            "wave": TEXT,
            "server": TEXT,
            "backup_server": _or_null(TEXT),
            "vm": TEXT,
            "os": {"enum": ["windows", "linux"]},
            "result": {"enum": [result.value for result in Result]},
            "mount": {"enum": [state.value for state in MountState]},
            "message": _or_null(TEXT),
            "point": _or_null(point),
            "attempts": _listed(attempt),
            "phases_s": _thing(dict.fromkeys(PHASES, SECONDS), held=SECONDS),
            "checks": _listed(_check()),
            "downloads": _listed(
                _thing(
                    {
                        "path": TEXT,
                        "to": _or_null(TEXT),
                        "fate": {"enum": [fate.value for fate in Fate]},
                        "size": {"type": ["integer", "null"]},
                        "sha256": _or_null(TEXT),
                        "message": _or_null(TEXT),
                    }
                )
            ),
            "objectives": {
                "type": "object",
                "properties": {"rto": _thing(OBJECTIVE), "rpo": _thing(OBJECTIVE)},
                "additionalProperties": False,
            },
        },
        label=TEXT,
        source={"enum": [source.value for source in Source]},
        critical={"type": "boolean"},
        volumes=_listed(TEXT),
        mount_href=_or_null(TEXT),
    )
