"""The line mode: one line per change that matters, and a summary line every 30 seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TextIO

from orchestrator.core import events
from orchestrator.core.controls import control_words
from orchestrator.core.events import Event
from orchestrator.core.exit_codes import DECLINED, NOTHING_MOUNTED, exit_words
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.proof import CheckOutcome, DownloadOutcome, Fate
from orchestrator.core.records import Stall
from orchestrator.core.text import clock, counted, duration, printable
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.view import Lines, View
from orchestrator.views.writes import PendingWrites


class LineView(View):
    """Plain lines on stderr, calm enough for a CI log."""

    interval_s = 30.0

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        """`verbose` adds the short steps: submitted, each check and file, being unmounted."""
        self._lines = Lines(stream)
        self._verbose = verbose
        super().__init__()
        self._joined = False
        self._writes = PendingWrites()
        self._standing: list[str] = []
        """What was last said to stand still."""

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Write no line; the next one names the run and its progress."""
        self._joined = True
        self._writes.note(event, record)

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Write the event's line, if it has one."""
        if isinstance(event, events.RunResumed) and self._joined:
            self._join(" goes on")
        repeated = isinstance(event, events.FileCopied) and self._is_repeated(event)
        for doubtful, outcome in self._writes.note(event, record):
            self._doubt(event.at, doubtful, outcome)
        if repeated:
            return
        line = (
            _target_line(event, record, self._verbose)
            if record
            else _run_line(event, self.stats.stops)
        )
        if isinstance(event, events.MountKept) and record is not None:
            line = _held_line(event, record, self.stats)
        if isinstance(event, events.StopRequested) and self.stats.force_hint is not None:
            line = f"{line}; {self.stats.force_hint}"
        if line is not None:
            self._lines.write(f"{clock(event.at)} {line}")

    def abandon(self, *, gone: bool) -> None:
        """Write once that the process is gone, or that another one goes on."""
        stats = self.stats
        if stats.started is None or stats.abandoned is gone:
            return
        stats.abandoned = gone
        for record, outcome in self._writes.give_up() if gone else ():
            self._doubt(stats.now, record, outcome)
        gone_words = f"{stats.abandoned_words}; {stats.continuing_words}"
        word = gone_words if gone else f"run {stats.started.run} goes on"
        self._lines.write(f"{clock(stats.now)} {word}")

    def stall(self, stall: Stall | None) -> None:
        """Write once that the process does not move, or that it moves again."""
        stats, before = self.stats, self.stats.stall
        stats.stall = stall
        if stats.started is None or stats.abandoned or (before is None) is (stall is None):
            return
        if stats.is_shared:
            return  # no worker has a lease, which is said as well
        stalled = f"{stats.stalled_words}; {stats.continuing_words}"
        word = f"run {stats.started.run} goes on" if stall is None else stalled
        self._lines.write(f"{clock(stats.now)} {printable(word)}")

    def say_what_waits(self) -> None:
        """Write each reason once, and that nothing waits any more."""
        stats = self.stats
        if stats.started is None or stats.abandoned or stats.finished is not None:
            return
        standing = stats.standstills
        new = [each for each in standing if each not in self._standing]
        if self._standing and not standing:
            new = ["nothing stands still any more"]
        self._standing = standing
        for line in new:
            self._lines.write(f"{clock(stats.now)} {printable(line)}")

    def draw(self, now: float) -> None:
        """Write the summary line."""
        stats = self.stats
        stats.now = max(stats.now, now)
        self.say_what_waits()
        if self._joined and stats.started is not None:
            self._join()
            return
        if stats.abandoned or stats.stall is not None:
            return  # nothing changes, and that was said
        if not stats.targets or stats.done + stats.phases[Phase.HELD] == stats.targets:
            return  # nothing is left, or only what was said to be held
        self._lines.write(f"{clock(stats.now)} {stats.counts()}, {stats.time_left().words}")

    def _is_repeated(self, event: events.FileCopied) -> bool:
        """Return whether it says of a file once more that its end is not known."""
        return event.outcome.fate is Fate.UNKNOWN and not self._writes.is_new(event)

    def _doubt(self, at: float, record: MountRecord, outcome: DownloadOutcome) -> None:
        """Write that a file may have been written, and that nobody will say whether."""
        path, why = printable(outcome.path), printable(outcome.message or "no reason given")
        self._lines.write(
            f"{clock(at)} {printable(record.planned.key)}: IN DOUBT: {path} may have been written "
            f"into the guest: {why}"
        )

    def _join(self, how: str = "") -> None:
        """Write the name and the progress of a run that began earlier."""
        stats, begun = self.stats, self.stats.started
        self._joined = False
        if begun is not None:
            self._lines.write(
                f"{clock(stats.now)} run {begun.run} of {printable(begun.plan)}{how}: "
                f"{stats.counts()}{', waiting for confirmation' * stats.awaits_confirmation}"
            )


