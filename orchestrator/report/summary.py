"""From the fold of a run to the report's values. Pure; mirrors report.json field by field."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.checks.amounts import duration
from orchestrator.lifecycle import AttemptRecord, MountRecord, Phase, Span
from orchestrator.model import MountState, RestorePoint, Result
from orchestrator.proof import CheckOutcome, DownloadOutcome
from orchestrator.report.objectives import (
    Objective,
    run_objectives,
    target_objectives,
    wave_objectives,
)
from orchestrator.runstate import Outage, RunState, ServerState

STALE_S = 86_400.0
"""If nothing newer is there, a person should ask whether data is still collected."""

PHASES = ("queued", "submitting", "running", "collecting", "verifying", "held", "unmounting")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointReport:
    """The restore point that the result is about. `age_s` counts back from the start of the run.

    `fallback_depth` is how many newer points of the plan's choice were passed over.
    """

    id: str
    name: str
    created_at: datetime
    age_s: float
    policy: str
    fallback_depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReport:
    """One attempt. `session` is a short hash: the GUID is nobody's business."""

    point_id: str
    session: str
    task_id: str | None
    submitted_at: datetime
    accepted_at: datetime | None
    finished_at: datetime | None
    outcome: str
    adopted: bool
    message: str | None
    verdict: Result | None
    failed_checks: tuple[CheckOutcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """One target: its one result, its mount, and how it got there.

    `checks` and `downloads` are those of the attempt that the result is about.
    """

    key: str
    wave: str
    server: str
    backup_server: str | None
    vm: str
    label: str
    os: str
    source: str
    critical: bool
    result: Result
    mount: MountState
    message: str | None
    roots: tuple[str, ...]
    mount_href: str | None
    point: PointReport | None
    attempts: tuple[AttemptReport, ...]
    phases_s: Mapping[str, float]
    spans: tuple[Span, ...]
    verdict_s: float | None
    checks: tuple[CheckOutcome, ...]
    downloads: tuple[DownloadOutcome, ...]
    objectives: tuple[Objective, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """One Enterprise Manager over the run; None where nothing was measured."""

    name: str
    url: str
    tls: str
    api_version: str
    certificate_sha256: str | None
    user: str | None
    clock_offset_s: float | None
    mounts_limit: int | None
    peak_mounts: int | None
    sessions: int
    requests: int | None
    retries: int | None
    problem: str | None
    outages: tuple[Outage, ...]
    """When it could not be used."""
    paces: tuple[tuple[float, int | None], ...]
    """(second of the run, mounts it was given from then on); None: as many as the plan allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveReport:
    """One wave; None where it did not start or end."""

    name: str
    started_at: datetime | None
    finished_at: datetime | None
    targets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The run itself."""

    id: str
    plan: str
    plan_path: str
    plan_sha256: str
    locked_sha256: str | None
    description: str | None
    mode: str
    reason: str | None
    version: str
    user: str
    host: str
    started_at: datetime
    finished_at: datetime | None
    utc_offset_s: float
    """Local time of the machine minus UTC when the run began."""
    duration_s: float
    exit_code: int | None
    halted: str | None
    interrupted: bool
    resumed_from: str | None
    require_checks: bool
    journal_head: str | None
    journal_records: int | None = None
    """How many records end in that head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a rendering needs."""

    run: RunReport
    totals: Mapping[str, int]
    servers: tuple[ServerReport, ...]
    waves: tuple[WaveReport, ...]
    targets: tuple[TargetReport, ...]
    objectives: tuple[Objective, ...]
    not_proven: tuple[str, ...]
    warnings: tuple[str, ...]


def summarize(state: RunState, *, chain_head: str | None = None) -> Report:
    """Return the report of a run, finished or not.

    A target without a conclusion is reported as what is known now: `cancelled` if it was
    never submitted, else `unknown`.
    """
    targets = tuple(_target(record, state) for record in state.records.values())
    return Report(
        run=_run(state, chain_head),
        totals=_totals(targets),
        servers=tuple(_server(facts.name, state) for facts in state.started.servers),
        waves=_waves(state, targets),
        targets=targets,
        objectives=(*run_objectives(state), *wave_objectives(state)),
        not_proven=_not_proven(targets),
        warnings=_warnings(state, targets),
    )


def _run(state: RunState, chain_head: str | None) -> RunReport:
    started, finished = state.started, state.finished
    return RunReport(
        id=started.run,
        plan=started.plan,
        plan_path=started.plan_path,
        plan_sha256=started.plan_sha256,
        locked_sha256=started.locked_sha256,
        description=started.description,
        mode=started.mode,
        reason=started.reason,
        version=started.version,
        user=started.user,
        host=started.host,
        started_at=started.started_at,
        finished_at=finished.finished_at if finished else None,
        utc_offset_s=started.utc_offset_s,
        duration_s=finished.at if finished else state.last_at,
        exit_code=finished.exit_code if finished else None,
        halted=f"{state.halted.reason}: {state.halted.detail}" if state.halted else None,
        interrupted=finished is None or finished.interrupted,
        resumed_from=started.run if state.resumed else None,
        require_checks=started.require_checks,
        journal_head=chain_head,
        journal_records=state.events if chain_head is not None else None,
    )


def _totals(targets: Sequence[TargetReport]) -> dict[str, int]:
    results = Counter(target.result for target in targets)
    totals = {"targets": len(targets)}
    totals.update({result.value: results[result] for result in Result})
    mounts = Counter(target.mount for target in targets)
    totals["left"] = mounts[MountState.LEFT]
    totals["may_be_mounted"] = mounts[MountState.UNKNOWN]
    return totals


def _server(name: object, state: RunState) -> ServerReport:
    facts = next(facts for facts in state.started.servers if facts.name == name)
    seen: ServerState = state.servers[facts.name]
    last = seen.sessions[-1] if seen.sessions else None
    measured = seen.measured
    problem = seen.given_up.reason if seen.given_up else None
    if problem is None and seen.parked is not None:
        problem = seen.parked.reason
    return ServerReport(
        name=facts.name,
        url=facts.url,
        tls=facts.tls,
        api_version=last.api_version if last else facts.api_version,
        certificate_sha256=last.certificate_sha256 if last else None,
        user=last.user if last else None,
        clock_offset_s=last.clock_offset_s if last else None,
        mounts_limit=facts.mounts_limit,
        peak_mounts=measured.peak_mounts if measured else None,
        sessions=len(seen.sessions),
        requests=measured.requests if measured else None,
        retries=measured.retries if measured else None,
        problem=problem,
        outages=tuple(seen.outages),
        paces=tuple(seen.paces),
    )


def _waves(state: RunState, targets: Sequence[TargetReport]) -> tuple[WaveReport, ...]:
    counts = Counter(target.wave for target in targets)
    return tuple(
        WaveReport(
            name=name,
            started_at=_moment(state, wave.started_at),
            finished_at=_moment(state, wave.finished_at),
            targets=counts[name],
        )
        for name, wave in state.waves.items()
    )


def _target(record: MountRecord, state: RunState) -> TargetReport:
    planned = record.planned
    about = record.proven or (record.attempts[-1] if record.attempts else None)
    return TargetReport(
        key=planned.key,
        wave=planned.wave,
        server=planned.server,
        backup_server=planned.backup_server or None,
        vm=planned.vm,
        label=planned.label,
        os=planned.os_kind.value.lower(),
        source=planned.source.value,
        critical=planned.critical,
        result=_result(record),
        mount=record.mount_state,
        message=record.message if record.is_final else _unfinished(record, state),
        roots=record.roots,
        mount_href=record.mount,
        point=_point(record, state),
        attempts=tuple(_attempt(attempt, state) for attempt in record.attempts),
        phases_s=_phases(record),
        spans=record.spans,
        verdict_s=record.verdict_at,
        checks=about.checks if about else (),
        downloads=about.downloads if about else (),
        objectives=tuple(target_objectives(record, state)),
    )


def _result(record: MountRecord) -> Result:
    if record.result is not None:
        return record.result
    if record.phase is Phase.HELD and record.standing is not None:
        return record.standing
    return Result.UNKNOWN if record.ever_submitted else Result.CANCELLED


def _unfinished(record: MountRecord, state: RunState) -> str:
    if record.phase is Phase.HELD:
        until = "somebody ends the hold"
        if record.kept_until is not None:
            until = f"{state.moment(record.kept_until):%Y-%m-%d %H:%M:%S} UTC"
        how = f"held open until {until}; end it: bulk-restore unmount {state.started.run}"
        return f"{record.message}; {how}" if record.message else how
    if not record.ever_submitted:
        return "not submitted: the run has not come to it, or was interrupted first"
    return f"not concluded: last seen {record.phase.value.replace('_', ' ')}"


def _point(record: MountRecord, state: RunState) -> PointReport | None:
    point = record.point
    if point is None:
        return None
    newest_first = [candidate.id for candidate in record.planned.search.candidates]
    return PointReport(
        id=point.id,
        name=point.name,
        created_at=point.created_at,
        age_s=round((state.started.started_at - point.created_at).total_seconds(), 3),
        policy=record.point_why,
        fallback_depth=newest_first.index(point.id) if point.id in newest_first else 0,
    )


def _attempt(attempt: AttemptRecord, state: RunState) -> AttemptReport:
    return AttemptReport(
        point_id=attempt.point,
        session=hashlib.sha256(attempt.session.encode()).hexdigest()[:8],
        task_id=attempt.task,
        submitted_at=state.moment(attempt.submitted_at),
        accepted_at=_moment(state, attempt.accepted_at),
        finished_at=_moment(state, attempt.finished_at),
        outcome=attempt.outcome,
        adopted=attempt.adopted,
        message=attempt.message,
        verdict=attempt.verdict,
        failed_checks=tuple(outcome for outcome in attempt.checks if not outcome.passed),
    )


def _phases(record: MountRecord) -> dict[str, float]:
    """Return seconds per phase; time in doubt counts as submitting."""
    seconds = record.phases_s
    spent = {name: seconds.get(Phase(name), 0.0) for name in PHASES}
    spent["submitting"] += seconds.get(Phase.IN_DOUBT, 0.0)
    return {name: round(seconds, 3) for name, seconds in spent.items()}


def _moment(state: RunState, at: float | None) -> datetime | None:
    return state.moment(at) if at is not None else None


def _not_proven(targets: Sequence[TargetReport]) -> tuple[str, ...]:
    """Say what a green report does not mean."""
    said = ["The VMs were not booted, and their applications were not started."]
    results = {target.result for target in targets}
    if Result.VERIFIED in results:
        said.append("Verified means that the plan's checks passed, and nothing beyond them.")
    if Result.MOUNTED in results or Result.VERIFIED not in results:
        said.append(
            "No file content was checked: mounted means that the guest's volumes could be listed."
        )
    if results & {Result.FAILED, Result.SKIPPED, Result.CANCELLED}:
        said.append("Nothing is said about the restore points of targets that were not mounted.")
    if Result.UNKNOWN in results:
        said.append("What became of the unknown targets: nobody can say from here.")
    return tuple(said)


def _warnings(state: RunState, targets: Sequence[TargetReport]) -> tuple[str, ...]:
    found = [
        f"{facts.name}: its certificate was NOT checked (insecure); anyone could have answered"
        for facts in state.started.servers
        if facts.tls == "insecure"
    ]
    found += _stale(state)
    for name, server in state.servers.items():
        found += [f"{name}: a session was lost: {end.reason}" for end in server.ended if end.lost]
        if server.given_up is not None:
            found.append(f"{name} was given up: {server.given_up.reason}")
    found += [note.message for note in state.notes]
    found += [
        f"{target.key}: {check.name}: {check.path}: {check.observed}"
        for target in targets
        for check in target.checks
        if check.warning
    ]
    return tuple(found)


def _stale(state: RunState) -> list[str]:
    """Say on which servers even the newest restore point that the run chose was old."""
    newest: dict[str, RestorePoint] = {}
    for record in state.records.values():
        point, server = record.planned.point, record.planned.server
        if point is not None and (
            server not in newest or point.created_at > newest[server].created_at
        ):
            newest[server] = point
    ages = {
        name: (state.started.started_at - point.created_at).total_seconds()
        for name, point in newest.items()
    }
    return [
        f"{name}: even the newest restore point of this run ({newest[name].name}) was "
        f"{duration(age)} old when it began: its inventory is stale, or no newer data comes, "
        "unless the plan asks for older points"
        for name, age in ages.items()
        if age > STALE_S
    ]
