"""The line mode: one line per change that matters, and a summary line every 30 seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TextIO

from orchestrator.events import (
    CheckMade,
    DeadlinePassed,
    Event,
    FileCopied,
    MountFound,
    MountKept,
    MountLeft,
    OutOfReach,
    PointChosen,
    RunFinished,
    RunHalted,
    RunStarted,
    ServerGivenUp,
    ServerPaced,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    SessionTakenUp,
    StopRequested,
    SubmissionInDoubt,
    SubmissionStarted,
    TargetConcluded,
    TargetReopened,
    TaskAccepted,
    TaskFailed,
    UnmountStarted,
    VerdictReached,
    WaveFinished,
    WaveStarted,
)
from orchestrator.lifecycle import MountRecord, Phase
from orchestrator.model import counted, printable
from orchestrator.outlook import Expected, clock
from orchestrator.progress.view import Lines
from orchestrator.proof import CheckOutcome, DownloadOutcome, Fate
from orchestrator.runstate import RunState
from orchestrator.tally import Tally

TROUBLED = frozenset({Fate.FAILED, Fate.UNKNOWN})


class LineView:
    """Plain lines on stderr, calm enough for a CI log."""

    interval_s = 30.0

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        """`verbose` adds the short steps: submitted, each check and file, being unmounted."""
        self._lines = Lines(stream)
        self._verbose = verbose
        self._tally = Tally()
        self._joined = False

    def expect(self, expected: Expected) -> None:
        """Know what earlier runs say of durations."""
        self._tally.expect(expected)

    def take_over(self, found: RunState) -> None:
        """Say which run goes on, and how far it was."""
        self._tally.take_over(found)
        begun = found.started
        self._lines.write(
            f"{clock(self._tally.now)} run {begun.run} of {printable(begun.plan)} goes on: "
            f"{self._tally.counts()}"
        )

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Count the event, and write no line; the next summary says which run it is."""
        self._tally.take(event, record)
        self._joined = True

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Write the event's line, if it has one."""
        self._tally.take(event, record)
        line = _target_line(event, record, self._verbose) if record else _run_line(event)
        if isinstance(event, MountKept) and record is not None:
            line = _held_line(event, record, self._tally)
        if isinstance(event, StopRequested) and self._tally.harder is not None:
            line = f"{line}; {self._tally.harder}"
        if line is not None:
            self._lines.write(f"{clock(event.at)} {line}")

    def abandon(self, *, gone: bool) -> None:
        """Say once that the process is gone, or that another one goes on."""
        tally = self._tally
        if tally.started is None or tally.abandoned is gone:
            return
        tally.abandoned = gone
        run = tally.started.run
        word = (
            f"its process is gone; go on with it: bulk-restore resume {run}"
            if gone
            else f"run {run} goes on"
        )
        self._lines.write(f"{clock(tally.now)} {word}")

    def draw(self, now: float) -> None:
        """Write the summary line."""
        tally = self._tally
        tally.now = max(tally.now, now)
        if self._joined and tally.started is not None:
            self._joined = False
            begun = tally.started
            self._lines.write(
                f"{clock(tally.now)} run {begun.run} of {printable(begun.plan)}: {tally.counts()}"
                f"{', waiting for confirmation' * tally.awaits_confirmation}"
            )
            return
        if tally.abandoned:
            return  # nothing changes, and that was said
        if not tally.targets or tally.done + tally.phases[Phase.HELD] == tally.targets:
            return  # nothing is left, or only what was said to be held
        self._lines.write(f"{clock(tally.now)} {tally.counts()}, {tally.rest().words}")

    def close(self) -> None:
        """Nothing to put back."""


