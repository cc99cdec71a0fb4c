"""From the fold of a run to the report's values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from orchestrator.core.causes import cause_of
from orchestrator.core.controls import control_words
from orchestrator.core.events import ControlApplied, RunStarted, ServerFacts, StrayFound
from orchestrator.core.exit_codes import stop_words, totals
from orchestrator.core.left_open import LeftOpen
from orchestrator.core.lifecycle import AttemptRecord, MountRecord, Phase, Span, TaskStop, Wait
from orchestrator.core.model import Result, session_id
from orchestrator.core.proof import CheckOutcome
from orchestrator.core.run_state import RunState
from orchestrator.core.text import moment
from orchestrator.report.causes import hint_of, seen_of, sessions_on
from orchestrator.report.caveats import narrowed, not_proven, warnings
from orchestrator.report.described import Moment, seconds
from orchestrator.report.exit_codes import UNCHECKED, halted, is_unchecked, reasons
from orchestrator.report.foreseen import forecast_of
from orchestrator.report.gates import gates_of
from orchestrator.report.objective_values import Reached, TargetObjectives
from orchestrator.report.objectives import age_s, common_objectives, target_objectives
from orchestrator.report.part_values import PartReport
from orchestrator.report.server_values import (
    NOT_VISIBLE,
    OutageReport,
    PaceReport,
    ServerReport,
    StrayReport,
    UnreadReport,
)
from orchestrator.report.shards import shard_reports
from orchestrator.report.values import (
    PHASES,
    SCHEMA_VERSION,
    AttemptReport,
    CheckReport,
    ControlReport,
    CopyReport,
    MeasuredReport,
    PointReport,
    Report,
    RunReport,
    SessionsReport,
    StopReport,
    TargetReport,
    TaskStopReport,
    WaitReport,
    WaveReport,
)

Value = TypeVar("Value", bound=msgspec.Struct)


def _copy_fields(kind: type[Value], origin: object, **own: Any) -> Value:
    """Return a `kind` with the fields in `own`, and all others as `origin` has them."""
    names = (name for name in kind.__struct_fields__ if name not in own)
    return kind(**own, **{name: getattr(origin, name) for name in names})


def _converted_all(values: Iterable[object], kind: type[Value]) -> tuple[Value, ...]:
    """Return values with the same fields as the report has them."""
    return tuple(msgspec.convert(each, kind, from_attributes=True) for each in values)


def summarize(state: RunState, *, chain_head: str | None = None, goes_on: bool = False) -> Report:
    """Return the report of a run, finished or not; `goes_on`: somebody works on it now.

    A target without a conclusion is reported as what is known now: `cancelled` if it was
    never submitted, else `unknown`. While the run goes on, its phase is with it.
    """
    goes_on = goes_on and state.finished is None
    targets = tuple(_target(record, state, goes_on=goes_on) for record in state.records.values())
    return Report(
        schema_version=SCHEMA_VERSION,
        run=_run(state, chain_head, goes_on=goes_on),
        totals=totals(
            len(targets),
            (target.result for target in targets),
            (target.mount for target in targets),
            strays=len(state.strays),
        ),
        servers=tuple(_server(facts, state) for facts in state.started.servers),
        waves=_waves(state, targets),
        targets=targets,
        objectives=tuple(common_objectives(state)),
        not_proven=not_proven(state, {target.result for target in targets}, goes_on=goes_on),
        warnings=warnings(state, ((target.key, target.checks) for target in targets)),
        strays=_strays(state.strays),
        unread=_unread(state.left_open),
        controls=tuple(_control(each, state) for each in state.controls),
        strays_removed=_strays(
            stray for server in state.servers.values() for stray in server.strays_removed
        ),
    )


def _run(state: RunState, chain_head: str | None, *, goes_on: bool) -> RunReport:
    started, finished = state.started, state.finished
    return _copy_fields(
        RunReport,
        started,
        id=started.run,
        started_at=Moment.of(started.started_at),
        finished_at=Moment.of(finished.finished_at) if finished else None,
        duration_s=seconds(_ended_at(state)),
        exit_code=finished.exit_code if finished else None,
        stops=_stops(state),
        halted=halted(state),
        reasons=reasons(state),
        interrupted=not goes_on if finished is None else finished.interrupted,
        out_of_reach=state.out_of_reach,
        narrowed=narrowed(state),
        part=_part(state.started),
        merged=(),
        missing=(),
        resumed_from=started.run if state.resumed else None,
        journal_head=chain_head,
        journal_records=state.events if chain_head is not None else None,
        forecast=forecast_of(state),
        waits_for=gates_of(state),
        shards=shard_reports(state),
    )


def _part(started: RunStarted) -> PartReport | None:
    part = started.part
    if part is None:
        return None
    deciding = (
        started.plan_sha256,
        started.locked_sha256,
        started.inventory_sha256,
        sorted(started.overrides.items()),
        started.only,
        started.seed,
        part.of,
    )
    digest = sha256(msgspec.json.encode(deciding)).hexdigest()
    return PartReport(number=part.number, of=part.of, selection_sha256=digest)


def _control(event: ControlApplied, state: RunState) -> ControlReport:
    return _copy_fields(
        ControlReport,
        event,
        at=Moment.of(state.moment(event.at)),
        words=control_words(event.asked),
    )


def _strays(strays: Iterable[StrayFound]) -> tuple[StrayReport, ...]:
    return tuple(
        StrayReport(
            server=stray.server,
            task_id=stray.task,
            mount_href=stray.mount,
            point_id=stray.point,
            message=stray.reason,
        )
        for stray in strays
    )


def _unread(left: LeftOpen) -> tuple[UnreadReport, ...]:
    return tuple(
        UnreadReport(server=server, message=left.unknown_on(server)) for server in left.unaudited
    )


def _server(facts: ServerFacts, state: RunState) -> ServerReport:
    seen = state.servers[facts.name]
    last = seen.sessions[-1] if seen.sessions else None
    problem = seen.given_up.reason if seen.given_up else None
    if problem is None and seen.parked is not None:
        problem = seen.parked.reason
    return _copy_fields(
        ServerReport,
        facts,
        api_version=last.api_version if last else facts.api_version,
        **_if_known(last, "certificate_sha256", "user", "clock_offset_s"),
        **_if_known(seen.measured, "requests", "retries"),
        peak_mounts=seen.peak_mounts if seen.measured else None,
        sessions=len(seen.sessions),
        problem=problem,
        outages=tuple(
            OutageReport(
                start_s=seconds(each.start),
                end_s=None if each.end is None else seconds(each.end),
                reason=each.reason,
            )
            for each in seen.outages
        ),
        paces=tuple(PaceReport(at_s=seconds(at), mounts=mounts) for at, mounts in seen.paces),
        replications=_sight([each.replications for each in seen.activity]),
        restores=_sight([each.restores for each in seen.activity]),
    )


def _sight(seen: Iterable[bool | None]) -> str:
    """Return whether anything was ever shown; nothing seen is never "none"."""
    shown = set(seen)
    if True in shown:
        return "seen"
    return "nothing_seen" if False in shown else NOT_VISIBLE


def _if_known(origin: object | None, *names: str) -> dict[str, Any]:
    """Return these fields of `origin`, each None if there is no `origin`."""
    return {name: getattr(origin, name) if origin else None for name in names}


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


def _target(record: MountRecord, state: RunState, *, goes_on: bool) -> TargetReport:
    planned = record.planned
    about = record.proven or (record.attempts[-1] if record.attempts else None)
    return _copy_fields(
        TargetReport,
        planned,
        backup_server=planned.backup_server or None,
        os=record.os_mounted.value.lower(),
        os_known=record.os_source.value,
        source=planned.source.value,
        result=result_of(record),
        mount=record.mount_state,
        phase=record.phase.value if goes_on and not record.is_final else None,
        message=_message(record, state, goes_on=goes_on),
        unchecked=is_unchecked(record, state),
        volumes=record.roots,
        mount_href=record.mount,
        point=_point(record, state),
        attempts=tuple(_attempt(attempt, state) for attempt in record.attempts),
        phases_s=_phases(record),
        spans=_spans(record, state),
        verdict_s=record.verdict_at,
        took_s=_took_s(record, state),
        checks=_checks(about.checks if about else ()),
        downloads=_converted_all(about.downloads if about else (), CopyReport),
        written=_written(record),
        **_failure(record, state),
        waits=tuple(_wait(each, state) for each in record.waits),
        objectives=TargetObjectives(
            **{
                each.kind: msgspec.convert(each, Reached, from_attributes=True)
                for each in target_objectives(record, state)
            }
        ),
    )


def _failure(record: MountRecord, state: RunState) -> dict[str, Any]:
    """Return what is said beside a failure: its cause, what to do, and what ran there."""
    cause = cause_of(record, result_of(record)) if record.is_final else None
    if cause is None:
        return {"cause": None, "hint": None, "sessions": None}
    seen = seen_of(record, state)
    sessions: SessionsReport | None = None
    if seen is not None:
        seen_at = Moment.of(state.moment(seen.at))
        sessions = SessionsReport(seen_at=seen_at, shown=tuple(sessions_on(record, seen)))
    return {"cause": cause, "hint": hint_of(cause, record, state), "sessions": sessions}


def _wait(wait: Wait, state: RunState) -> WaitReport:
    return WaitReport(
        activity=wait.activity.words,
        start=Moment.of(state.moment(wait.start)),
        end=_moment(state, wait.end),
        seen_at=Moment.of(state.moment(wait.seen_at)),
        is_free=wait.is_free,
    )


def _checks(outcomes: Iterable[CheckOutcome]) -> tuple[CheckReport, ...]:
    return tuple(
        _copy_fields(
            CheckReport,
            each,
            measured=_copy_fields(MeasuredReport, each.measured) if each.measured else UNSET,
        )
        for each in outcomes
    )


def _written(record: MountRecord) -> tuple[CopyReport, ...]:
    copied = (each for attempt in record.attempts for each in attempt.downloads)
    return _converted_all(dict.fromkeys(each for each in copied if each.to is None), CopyReport)


def result_of(record: MountRecord) -> Result:
    """Return a target's result, or what is known now of one without a conclusion."""
    if record.result is not None:
        return record.result
    if record.phase is Phase.HELD and record.standing is not None:
        return record.standing
    return Result.UNKNOWN if record.ever_submitted else Result.CANCELLED


