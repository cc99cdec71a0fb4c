"""How long the last whole runs of a plan took: what a run's own time is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import (
    ControlApplied,
    RunFinished,
    RunHalted,
    RunResumed,
    RunStarted,
    SessionOpened,
    StopRequested,
    TargetConcluded,
    WaveFinished,
    WaveStarted,
)
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.makespan import NOT_TRIED, PastMakespans, makespan
from orchestrator.core.model import RunId, WaveName
from orchestrator.core.records import read_event

COMPARED_RUNS = 5
"""How many of the last whole runs are compared with."""

RUNS_BACK = 50
"""How many runs of a plan back they are looked for."""

TELLING = (
    RunStarted,
    SessionOpened,
    WaveStarted,
    WaveFinished,
    TargetConcluded,
    RunHalted,
    StopRequested,
    RunResumed,
    ControlApplied,
    RunFinished,
)
"""The events from which a makespan follows."""

ENDED_ITSELF = frozenset({ExitCode.GOOD, ExitCode.NOT_GOOD})
"""Exit codes of runs that came to their end, and knew all about it."""


def makespans_of(
    runs: Iterable[tuple[RunId, Iterable[tuple[str, bytes]]]],
    on_damage: Callable[[RunId, JournalDamaged], None],
) -> PastMakespans:
    """Return the makespans of the last whole runs, real and simulated ones apart.

    `runs` are the newest first, with their records of `TELLING` as type and body. A run of which
    one cannot be read is passed over, and `on_damage` is told.
    """
    found: dict[bool, list[float]] = {False: [], True: []}
    for run, records in runs:
        try:
            whole = _whole(run, records)
        except JournalDamaged as exc:
            on_damage(run, exc)
            continue
        if whole is not None and len(found[whole[0]]) < COMPARED_RUNS:
            found[whole[0]].append(whole[1])
        if all(len(each) == COMPARED_RUNS for each in found.values()):
            break
    return PastMakespans(real=tuple(found[False]), simulated=tuple(found[True]))


def _whole(run: RunId, records: Iterable[tuple[str, bytes]]) -> tuple[bool, float] | None:
    """Return whether a run was simulated, and its makespan; None: it was not whole."""
    began: dict[WaveName, float] = {}
    ended: dict[WaveName, float] = {}
    is_simulated = has_ended = False
    for kind, body in records:
        match read_event(kind, body, f"a record of run {run}"):
            case RunStarted(only=only, keys=keys, part=part) if only or keys is not None or part:
                return None
            case RunHalted() | StopRequested() | RunResumed() | ControlApplied():
                return None
            case TargetConcluded(result=result) if result in NOT_TRIED:
                return None
            case SessionOpened(simulated=True):
                is_simulated = True
            case WaveStarted(wave=wave, at=at):
                began[wave] = at
            case WaveFinished(wave=wave, at=at):
                ended[wave] = at
            case RunFinished(exit_code=code):
                has_ended = code in ENDED_ITSELF
            case _:
                pass
    took = makespan(began, ended)
    return None if took is None or not has_ended else (is_simulated, took)


def with_makespans(
    started: RunStarted, makespans: Callable[[str, RunId], PastMakespans]
) -> RunStarted:
    """Return the beginning of a run with what its own time is compared with at the end.

    `makespans` returns that for a plan and the run that asks; a plan that compares nothing does
    not ask.
    """
    if started.regression is None:
        return started
    return replace(started, makespans=makespans(started.plan, started.run))
