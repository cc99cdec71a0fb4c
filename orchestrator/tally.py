"""Counting along: what the views show, on a terminal or a page, kept up to date event by event."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from datetime import UTC, timedelta
from itertools import pairwise

from orchestrator.events import (
    CheckMade,
    Event,
    FileCopied,
    MountKept,
    PlaceholderReplaced,
    PointChosen,
    RunFinished,
    RunHalted,
    RunResumed,
    RunStarted,
    ServerFacts,
    ServerGivenUp,
    ServerPaced,
    ServerParked,
    ServerResumed,
    StopRequested,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    TargetReopened,
    TaskAccepted,
    WaveFinished,
    WaveStarted,
)
from orchestrator.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.model import MountKey, Result, ServerName, WaveName
from orchestrator.outlook import Expected, Now, Outlook, Rest, clock
from orchestrator.proof import Fate
from orchestrator.runstate import RunState

RECENT_FAILURES = 5
DECLINED = "declined"
"""What stands for a signal where a person has said no before anything was submitted."""


class Tally:
    """Counts per result, phase, wave and server; what runs now, and the last failures."""

    def __init__(self) -> None:
        """Before the first event."""
        self.started: RunStarted | None = None
        self.finished: RunFinished | None = None
        self.now = 0.0
        self.targets = 0
        self.results: Counter[Result] = Counter()
        self.phases: Counter[Phase] = Counter()
        self.held: Counter[ServerName] = Counter()
        """Slots that are used, per server."""
        self.by_server: Counter[ServerName] = Counter()
        self.done_by_server: Counter[ServerName] = Counter()
        self.by_wave: Counter[WaveName] = Counter()
        self.done_by_wave: Counter[WaveName] = Counter()
        self.waves_started: dict[WaveName, None] = {}
        self.waves_finished: set[WaveName] = set()
        self.trouble: dict[ServerName, str] = {}
        self.parked_at: dict[ServerName, float] = {}
        self.allowed: dict[ServerName, int] = {}
        """Mounts that a server is given for now, where that is less than the plan allows."""
        self.running: dict[MountKey, MountRecord] = {}
        self.held_why: dict[MountKey, str] = {}
        """Why mounts are held open, as far as this process decided it."""
        self.left: set[MountKey] = set()
        """Targets that have their result, and a mount that is, or may be, open."""
        self.failures: deque[MountRecord] = deque(maxlen=RECENT_FAILURES)
        self.proofs = Proofs()
        self.ending: str | None = None
        self._stopped_by: str | None = None
        """The signal that has stopped the run, while a second one would do more."""
        self.abandoned = False
        """Whether the run's process is gone although the run has not finished."""
        self.outlook = Outlook()
        self._phase: dict[MountKey, Phase] = {}
        self._wave: dict[MountKey, WaveName] = {}

    def expect(self, expected: Expected) -> None:
        """Use what earlier runs say of durations; call before the first target is planned."""
        self.outlook.expect(expected)

    def take_over(self, found: RunState) -> None:
        """Count what earlier processes of the run did; the pace is this one's alone."""
        self._begin(found.started)
        self.now = found.last_at
        self.waves_started = {w: None for w, s in found.waves.items() if s.started_at is not None}
        for wave in self.waves_started:
            self.outlook.wave_started(wave)
        self.waves_finished = {w for w, s in found.waves.items() if s.finished_at is not None}
        for record in found.records.values():
            self._count(record)
            self._move(None, record)
            self.proofs.take_over(record)
            self._note_left(record)
            if record.result is not None:
                self._win(record.result, record)
                if not _is_interrupted(record, found):
                    self.outlook.concluded(record)
        failed = [r for r in found.records.values() if r.result in {Result.FAILED, Result.UNKNOWN}]
        self.failures.extend(sorted(failed, key=lambda record: record.concluded_at or 0.0))
        self._go_on(found.last_at)

    def take(self, event: Event, record: MountRecord | None) -> None:
        """Count one more event."""
        self.now = max(self.now, event.at)
        if record is not None and isinstance(event, TargetEvent):
            self._take_target(event, record)
            return
        match event:
            case RunStarted():
                self._begin(event)
            case RunResumed():
                self._go_on(event.at)
            case WaveStarted(wave=wave):
                self.waves_started[wave] = None
                self.outlook.wave_started(wave)
            case WaveFinished(wave=wave):
                self.waves_finished.add(wave)
            case StopRequested(signal=signal, forced=forced):
                how = "what is mounted is unmounted" if forced else "running mounts end first"
                self.ending = f"stopping ({signal}): {how}"
                self._stopped_by = None if forced or signal == DECLINED else signal
            case RunHalted(detail=detail):
                self.ending = f"halted: {detail}"
            case PlaceholderReplaced():
                self._forget(event)
            case RunFinished():
                self.finished = event
            case _:
                self._take_server(event)

    def _begin(self, started: RunStarted) -> None:
        self.started = started
        self.outlook.begin(started)

    def _go_on(self, at: float) -> None:
        """Begin anew what belongs to one process."""
        self.trouble, self.parked_at, self.allowed = {}, {}, {}
        self.ending = self.finished = self._stopped_by = None
        self.abandoned = False
        self.outlook.go_on(at)

    def _take_server(self, event: Event) -> None:
        match event:
            case ServerParked(server=server, reason=reason):
                self.trouble[server] = f"waiting: {reason}"
                self.parked_at[server] = event.at
            case ServerResumed(server=server):
                self.trouble.pop(server, None)
                self.parked_at.pop(server, None)
            case ServerGivenUp(server=server, reason=reason):
                self.trouble[server] = f"given up: {reason}"
                self.parked_at.pop(server, None)
            case ServerPaced(server=server, allowed=None):
                self.allowed.pop(server, None)
            case ServerPaced(server=server, allowed=int(allowed)):
                self.allowed[server] = allowed
            case _:
                pass

    def _take_target(self, event: TargetEvent, record: MountRecord) -> None:
        key = record.planned.key
        if isinstance(event, TargetPlanned):
            self._count(record)
        if isinstance(event, TaskAccepted):
            self.outlook.accepted(event.at)
        if isinstance(event, MountKept):
            self.held_why[key] = event.reason
        self.proofs.take(event)
        self._note_left(record)
        before, after = self._phase.get(key), record.phase
        if before is not after:
            self._move(before, record)
        elif key in self.running:
            self.running[key] = record
        if isinstance(event, TargetConcluded):
            self._win(event.result, record)
            self.outlook.concluded(record)
            if event.result in {Result.FAILED, Result.UNKNOWN}:
                self.failures.append(record)
        elif isinstance(event, TargetReopened):
            planned = record.planned
            self._lose(event.was, key, planned.server, planned.wave)

    def _count(self, record: MountRecord) -> None:
        self.targets += 1
        self.by_server[record.planned.server] += 1
        self.by_wave[record.planned.wave] += 1
        self._wave[record.planned.key] = record.planned.wave

    def _forget(self, event: PlaceholderReplaced) -> None:
        wave = self._wave.pop(event.key)
        self.targets -= 1
        self.by_server[event.server] -= 1
        self.by_wave[wave] -= 1
        self.phases[self._phase.pop(event.key)] -= 1
        self.left.discard(event.key)
        self.outlook.forget(event.key)
        if event.was is not None:
            self._lose(event.was, event.key, event.server, wave)

    def _note_left(self, record: MountRecord) -> None:
        if record.result is not None and record.may_be_open:
            self.left.add(record.planned.key)
        else:
            self.left.discard(record.planned.key)

    def _win(self, result: Result, record: MountRecord) -> None:
        self.results[result] += 1
        self.done_by_server[record.planned.server] += 1
        self.done_by_wave[record.planned.wave] += 1

    def _lose(self, result: Result, key: MountKey, server: ServerName, wave: WaveName) -> None:
        """Take a result out of the counts: its target has it no more."""
        self.results[result] -= 1
        self.done_by_server[server] -= 1
        self.done_by_wave[wave] -= 1
        for failure in [each for each in self.failures if each.planned.key == key]:
            self.failures.remove(failure)

    def _move(self, before: Phase | None, record: MountRecord) -> None:
        key, server, after = record.planned.key, record.planned.server, record.phase
        if before is not None:
            self.phases[before] -= 1
        self.phases[after] += 1
        self._phase[key] = after
        self.held[server] += (after in HOLDING_PHASES) - (before in HOLDING_PHASES)
        if after in HOLDING_PHASES:
            self.running[key] = record
        else:
            self.running.pop(key, None)
        if after is not Phase.HELD:
            self.held_why.pop(key, None)
        self.outlook.moved(record, before, after)

    @property
    def done(self) -> int:
        """Targets that have their result."""
        return sum(self.results.values())

    @property
    def waiting(self) -> int:
        """Targets that have neither a result nor a mount."""
        return self.targets - self.done - len(self.running)

    @property
    def waves_going(self) -> list[WaveName]:
        """Waves that have begun and not ended."""
        return [wave for wave in self.waves_started if wave not in self.waves_finished]

    @property
    def has_begun(self) -> bool:
        """Whether the first wave has; what was submitted proves it too."""
        return bool(self.waves_started) or self.waiting < self.targets

    @property
    def awaits_confirmation(self) -> bool:
        """Whether a person is being asked if the targets shall be mounted."""
        return (
            self.started is not None
            and not self.started.confirmed
            and self.targets > 0
            and not self.has_begun
            and self.ending is None
            and self.finished is None
        )

    @property
    def harder(self) -> str | None:
        """What stops a stopping run at once, for whoever will not wait; None if nothing does."""
        if self._stopped_by is None or self.abandoned or self.finished is not None:
            return None
        again = "Ctrl-C" if self._stopped_by == "SIGINT" else self._stopped_by
        return f"a second {again} to the run unmounts what is known now and names the rest"

    def time_of_day(self, at: float) -> str:
        """Return a time of the run's clock as people and `status` say it; the day if not today."""
        if self.started is None:
            return clock(at)
        moment = self.started.started_at.astimezone(UTC) + timedelta(seconds=at)
        today = self.started.started_at.astimezone(UTC) + timedelta(seconds=self.now)
        day = "" if moment.date() == today.date() else "%Y-%m-%d "
        return f"{moment:{day}%H:%M:%S} UTC"

    def rest(self) -> Rest:
        """Return how long the rest may take, as of `now`; unknown while nobody does it."""
        if self.abandoned:
            return Rest()
        if self.awaits_confirmation:
            return Rest(why="waiting for confirmation")
        now = Now(
            at=self.now,
            running=self.running.values(),
            allowed=self.allowed,
            parked=self.parked_at,
            ending=self.ending is not None,
        )
        return self.outlook.rest(now, self.targets - self.done)

    def remaining_s(self) -> float | None:
        """Return the expected seconds to the end; None while nobody can know."""
        return self.rest().about

    def under_way(self) -> Iterator[MountRecord]:
        """Return the targets that use a slot and go on; a held mount waits for a person."""
        return (each for each in self.running.values() if each.phase is not Phase.HELD)

    @property
    def held_open(self) -> list[MountRecord]:
        """Targets whose mounts are held open for a person: decided, and not done yet."""
        return [each for each in self.running.values() if each.phase is Phase.HELD]

    @property
    def held_verdicts(self) -> Counter[Result]:
        """What those targets' results will be, if nothing is lost before the release."""
        return Counter(each.standing for each in self.held_open if each.standing is not None)

    def allowed_on(self, facts: ServerFacts) -> int | None:
        """Return the most mounts that may be open on a server now; None: the plan says nothing."""
        limits = (facts.mounts_limit, self.allowed.get(facts.name))
        return min((limit for limit in limits if limit is not None), default=None)

    def limit_of(self, server: ServerName) -> int | None:
        """Return the most mounts that may be open on a server, as far as the plan says."""
        if self.started is None:
            return None
        return next((s.mounts_limit for s in self.started.servers if s.name == server), None)

    def counts(self) -> str:
        """Return the totals in one line."""
        parts = [f"{self.done}/{self.targets} done"]
        parts += [f"{self.results[result]} {result}" for result in Result if self.results[result]]
        parts += [f"{len(self.running)} open", f"{self.waiting} waiting"]
        parts += self.proofs.parts()
        if self.phases[Phase.HELD]:
            parts.append(f"{self.phases[Phase.HELD]} held open ({in_words(self.held_verdicts)})")
        return ", ".join(parts + ([f"{len(self.left)} MAY BE MOUNTED"] if self.left else []))