def _run_line(event: Event, stops: Sequence[tuple[float, str]]) -> str | None:
    match event:
        case events.RunStarted(plan=plan, run=run):
            return f"run {run} of {printable(plan)} started"
        case events.SessionOpened(server=server, user=user):
            return f"{printable(server)}: logged on as {printable(user)}"
        case events.SessionTakenUp(server=server):
            return f"{printable(server)}: the earlier process's logon session goes on"
        case events.SessionEnded(server=server, lost=True, left_open=False, reason=reason):
            return f"{printable(server)}: SESSION LOST: {printable(reason)}"
        case events.ServerParked(server=server, reason=reason):
            return f"{printable(server)}: waiting for it: {printable(reason)}"
        case events.ServerResumed(server=server, waited_s=waited):
            return f"{printable(server)}: answers again after {duration(waited)}"
        case events.ServerGivenUp(server=server, reason=reason):
            return f"{printable(server)}: GIVEN UP: {printable(reason)}"
        case events.ServerPaced(server=server, allowed=int(allowed)):
            return f"{printable(server)}: is given {counted(allowed, 'mount')} at once for now"
        case events.ServerPaced(server=server):
            return f"{printable(server)}: is given as many mounts as the plan allows again"
        case events.LimitsShared(server=server, reason=str(reason)):
            return f"{printable(server)}: waits for other runs: {printable(reason)}"
        case events.LimitsShared(server=server, waited_s=waited):
            after = duration(waited or 0)
            return f"{printable(server)}: waits for no other run any more, after {after}"
        case events.ActivitySeen(server=server, others=others) if others:
            return (
                f"{printable(server)}: {counted(sum(others.values()), 'open file-level restore')} "
                "of others"
            )
        case events.WaveStarted(wave=wave):
            return f"wave {printable(wave)} started"
        case events.WaveFinished(wave=wave):
            return f"wave {printable(wave)} finished"
        case events.ControlApplied(asked=asked):
            return f"{printable(asked.who)}: {printable(control_words(asked))}"
        case events.ApprovalAwaited(wave=wave, approvals=approvals, until=until):
            return (
                f"wave {printable(wave)} WAITS for {counted(approvals, 'approval')}, until "
                f"{clock(until)}: bulk-restore ctl RUN approve {printable(wave)} --reason TEXT"
            )
        case events.RunHalted(detail=detail):
            return f"HALTED: {printable(detail)}; open mounts are unmounted"
        case events.StopRequested(signal=signal) if signal == DECLINED:
            return NOTHING_MOUNTED
        case events.StopRequested(signal=signal, forced=forced):
            how = "cancelling and unmounting" if forced else "running mounts end first"
            return f"stopping ({signal}): {how}"
        case events.RunFinished(exit_code=code):
            return f"run finished, exit code {code}: {exit_words(code, stops)}"
        case _:
            return None