def _message(record: MountRecord, state: RunState, *, goes_on: bool) -> str | None:
    if not record.is_final:
        return _unfinished(record, state, goes_on=goes_on)
    if is_unchecked(record, state):
        return "; ".join(filter(None, (f"mounted, but {UNCHECKED}", record.message)))
    return record.message


def _unfinished(record: MountRecord, state: RunState, *, goes_on: bool) -> str:
    if record.phase is Phase.HELD:
        until = "somebody ends the hold"
        if record.kept_until is not None:
            until = moment(state.moment(record.kept_until))
        how = f"held open until {until}; end it: bulk-restore unmount {state.started.run}"
        return f"{record.message}; {how}" if record.message else how
    if goes_on:
        return "; ".join(filter(None, (record.phase.words, record.message)))
    if not record.ever_submitted:
        return "not submitted: the run has not come to it, or was interrupted first"
    return f"not concluded: last seen {record.phase.words}"


def _point(record: MountRecord, state: RunState) -> PointReport | None:
    point = record.point
    if point is None:
        return None
    newest_first = [candidate.id for candidate in record.planned.search.candidates]
    return PointReport(
        id=point.id,
        name=point.name,
        created_at=Moment.of(point.created_at),
        age_s=seconds(age_s(point, record.planned.server, state)),
        policy=record.point_why,
        fallback_depth=newest_first.index(point.id) if point.id in newest_first else 0,
    )


