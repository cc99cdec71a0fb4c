"""report.json: the contract with whoever reads it by machine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from orchestrator.model import printable_json
from orchestrator.proof import CheckOutcome
from orchestrator.report.objectives import Objective
from orchestrator.report.summary import AttemptReport, Report, ServerReport, TargetReport

SCHEMA_VERSION = 1


def render(report: Report) -> str:
    """Return report.json: RFC 3339 times in UTC, seconds, stable order."""
    return printable_json(to_json(as_values(report), indent=1).decode()) + "\n"


def as_values(report: Report) -> dict[str, Any]:
    """Return the report as plain JSON values."""
    run = report.run
    return {
        "schema_version": SCHEMA_VERSION,
        "run": {
            "id": run.id,
            "plan": run.plan,
            "plan_path": run.plan_path,
            "plan_sha256": run.plan_sha256,
            "locked_sha256": run.locked_sha256,
            "description": run.description,
            "mode": run.mode,
            "reason": run.reason,
            "version": run.version,
            "user": run.user,
            "host": run.host,
            "started_at": moment(run.started_at),
            "finished_at": moment(run.finished_at),
            "duration_s": round(run.duration_s, 3),
            "exit_code": run.exit_code,
            "halted": run.halted,
            "interrupted": run.interrupted,
            "resumed_from": run.resumed_from,
            "require_checks": run.require_checks,
            "journal_head": run.journal_head,
            "journal_records": run.journal_records,
        },
        "totals": dict(report.totals),
        "servers": [_server(server) for server in report.servers],
        "waves": [
            {
                "name": wave.name,
                "started_at": moment(wave.started_at),
                "finished_at": moment(wave.finished_at),
                "targets": wave.targets,
            }
            for wave in report.waves
        ],
        "targets": [_target(target) for target in report.targets],
        "objectives": [{"scope": each.scope, **_objective(each)} for each in report.objectives],
        "not_proven": list(report.not_proven),
        "warnings": list(report.warnings),
    }


def moment(at: datetime | None) -> str | None:
    """Return RFC 3339 in UTC with milliseconds and Z."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _server(server: ServerReport) -> dict[str, Any]:
    values = {name: getattr(server, name) for name in ServerReport.__slots__}
    outages = [
        {"start_s": round(each.start, 3), "end_s": _seconds(each.end), "reason": each.reason}
        for each in server.outages
    ]
    paces = [{"at_s": round(at, 3), "mounts": mounts} for at, mounts in server.paces]
    return {**values, "outages": outages, "paces": paces}


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _target(target: TargetReport) -> dict[str, Any]:
    point = target.point
    return {
        "key": target.key,
        "wave": target.wave,
        "server": target.server,
        "backup_server": target.backup_server,
        "vm": target.vm,
        "label": target.label,
        "os": target.os,
        "source": target.source,
        "critical": target.critical,
        "result": target.result.value,
        "mount": target.mount.value,
        "message": target.message,
        "volumes": list(target.roots),
        "mount_href": target.mount_href,
        "point": None
        if point is None
        else {
            "id": point.id,
            "name": point.name,
            "created_at": moment(point.created_at),
            "age_s": point.age_s,
            "policy": point.policy,
            "fallback_depth": point.fallback_depth,
        },
        "attempts": [_attempt(attempt) for attempt in target.attempts],
        "phases_s": dict(target.phases_s),
        "checks": [_check(check) for check in target.checks],
        "downloads": [
            {
                "path": copied.path,
                "to": copied.to,
                "fate": copied.fate.value,
                "size": copied.size,
                "sha256": copied.sha256,
                "message": copied.message,
            }
            for copied in target.downloads
        ],
        "objectives": {each.kind: _objective(each, brief=True) for each in target.objectives},
    }


def _attempt(attempt: AttemptReport) -> dict[str, Any]:
    return {
        "point_id": attempt.point_id,
        "session": attempt.session,
        "task_id": attempt.task_id,
        "submitted_at": moment(attempt.submitted_at),
        "accepted_at": moment(attempt.accepted_at),
        "finished_at": moment(attempt.finished_at),
        "outcome": attempt.outcome,
        "adopted": attempt.adopted,
        "message": attempt.message,
        "verdict": attempt.verdict.value if attempt.verdict else None,
        "failed_checks": [_check(check) for check in attempt.failed_checks],
    }


def _check(check: CheckOutcome) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": check.name,
        "path": check.path,
        "expected": check.expected,
        "observed": check.observed,
        "passed": check.passed,
    }
    if check.warning:
        values["warning"] = True
    if check.measured is not None:
        values["measured"] = {"files": check.measured.files, "bytes": check.measured.bytes}
    return values


def _objective(objective: Objective, *, brief: bool = False) -> dict[str, Any]:
    actual = objective.actual_s
    values: dict[str, Any] = {} if brief else {"kind": objective.kind}
    values |= {
        "target_s": objective.target_s,
        "actual_s": None if actual is None else round(actual, 3),
        "met": objective.met,
    }
    return values