def _target_line(event: Event, record: MountRecord, verbose: bool) -> str | None:
    key = printable(record.planned.key)
    match event:
        case events.TargetConcluded(result=result, mount=mount, message=message):
            why = f": {printable(message)}" if message else ""
            return f"{key}: {result}, mount {mount}{why}"
        case events.TargetReopened(was=was):
            return f"{key}: taken up again, it was {was}"
        case events.TaskFailed(message=message):
            return f"{key}: the mount failed: {printable(message or 'no reason given')}"
        case events.MachineBusy(activity=busy):
            return f"{key}: its machine is busy: {printable(busy.words)} works on it"
        case events.MachineFree(seen_at=None):
            return f"{key}: waits for its machine no longer"
        case events.MachineFree():
            return f"{key}: its machine is seen to be free"
        case events.OrphanEnded():
            return f"{key}: its lost mount is seen to have ended"
        case events.SubmissionInDoubt(reason=reason):
            return f"{key}: in doubt: {printable(reason)}"
        case events.DeadlinePassed(phase=phase, allowed_s=allowed):
            return (
                f"{key}: {phase} takes longer than {duration(allowed)}; watching on to unmount it"
            )
        case events.TaskStopAsked(task=task):
            return f"{key}: asking {printable(task)} to stop"
        case events.TaskStopSeen(task=task, seen=seen, words=words):
            said = f" ({printable(words)})" if words else ""
            return f"{key}: {printable(task)}, asked to stop: {seen.replace('_', ' ')}{said}"
        case events.MountLeft(reason=reason) | events.OutOfReach(reason=reason):
            return f"{key}: {printable(reason)}"
        case events.TaskAccepted(task=task, adopted=adopted):
            how = "found again as" if adopted else "mounting as"
            return f"{key}: {how} {printable(task)}"
        case events.PointChosen(point=point, why=why):
            return f"{key}: now restore point {printable(point.name)} ({printable(why)})"
        case events.MountFound(roots=roots):
            return f"{key}: mounted, volumes: {printable(', '.join(roots)) or 'none'}"
        case events.NothingReadable(os_kind=os_kind):
            other = os_kind.other
            return f"{key}: nothing is readable as {os_kind}: it is mounted once as {other}"
        case events.SystemFound(os_kind=os_kind):
            return f"{key}: readable as {os_kind}, which later runs know"
        case events.CheckMade(outcome=outcome) if verbose or outcome.warning or not outcome.passed:
            return f"{key}: {_check(outcome)}"
        case events.FileCopied(outcome=outcome) if verbose or outcome.fate is Fate.FAILED:
            return f"{key}: {_file(outcome)}"
        case events.VerdictReached() if record.attempts[-1].downloads:
            return f"{key}: {_files(record.attempts[-1].downloads)}"
        case events.SubmissionStarted() if verbose:
            return f"{key}: submitting"
        case events.UnmountStarted() if verbose:
            return f"{key}: unmounting"
        case _:
            return None


def _held_line(event: events.MountKept, record: MountRecord, stats: RunStatistics) -> str:
    end = "somebody ends it" if event.until is None else stats.time_of_day(event.until)
    run = stats.started.run if stats.started else "RUN"
    return (
        f"{printable(event.key)}: {record.verdict}, HELD OPEN until {end} "
        f"({printable(event.reason)}); end it: bulk-restore unmount {run}"
    )


def _check(outcome: CheckOutcome) -> str:
    verdict = "passed" if outcome.passed else "FAILED" if outcome.failed else "open"
    how = "warns" if outcome.warning else verdict
    path = f"{printable(outcome.path)}: " if outcome.path else ""  # a set as a whole has none
    return (
        f"check {printable(outcome.name)} {how}: {path}expected "
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
            return f"writing {path} into the guest"


def _files(outcomes: Iterable[DownloadOutcome]) -> str:
    """Return the sum of what became of a target's files."""
    fates = Counter(outcome.fate for outcome in outcomes)
    failed, doubtful = fates[Fate.FAILED], fates[Fate.UNKNOWN]
    trouble = (f", {failed} not" if failed else "") + (f", {doubtful} in doubt" if doubtful else "")
    return f"{counted(fates.total() - failed - doubtful, 'file')} copied{trouble}"