def _attempt(attempt: AttemptRecord, state: RunState) -> AttemptReport:
    return _copy_fields(
        AttemptReport,
        attempt,
        point_id=attempt.point,
        session=session_id(attempt.session)[:8],
        task_id=attempt.task,
        submitted_at=Moment.of(state.moment(attempt.submitted_at)),
        accepted_at=_moment(state, attempt.accepted_at),
        finished_at=_moment(state, attempt.finished_at),
        os=UNSET if attempt.os_kind is None else attempt.os_kind.value.lower(),
        failed_checks=_checks(outcome for outcome in attempt.checks if not outcome.passed),
        stop=UNSET if attempt.stop is None else _stop(attempt.stop, state),
    )


def _stop(stop: TaskStop, state: RunState) -> TaskStopReport:
    return TaskStopReport(
        asked_at=Moment.of(state.moment(stop.asked_at)),
        answer=stop.answer,
        seen=stop.seen,
        message=stop.words,
    )


def _took_s(record: MountRecord, state: RunState) -> float:
    """Return the seconds from submission to verdict, of the tries since it was last taken up."""
    sent = [attempt for attempt in record.tries if attempt.outcome != "not_sent"]
    if not sent:
        return 0.0
    verdict = record.verdict_at
    if verdict is None and record.proven is not None:
        verdict = record.proven.verdict_at
    if verdict is None or verdict < sent[0].submitted_at:
        verdict = record.concluded_at if record.concluded_at is not None else _ended_at(state)
    return round(max(0.0, verdict - sent[0].submitted_at), 3)


def _phases(record: MountRecord) -> dict[str, float]:
    """Return seconds per phase; time in doubt counts as submitting."""
    seconds = record.phases_s
    spent = {name: seconds.get(Phase(name), 0.0) for name in PHASES}
    spent["submitting"] += seconds.get(Phase.IN_DOUBT, 0.0)
    return {name: round(seconds, 3) for name, seconds in spent.items()}


def _spans(record: MountRecord, state: RunState) -> tuple[Span, ...]:
    """Return the phases of a target to the end of the run: what may be open ends nowhere.

    A mount that outlived its target's result is out of reach until it was released by hand.
    """
    end = max(_ended_at(state), record.since)
    if record.phase in {Phase.QUEUED, Phase.BUSY}:
        return record.spans
    if record.phase is not Phase.DONE:
        return (*record.spans, Span(record.phase, record.since, end))
    until = end if record.may_be_open else min(record.released_at or 0.0, end)
    if record.may_be_open or until > record.since:
        return (*record.spans, Span(Phase.OUT_OF_REACH, record.since, until))
    return record.spans


def _ended_at(state: RunState) -> float:
    return state.finished.at if state.finished else state.last_at


def _stops(state: RunState) -> tuple[StopReport, ...]:
    """Return when the run's last process was asked to stop, or halted itself, and why."""
    stops = [(each.at, stop_words(each.signal)) for each in state.stops]
    if state.halted is not None:
        stops.append((state.halted.at, f"halt: {state.halted.detail}"))
    return tuple(StopReport(at_s=seconds(at), why=why) for at, why in sorted(stops))


def _moment(state: RunState, at: float | None) -> Moment | None:
    return Moment.of(state.moment(at)) if at is not None else None
