"""One report of all parts of a plan: totals, the worst exit code, and what is missing. Pure.

Times of a part are seconds of its own run, so there is no common timeline, and an objective is
the worst of what its parts measured, each from its own start. A part without a report may have
done anything: the whole is in doubt then.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec import structs
from msgspec.structs import replace

from orchestrator.core.exit_codes import ExitCode, totals
from orchestrator.core.lifecycle import FIRM_RESULTS
from orchestrator.core.model import Result
from orchestrator.core.run_state import good_results
from orchestrator.core.text import counted
from orchestrator.report.described import Moment, seconds
from orchestrator.report.exit_codes import PRECEDENCE
from orchestrator.report.gates import gate_words
from orchestrator.report.merging.reading import Parts
from orchestrator.report.objective_values import Objective
from orchestrator.report.server_values import OutageReport, ServerReport
from orchestrator.report.values import (
    ControlReport,
    PublishedReport,
    PublishedTarget,
    Report,
    RunReport,
    StopReport,
    TargetReport,
    WaveReport,
)

T = TypeVar("T")

BUSY = ("submitting", "running", "collecting", "verifying")
"""Phases between the first submission of a target and its verdict."""


def join(parts: Parts) -> Report:
    """Return the report of the whole."""
    reports = [each.report for each in parts.parts]
    targets = tuple(_targets(reports))
    strays = tuple(stray for each in reports for stray in each.strays)
    lacking, unfinished = _lacking(parts), unfinished_parts(parts)
    objectives = tuple(_objectives(reports, is_whole=not parts.missing))
    return Report(
        schema_version=reports[0].schema_version,
        run=_run(parts, targets, lacking, unfinished),
        totals=totals(
            len(targets),
            (each.result for each in targets),
            (each.mount for each in targets),
            strays=len(strays),
        ),
        servers=tuple(_servers(reports)),
        waves=tuple(_waves(reports, targets)),
        targets=targets,
        objectives=objectives,
        not_proven=_not_proven(reports, lacking, unfinished),
        strays=strays,
        warnings=tuple(_warnings(parts)),
        unread=tuple(unread for each in reports for unread in each.unread),
        strays_removed=(),
        controls=tuple(_controls(parts)),
    )


def _controls(parts: Parts) -> Sequence[ControlReport]:
    """Return what people asked of the parts, in the order of time, each with its part."""
    found = (
        replace(each, words=f"shard {part.part.number}/{part.part.of}: {each.words}")
        for part in parts.parts
        for each in part.report.controls
    )
    return sorted(found, key=lambda each: each.at)


def exit_code_of(parts: Parts, targets: Sequence[object]) -> ExitCode:
    """Return the worst exit code: a part that is missing, or has not ended, is in doubt."""
    codes = [each.report.run.exit_code for each in parts.parts]
    applies = {ExitCode.IN_DOUBT if code is None else code for code in codes}
    if parts.missing:
        applies.add(ExitCode.IN_DOUBT)
    if not targets:
        applies.add(ExitCode.NOT_GOOD)
    applies -= {ExitCode.GOOD}
    unknown = applies - set(PRECEDENCE)
    if unknown:
        return ExitCode.INTERNAL
    return next((code for code in PRECEDENCE if code in applies), ExitCode.GOOD)


def _lacking(parts: Parts) -> str | None:
    """Return which parts have no report, in words; None: all have one."""
    missing, of = parts.missing, parts.parts[0].part.of
    if not missing:
        return None
    named = ", ".join(f"{number}/{of}" for number in missing[:50])
    more = f" and {len(missing) - 50} more" if len(missing) > 50 else ""
    have = "has" if len(missing) == 1 else "have"
    return f"{counted(len(missing), 'shard')} {have} no report: {named}{more}"


def unfinished_parts(parts: Parts) -> list[str]:
    """Return which parts had not ended when their reports were made, and what they waited for."""
    return [
        f"shard {each.part.number}/{each.part.of} has not ended"
        + "".join(f"; {gate_words(gate)}" for gate in each.report.run.waits_for)
        for each in parts.parts
        if each.report.run.exit_code is None
    ]


def _of_each(parts: Parts, words: Callable[[PublishedReport], Iterable[str]]) -> Iterator[str]:
    """Yield the words of each part with its number; once where all parts say the same."""
    said = [list(words(each.report)) for each in parts.parts]
    everywhere = [line for line in said[0] if all(line in other for other in said[1:])]
    yield from everywhere if len(said) > 1 else ()
    for part, lines in zip(parts.parts, said, strict=True):
        name = f"shard {part.part.number}/{part.part.of}"
        yield from (f"{name}: {line}" for line in lines if len(said) == 1 or line not in everywhere)


# --- the run -------------------------------------------------------------------------------------


def _run(
    parts: Parts, targets: Sequence[TargetReport], lacking: str | None, unfinished: Sequence[str]
) -> RunReport:
    runs = [each.report.run for each in parts.parts]
    first, began = runs[0], min(run.started_at for run in runs)
    ended = [run.finished_at for run in runs if run.finished_at is not None]
    is_over = len(ended) == len(runs) and lacking is None
    until = max((*ended, began))
    halts = list(_of_each(parts, lambda each: [each.run.halted] if each.run.halted else []))
    reasons = [*([lacking] if lacking else []), *unfinished]
    reasons += _of_each(parts, lambda each: each.run.reasons)
    if not targets:
        reasons.append("no target is selected: nothing is proven")
    names = "\0".join(run.id for run in runs)
    return RunReport(
        **{
            **{name: getattr(first, name) for name in first.__struct_fields__},
            "id": f"merged-{hashlib.sha256(names.encode()).hexdigest()[:12]}",
            "reason": _together(run.reason for run in runs),
            "version": _together(run.version for run in runs) or first.version,
            "user": _together(run.user for run in runs) or first.user,
            "host": _together(run.host for run in runs) or first.host,
            "started_at": began,
            "finished_at": until if is_over else None,
            "duration_s": seconds((until - began).total_seconds()),
            "exit_code": int(exit_code_of(parts, targets)),
            "stops": tuple(_stops(parts, began)),
            "halted": "; ".join(halts) or None,
            "reasons": tuple(reasons),
            "interrupted": not is_over or any(run.interrupted for run in runs),
            "out_of_reach": sum(run.out_of_reach for run in runs),
            "narrowed": _narrowed(first.only, lacking, len(targets)),
            "resumed_from": None,
            "require_checks": any(run.require_checks for run in runs),
            "journal_head": None,
            "journal_records": None,
            "part": None,
            "forecast": None,
            "waits_for": (),
            "merged": tuple(each.merged() for each in parts.parts),
            "missing": tuple(parts.missing),
        },
        utc_offset_s=0.0,
    )


def _together(texts: Iterable[str | None]) -> str | None:
    return ", ".join(dict.fromkeys(each for each in texts if each)) or None


def _narrowed(only: Sequence[str], lacking: str | None, count: int) -> str | None:
    why = [f"--only {glob}" for glob in only] + ([lacking] if lacking else [])
    return f"by {', '.join(why)}: only {counted(count, 'target')}" if why else None


def _stops(parts: Parts, began: Moment) -> Iterator[StopReport]:
    for each in parts.parts:
        later = (each.report.run.started_at - began).total_seconds()
        name = f"shard {each.part.number}/{each.part.of}"
        for stop in each.report.run.stops:
            yield StopReport(at_s=seconds(stop.at_s + later), why=f"{name}: {stop.why}")


def _not_proven(
    reports: Sequence[PublishedReport], lacking: str | None, unfinished: Iterable[str]
) -> tuple[str, ...]:
    """Return what the whole does not prove: what all of it is, no part says of itself."""
    lines = dict.fromkeys(
        line
        for each in reports
        for line in each.not_proven
        if each.run.narrowed is None or each.run.narrowed not in line
    )
    results = {target.result for each in reports for target in each.targets}
    if Result.VERIFIED in results and Result.MOUNTED not in results:
        lines.pop(_NOTHING_CHECKED, None)  # a part without a target says it
    if reports[0].run.only:
        lines["What --only left out: nothing is said about the rest of the plan."] = None
    if lacking is not None:
        lines[f"{lacking}; nobody can say from here what became of its targets."] = None
    for line in unfinished:
        lines[f"{line}: this report has only what it had done by then."] = None
    return tuple(lines)


_NOTHING_CHECKED = (
    "No file content was checked: mounted means that the guest's volumes could be listed."
)


def _warnings(parts: Parts) -> Iterator[str]:
    for directory in parts.empty:
        yield f"{directory} has no report.json: its job wrote none"
    for each in parts.parts:
        if each.evidence == "none":
            yield (
                f"shard {each.part.number}/{each.part.of}: there is no evidence in "
                f"{each.directory}: its report was taken as it is"
            )
    yield from _of_each(parts, lambda each: each.warnings)


# --- what the parts have in common ---------------------------------------------------------------


def _targets(reports: Sequence[PublishedReport]) -> list[TargetReport]:
    """Return the targets of all parts, by wave; what none could list is there once."""
    waves = {wave.name: place for place, wave in enumerate(reports[0].waves)}
    once: dict[str, TargetReport] = {}
    for report in reports:
        good = good_results(require_checks=report.run.require_checks)
        for target in report.targets:
            once.setdefault(target.key, _target(target, good))
    return sorted(once.values(), key=lambda each: (waves.get(each.wave, len(waves)), each.key))


def _target(target: PublishedTarget, good: frozenset[Result]) -> TargetReport:
    return TargetReport(
        **{name: getattr(target, name) for name in target.__struct_fields__},
        unchecked=target.result in FIRM_RESULTS and target.result not in good,
        spans=(),
        verdict_s=None,
        took_s=round(sum(target.phases_s.get(name, 0.0) for name in BUSY), 3),
    )


def _servers(reports: Sequence[PublishedReport]) -> Iterator[ServerReport]:
    began = min(each.run.started_at for each in reports)
    for place, first in enumerate(reports[0].servers):
        of_each = [
            (each.servers[place], (each.run.started_at - began).total_seconds())
            for each in reports
            if len(each.servers) > place and each.servers[place].name == first.name
        ]
        servers = [server for server, _ in of_each]
        yield structs.replace(
            max(servers, key=lambda each: each.sessions),
            clock_offset_s=_same(each.clock_offset_s for each in servers if each.sessions),
            certificate_sha256=_same(
                each.certificate_sha256 for each in servers if each.certificate_sha256
            ),
            peak_mounts=None,
            sessions=sum(each.sessions for each in servers),
            requests=_sum(each.requests for each in servers),
            retries=_sum(each.retries for each in servers),
            problem=_together(each.problem for each in servers),
            outages=tuple(
                OutageReport(
                    start_s=seconds(outage.start_s + later),
                    end_s=None if outage.end_s is None else seconds(outage.end_s + later),
                    reason=outage.reason,
                )
                for server, later in of_each
                for outage in server.outages
            ),
            paces=(),
        )


def _same(values: Iterable[T]) -> T | None:
    """Return the value if all are the same."""
    found = list(values)
    return found[0] if found and all(each == found[0] for each in found) else None


def _sum(values: Iterable[int | None]) -> int | None:
    known = [each for each in values if each is not None]
    return sum(known) if known else None


def _waves(
    reports: Sequence[PublishedReport], targets: Sequence[TargetReport]
) -> Iterator[WaveReport]:
    counts = Counter(target.wave for target in targets)
    for place, first in enumerate(reports[0].waves):
        waves = [each.waves[place] for each in reports if len(each.waves) > place]
        starts = [each.started_at for each in waves if each.started_at is not None]
        ends: list[Moment | None] = [each.finished_at for each in waves if each.targets]
        known = [end for end in ends if end is not None]
        yield WaveReport(
            name=first.name,
            started_at=min(starts, default=None),
            finished_at=max(known) if known and len(known) == len(ends) else None,
            targets=counts[first.name],
        )


def _objectives(reports: Sequence[PublishedReport], *, is_whole: bool) -> Iterator[Objective]:
    together: dict[tuple[str, str], list[Objective]] = {}
    for report in reports:
        for each in report.objectives if report.targets else ():
            together.setdefault((each.scope, each.kind), []).append(each)
    for found in together.values():
        measured = [each.actual_s for each in found if each.actual_s is not None]
        is_measured = is_whole and len(measured) == len(found)
        yield structs.replace(
            found[0],
            actual_s=max(measured) if is_measured else None,
            met=is_measured and all(each.met for each in found),
        )