def _run_line(event: Event) -> str | None:
    match event:
        case RunStarted(plan=plan, run=run):
            return f"run {run} of {printable(plan)} started"
        case SessionOpened(server=server, user=user):
            return f"{printable(server)}: logged on as {printable(user)}"
        case SessionTakenUp(server=server):
            return f"{printable(server)}: the earlier process's logon session goes on"
        case SessionEnded(server=server, lost=True, reason=reason):
            return f"{printable(server)}: SESSION LOST: {printable(reason)}"
        case ServerParked(server=server, reason=reason):
            return f"{printable(server)}: waiting for it: {printable(reason)}"
        case ServerResumed(server=server, waited_s=waited):
            return f"{printable(server)}: answers again after {clock(waited)}"
        case ServerGivenUp(server=server, reason=reason):
            return f"{printable(server)}: GIVEN UP: {printable(reason)}"
        case ServerPaced(server=server, allowed=int(allowed)):
            return f"{printable(server)}: is given {counted(allowed, 'mount')} at once for now"
        case ServerPaced(server=server):
            return f"{printable(server)}: is given as many mounts as the plan allows again"
        case WaveStarted(wave=wave):
            return f"wave {printable(wave)} started"
        case WaveFinished(wave=wave):
            return f"wave {printable(wave)} finished"
        case RunHalted(detail=detail):
            return f"HALTED: {printable(detail)}; open mounts are unmounted"
        case StopRequested(signal=signal, forced=forced):
            how = "cancelling and unmounting" if forced else "running mounts end first"
            return f"stopping ({signal}): {how}"
        case RunFinished(exit_code=code):
            return f"run finished, exit code {code}"
        case _:
            return None


def _target_line(event: Event, record: MountRecord, verbose: bool) -> str | None:
    key = printable(record.planned.key)
    match event:
        case TargetConcluded(result=result, mount=mount, message=message):
            why = f": {printable(message)}" if message else ""
            return f"{key}: {result}, mount {mount}{why}"
        case TargetReopened(was=was):
            return f"{key}: taken up again, it was {was}"
        case TaskFailed(message=message):
            return f"{key}: the mount failed: {printable(message or 'no reason given')}"
        case SubmissionInDoubt(reason=reason):
            return f"{key}: in doubt: {printable(reason)}"
        case DeadlinePassed(phase=phase, allowed_s=allowed):
            return f"{key}: {phase} takes longer than {clock(allowed)}; watching on to unmount it"
        case MountLeft(reason=reason) | OutOfReach(reason=reason):
            return f"{key}: {printable(reason)}"
        case TaskAccepted(task=task, adopted=adopted):
            how = "found again as" if adopted else "mounting as"
            return f"{key}: {how} {printable(task)}"
        case PointChosen(point=point, why=why):
            return f"{key}: now restore point {printable(point.name)} ({printable(why)})"
        case MountFound(roots=roots):
            return f"{key}: mounted, volumes: {printable(', '.join(roots)) or 'none'}"
        case CheckMade(outcome=outcome) if verbose or outcome.warning or not outcome.passed:
            return f"{key}: {_check(outcome)}"
        case FileCopied(outcome=outcome) if verbose or outcome.fate in TROUBLED:
            return f"{key}: {_file(outcome)}"
        case VerdictReached() if record.attempts[-1].downloads:
            return f"{key}: {_files(record.attempts[-1].downloads)}"
        case SubmissionStarted() if verbose:
            return f"{key}: submitting"
        case UnmountStarted() if verbose:
            return f"{key}: unmounting"
        case _:
            return None


def _held_line(event: MountKept, record: MountRecord, tally: Tally) -> str:
    end = "somebody ends it" if event.until is None else tally.time_of_day(event.until)
    run = tally.started.run if tally.started else "RUN"
    return (
        f"{printable(event.key)}: {record.verdict}, HELD OPEN until {end} "
        f"({printable(event.reason)}); end it: bulk-restore unmount {run}"
    )


def _check(outcome: CheckOutcome) -> str:
    verdict = "passed" if outcome.passed else "FAILED"
    how = "warns" if outcome.warning else verdict
    return (
        f"check {printable(outcome.name)} {how}: {printable(outcome.path)}: expected "
        f"{printable(outcome.expected)}, observed {printable(outcome.observed)}"
    )


def _file(outcome: DownloadOutcome) -> str:
    path, why = printable(outcome.path), printable(outcome.message or "no reason given")
    match outcome.fate:
        case Fate.SAVED:
            return f"copied {path} to {printable(outcome.to or '?')}"
        case Fate.RESTORED:
            return f"wrote {path} into the guest"
        case Fate.FAILED:
            return f"NOT COPIED: {path}: {why}"
        case Fate.UNKNOWN:
            return f"in doubt whether it was copied: {path}: {why}"


def _files(outcomes: Iterable[DownloadOutcome]) -> str:
    """Return the sum of what became of a target's files."""
    fates = Counter(outcome.fate in TROUBLED for outcome in outcomes)
    trouble = f", {fates[True]} not" if fates[True] else ""
    return f"{counted(fates[False], 'file')} copied{trouble}"
