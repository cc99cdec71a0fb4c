"""The check for a program, and the published schema of that form."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import asdict

from orchestrator.app.readiness.findings import Readiness, Scope, Status
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import printable_json, timestamp

VERSION = 1


def readiness_json(readiness: Readiness) -> str:
    """Return the answers as one JSON document, one line per answer."""
    totals = {status.value: count for status, count in readiness.totals.items()}
    head = {
        "v": VERSION,
        "plan": readiness.plan,
        "plan_sha256": readiness.plan_sha256,
        "checked_at": timestamp(readiness.checked_at, "auto"),
        "ready": readiness.is_ready,
        "exit_code": int(ExitCode.GOOD if readiness.is_ready else ExitCode.UNUSABLE),
        "totals": {"servers": readiness.servers, "targets": readiness.targets, **totals},
    }
    rows = [
        json.dumps({n: v for n, v in asdict(each).items() if v is not False}, ensure_ascii=False)
        for each in readiness.findings
    ]
    start = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
    return printable_json(f'{start},\n "items": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n")


def readiness_json_schema() -> dict[str, Any]:
    """Return the schema: draft 2020-12; fields and items may be added, never removed."""
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    item = {
        "scope": {"enum": [scope.value for scope in Scope]},
        "name": {**text, "description": "server name, target key or plan name"},
        "item": {**text, "pattern": "^[a-z_]+$"},
        "status": {"enum": [status.value for status in Status]},
        "detail": text,
    }
    totals = dict.fromkeys(("servers", "targets", *(status.value for status in Status)), count)
    required = {
        "v": {"const": VERSION},
        "plan": text,
        "plan_sha256": {**text, "pattern": "^[0-9a-f]{64}$"},
        "checked_at": {**text, "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
        "ready": {"type": "boolean"},
        "exit_code": {"enum": [int(ExitCode.GOOD), int(ExitCode.UNUSABLE)]},
        "totals": {"type": "object", "properties": totals, "required": list(totals)},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {**item, "critical": {"type": "boolean"}},
                "required": list(item),
            },
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bulk-restore check",
        "type": "object",
        "properties": required,
        "required": list(required),
    }