def in_words(counts: Mapping[Result, int]) -> str:
    """Return what there is of each result, in the order of all views."""
    return ", ".join(f"{counts[result]} {result}" for result in Result if counts.get(result))


def _is_interrupted(record: MountRecord, found: RunState) -> bool:
    """Tell whether no process carried a target from its beginning to its end."""
    if not record.attempts or record.concluded_at is None:
        return False
    began, ended = record.attempts[0].submitted_at, record.concluded_at
    return any(began < resumed.at < ended for resumed in found.resumed)


class Proofs:
    """Checks, copied files and other restore points, counted."""

    def __init__(self) -> None:
        """Before the first of them."""
        self.checks = 0
        self.checks_failed = 0
        self.warnings = 0
        self.files = 0
        """Files that were copied, wherever to."""
        self.files_failed = 0
        self.bytes = 0
        self.fallbacks = 0
        """How often another restore point was taken up."""

    def take(self, event: TargetEvent) -> None:
        """Count one more."""
        match event:
            case CheckMade(outcome=outcome):
                self._check(passed=outcome.passed, warning=outcome.warning)
            case FileCopied(outcome=outcome):
                self._file(outcome.fate, outcome.size)
            case PointChosen():
                self.fallbacks += 1
            case _:
                pass

    def take_over(self, record: MountRecord) -> None:
        """Count what a target's record holds of them."""
        for attempt in record.attempts:
            for check in attempt.checks:
                self._check(passed=check.passed, warning=check.warning)
            for file in attempt.downloads:
                self._file(file.fate, file.size)
        points = [attempt.point for attempt in record.attempts]
        self.fallbacks += sum(a != b for a, b in pairwise(points))

    def parts(self) -> list[str]:
        """Return what there is to say, as parts of a line."""
        found = []
        if self.checks:
            failed = f" ({self.checks_failed} failed)" if self.checks_failed else ""
            found.append(f"{self.checks} check{'s' * (self.checks != 1)}{failed}")
        if self.files or self.files_failed:
            failed = f" ({self.files_failed} not)" if self.files_failed else ""
            found.append(f"{self.files} file{'s' * (self.files != 1)} copied{failed}")
        if self.fallbacks:
            found.append(f"{self.fallbacks} other point{'s' * (self.fallbacks != 1)} tried")
        return found

    def _check(self, *, passed: bool, warning: bool) -> None:
        self.checks += 1
        self.checks_failed += not passed
        self.warnings += warning

    def _file(self, fate: Fate, size: int | None) -> None:
        if fate in {Fate.SAVED, Fate.RESTORED}:
            self.files += 1
            self.bytes += size or 0
        elif fate is Fate.FAILED:
            self.files_failed += 1
