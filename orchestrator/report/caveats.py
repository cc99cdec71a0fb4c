"""What a report does not prove, and what it warns of. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from orchestrator.core.left_open import DIED
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import RestorePoint, Result, ServerName
from orchestrator.core.proof import CheckOutcome
from orchestrator.core.run_state import RunState
from orchestrator.core.text import counted, duration
from orchestrator.report.objectives import age_s, why_not_compared
from orchestrator.report.values import CheckReport

STALE_S = 86_400.0
"""Seconds; if no point is newer, somebody should check that data is still collected."""


def narrowed(state: RunState) -> str | None:
    """Return by what and to what part of its plan a run was narrowed; None: it took all of it."""
    started = state.started
    why = [f"--only {glob}" for glob in started.only]
    if started.retry_of is not None:
        why.append(f"--retry-failed {started.retry_of}")
    elif started.keys is not None:
        why.append("--retry-failed")
    if started.part is not None:
        why.append(f"--shard {started.part}")
    if not why:
        return None
    taken = f"only {counted(len(state.records), 'target')}"
    if started.entries is not None:
        places = {record.planned.place for record in state.records.values()}
        all_of_them = counted(started.entries, "entry", "entries")
        part = f"{len(places)} of the plan's {all_of_them}"
        taken = f"{taken}, of {part}" if state.records else f"no target of the plan's {all_of_them}"
    return f"by {', '.join(why)}: {taken}"


def not_proven(
    state: RunState, results: Collection[Result], *, goes_on: bool = False
) -> tuple[str, ...]:
    """Return what a green report does not prove."""
    lines = ["The VMs were not booted, and their applications were not started."]
    simulated = sorted(state.simulated_servers)
    if simulated:
        lines.insert(0, f"SIMULATED: {', '.join(simulated)}: nothing is said about a real server.")
    why = narrowed(state)
    if why is not None:
        lines.append(f"The run was narrowed {why}; nothing is said about the rest of the plan.")
    uncompared = why_not_compared(state) if state.started.regression is not None else None
    if uncompared is not None:
        lines.append(f"Whether the run took longer than usual was not judged: {uncompared}.")
    if Result.VERIFIED in results:
        lines.append("Verified means that the plan's checks passed, and nothing beyond them.")
    if Result.MOUNTED in results or Result.VERIFIED not in results:
        lines.append(
            "No file content was checked: mounted means that the guest's volumes could be listed."
        )
    if not {Result.FAILED, Result.SKIPPED, Result.CANCELLED}.isdisjoint(results):
        lines.append("Nothing is said about the restore points of targets that were not mounted.")
    if any(check.undecided for record in state.records.values() for check in _last_checks(record)):
        lines.append("Checks that could not be judged say nothing of their restore points.")
    lost = [each for each in state.records.values() if _is_lost(each)]
    if goes_on:  # what has no result yet may get one
        lost = [each for each in lost if each.result is not None]
    if lost and Result.UNKNOWN in results:
        lines.append("What became of the unknown targets: nobody can say from here.")
    return tuple(lines)


def _last_checks(record: MountRecord) -> Sequence[CheckOutcome]:
    return record.attempts[-1].checks if record.attempts else ()


def _is_lost(record: MountRecord) -> bool:
    """Return whether nobody can say what became of a target; not for want of drive letters."""
    known = record.verdict is Result.UNKNOWN and any(
        check.undecided for check in _last_checks(record)
    )
    return record.result in {Result.UNKNOWN, None} and not known


def warnings(
    state: RunState, checked: Iterable[tuple[str, Sequence[CheckReport]]]
) -> tuple[str, ...]:
    """Return what the run wants to be known; `checked` are the checks of each target by key."""
    lines = [
        f"{facts.name}: its certificate was NOT checked (insecure); anyone could have answered"
        for facts in state.started.servers
        if facts.tls == "insecure"
    ]
    lines += _stale(state)
    lines += _paused(state)
    for name, server in state.servers.items():
        lines += [
            f"{name}: a session was lost: {end.reason}"
            for end in server.ended
            if end.lost and not end.left_open
        ]
        if server.given_up is not None:
            lines.append(f"{name} was given up: {server.given_up.reason}")
        lines += [
            f"LEFT MOUNTED by no target: {name}: {stray.mount or stray.task}: {stray.reason}"
            for stray in server.strays.values()
        ]
        lines += [
            f"{name}: {stray.mount or stray.task} was removed: {stray.reason}"
            for stray in server.strays_removed
        ]
    lines += [note.message for note in state.notes]
    lines += [
        f"{name}: its session was not ended: whether a mount of no target is open there is not "
        f"known ({DIED})"
        for name, sessions in state.unaudited_sessions.items()
        if DIED in sessions.values()
    ]
    lines += [
        ": ".join(filter(None, (key, check.name, check.path, check.observed)))
        for key, checks in checked
        for check in checks
        if check.warning
    ]
    return tuple(lines)


def _paused(state: RunState) -> list[str]:
    """Return a warning for a run that people have paused: its RTO counts that time."""
    ends_at = state.finished.at if state.finished else state.last_at
    spans = [(ends_at if end is None else end) - start for start, end in state.pauses]
    if not spans:
        return []
    times = "once" if len(spans) == 1 else f"{len(spans)} times"
    return [
        f"the run was paused {times}, for {duration(sum(spans))} in all; RTO and durations count "
        "that time"
    ]


def _stale(state: RunState) -> list[str]:
    """Return a warning for each server whose newest chosen restore point is old."""
    newest: dict[ServerName, RestorePoint] = {}
    for record in state.records.values():
        point, server = record.planned.point, record.planned.server
        if point is not None and (
            server not in newest or point.created_at > newest[server].created_at
        ):
            newest[server] = point
    ages = {name: age_s(point, name, state) for name, point in newest.items()}
    return [
        f"{name}: even the newest restore point of this run ({newest[name].name}) was "
        f"{duration(age)} old when it began: its inventory is stale, or no newer data comes, "
        "unless the plan asks for older points"
        for name, age in ages.items()
        if age > STALE_S
    ]
