"""Counting along: what the views show, on a terminal or a page, kept up to date event by event."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from datetime import UTC, timedelta

from orchestrator.core import events
from orchestrator.core.events import Event, ServerFacts, TargetEvent
from orchestrator.core.exit_codes import DECLINED, stop_words, stopping_words
from orchestrator.core.left_open import LeftOpen, unread_sessions
from orchestrator.core.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.core.model import MountKey, Result, ServerName, SessionId, TaskId, WaveName
from orchestrator.core.records import Stall
from orchestrator.core.text import clock, moment, time_of_day
from orchestrator.views.content_counts import ContentCounts
from orchestrator.views.eta import Eta, Expected, Situation, TimeLeft, nothing_known
from orchestrator.views.held_up import Awaited, HeldUp
from orchestrator.views.kept_slots import KeptSlots, waiting_for_slots
from orchestrator.views.stalled import Away, continuing_words, stalled_words

RECENT_FAILURES = 5
"""In place of a signal: a person has answered no before anything was submitted."""


class RunStatistics:
    """Counts per result, phase, wave and server; what runs now, and the last failures."""

    def __init__(self, expected: Expected = nothing_known) -> None:
        """Before the first event; `expected` has the durations of earlier runs."""
        self.started: events.RunStarted | None = None
        self.finished: events.RunFinished | None = None
        self.now = 0.0
        self.targets = 0
        self.results: Counter[Result] = Counter()
        self.phases: Counter[Phase] = Counter()
        self.held: Counter[ServerName] = Counter()
        """Slots of targets under way, per server; see `open_on`."""
        self.by_server: Counter[ServerName] = Counter()
        self.done_by_server: Counter[ServerName] = Counter()
        self.by_wave: Counter[WaveName] = Counter()
        self.done_by_wave: Counter[WaveName] = Counter()
        self.waves_started: dict[WaveName, None] = {}
        self.waves_finished: set[WaveName] = set()
        self.trouble: dict[ServerName, str] = {}
        self.parked_at: dict[ServerName, float] = {}
        self.awaited: dict[ServerName, str] = {}
        """For which other runs the targets of a server wait, in words."""
        self.allowed: dict[ServerName, int] = {}
        """Mounts that a server is given for now, where that is less than the plan allows."""
        self.running: dict[MountKey, MountRecord] = {}
        self.held_why: dict[MountKey, str] = {}
        """Why mounts are held open, as far as this process decided it."""
        self.left: dict[MountKey, MountRecord] = {}
        """Targets with a result and a mount that is, or may be, open."""
        self.left_on: Counter[ServerName] = Counter()
        """How many of them there are, per server."""
        self.strays: dict[tuple[SessionId, TaskId], events.StrayFound] = {}
        """Mounts of our sessions that belong to no target, and may be open."""
        self.ends: dict[ServerName, dict[SessionId, events.SessionEnded]] = {}
        """How each session ended, by what was said last."""
        self.asked: dict[tuple[ServerName, SessionId], None] = {}
        """Sessions in which mounts were asked for."""
        self.failures: deque[MountRecord] = deque(maxlen=RECENT_FAILURES)
        self.content = ContentCounts()
        self.ending: str | None = None
        self.stops: list[tuple[float, str]] = []
        """When this process was asked to stop, or halted, on the run's clock; and in words."""
        self._stopped_by: str | None = None
        """The signal that has stopped the run, while a second one would do more."""
        self.abandoned = False
        """Whether the run's process is gone although the run has not finished."""
        self.stall: Stall | None = None
        """Who works on the run and does not move, and since when."""
        self.what_waits: tuple[str, ...] = ()
        """What nobody does of a run over several machines, and why, as `status` says it."""
        self.away: Away | None = None
        """Set while the database does not answer: nothing new is seen."""
        self.kept_slots = KeptSlots()
        self.held_up = HeldUp()
        """What only people can do."""
        self.is_shared = False
        """Whether workers carry it out: then the next one goes on with it."""
        self.eta = Eta(expected)
        self._phase: dict[MountKey, Phase] = {}
        self._wave: dict[MountKey, WaveName] = {}

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Count one more event."""
        self.now = max(self.now, event.at)
        self.kept_slots.observe(event, self.asked)
        if record is not None and isinstance(event, TargetEvent):
            self._count_target_event(event, record)
            return
        match event:
            case events.RunStarted():
                self.started = event
                self.ends = {facts.name: {} for facts in event.servers}
                self.eta.begin(event)
            case events.RunResumed():
                self.start_process(event.at)
            case events.ApprovalAwaited():
                self.held_up.gates[event.wave] = event
            case events.WaveStarted(wave=wave):
                self.held_up.gates.pop(wave, None)
                self.waves_started[wave] = None
                self.eta.wave_started(wave)
            case events.WaveFinished(wave=wave):
                self.waves_finished.add(wave)
            case events.StopRequested(signal=signal, forced=forced):
                self.held_up.gates.clear()
                self.ending = stopping_words(signal, forced=forced)
                self.stops.append((event.at, stop_words(signal)))
                self._stopped_by = None if forced or signal == DECLINED else signal
            case events.ControlApplied():
                self.held_up.steer(event)
            case events.RunHalted(detail=detail):
                self.held_up.gates.clear()
                self.ending = f"halted: {detail}"
                self.stops.append((event.at, f"halt: {detail}"))
            case events.PlaceholderReplaced():
                self._remove_target(event)
            case events.RunFinished():
                self.finished = event
            case _:
                self._count_server_event(event)

    def start_process(self, at: float) -> None:
        """Reset what belongs to one process; safe to repeat."""
        self.trouble, self.parked_at, self.allowed, self.awaited = {}, {}, {}, {}
        self.ending = self.finished = self._stopped_by = None
        self.stops = []
        self.held_up.gates.clear()
        self.abandoned, self.stall = False, None
        self.eta.start_process(at)

    def _count_server_event(self, event: Event) -> None:
        match event:
            case events.ServerParked(server=server, reason=reason):
                self.trouble[server] = f"waiting: {reason}"
                self.parked_at[server] = event.at
            case events.ServerResumed(server=server):
                self.trouble.pop(server, None)
                self.parked_at.pop(server, None)
            case events.ServerGivenUp(server=server, reason=reason):
                self.trouble[server] = f"given up: {reason}"
                self.parked_at.pop(server, None)
            case events.LimitsShared(server=server, reason=None):
                self.awaited.pop(server, None)
            case events.LimitsShared(server=server, reason=str(reason)):
                self.awaited[server] = reason
            case events.StrayFound(session=session, task=task):
                self.strays[session, task] = event
            case events.StrayReleased(session=session, task=task):
                self.strays.pop((session, task), None)
            case events.SessionEnded(server=server, session=session):
                self.ends.setdefault(server, {})[session] = event
            case events.ServerPaced(server=server, allowed=None):
                self.allowed.pop(server, None)
            case events.ServerPaced(server=server, allowed=int(allowed)):
                self.allowed[server] = allowed
            case _:
                pass

    def _count_target_event(self, event: TargetEvent, record: MountRecord) -> None:
        key = record.planned.key
        if isinstance(event, events.TargetPlanned):
            self._add_target(record)
        if isinstance(event, events.SubmissionStarted):
            self.asked[record.planned.server, event.session] = None
        if isinstance(event, events.TaskAccepted):
            self.eta.accepted(event.at)
        if isinstance(event, events.MountKept):
            self.held_why[key] = event.reason
        self.content.count(event)
        self._update_left(record)
        before, after = self._phase.get(key), record.phase
        if before is not after:
            self._change_phase(before, record)
        elif key in self.running:
            self.running[key] = record
        if isinstance(event, events.TargetConcluded):
            self._add_result(event.result, record)
            self.eta.concluded(record)
            if event.result in {Result.FAILED, Result.UNKNOWN}:
                self.failures.append(record)
        elif isinstance(event, events.TargetReopened):
            planned = record.planned
            self._remove_result(event.was, key, planned.server, planned.wave)

    def _add_target(self, record: MountRecord) -> None:
        self.targets += 1
        self.by_server[record.planned.server] += 1
        self.by_wave[record.planned.wave] += 1
        self._wave[record.planned.key] = record.planned.wave

    def _remove_target(self, event: events.PlaceholderReplaced) -> None:
        wave = self._wave.pop(event.key)
        self.targets -= 1
        self.by_server[event.server] -= 1
        self.by_wave[wave] -= 1
        self.phases[self._phase.pop(event.key)] -= 1
        self._remove_left(event.key, event.server)
        self.eta.forget(event.key)
        if event.was is not None:
            self._remove_result(event.was, event.key, event.server, wave)

    def _update_left(self, record: MountRecord) -> None:
        self._remove_left(record.planned.key, record.planned.server)
        is_over = record.result is not None or record.phase is Phase.OUT_OF_REACH
        if is_over and record.may_be_open:
            self.left[record.planned.key] = record
            self.left_on[record.planned.server] += 1

    def _remove_left(self, key: MountKey, server: ServerName) -> None:
        if self.left.pop(key, None) is not None:
            self.left_on[server] -= 1

    def _add_result(self, result: Result, record: MountRecord) -> None:
        self.results[result] += 1
        self.done_by_server[record.planned.server] += 1
        self.done_by_wave[record.planned.wave] += 1

    def _remove_result(
        self, result: Result, key: MountKey, server: ServerName, wave: WaveName
    ) -> None:
        """Take a result out of the counts: its target has it no more."""
        self.results[result] -= 1
        self.done_by_server[server] -= 1
        self.done_by_wave[wave] -= 1
        for failure in [each for each in self.failures if each.planned.key == key]:
            self.failures.remove(failure)

    def _change_phase(self, before: Phase | None, record: MountRecord) -> None:
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
        self.eta.moved(record, before, after)

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
        """Whether the first wave has begun; a submitted target proves it too."""
        return bool(self.waves_started) or self.waiting < self.targets

    @property
    def awaits_confirmation(self) -> bool:
        """Whether the run waits for a person to confirm it."""
        return (
            self.started is not None
            and not self.started.confirmed
            and self.targets > 0
            and not self.has_begun
            and self.ending is None
            and self.finished is None
        )

    @property
    def waits_for_people(self) -> list[Awaited]:
        """What the run waits for that only people can do; nothing once it stops or is over.

        A pause that a stop came after holds nothing up: no more is submitted anyway.
        """
        if self.started is None or self.is_over or self.ending is not None:
            return []
        return self.held_up.awaited(self.started.run, self.now, self.time_of_day)

    @property
    def force_hint(self) -> str | None:
        """How a person can stop a stopping run at once; None if nothing does."""
        if self._stopped_by is None or self.abandoned or self.finished is not None:
            return None
        again = "Ctrl-C" if self._stopped_by == "SIGINT" else self._stopped_by
        return f"a second {again} to the run unmounts what is known now and names the rest"

    def time_of_day(self, at: float) -> str:
        """Return a time of the run's clock as a time of day, with the date if that is another."""
        if self.started is None:
            return clock(at)
        then = self.started.started_at.astimezone(UTC) + timedelta(seconds=at)
        today = self.started.started_at.astimezone(UTC) + timedelta(seconds=self.now)
        return time_of_day(then) if then.date() == today.date() else moment(then)

    @property
    def abandoned_words(self) -> str:
        """What is the case while the run is abandoned."""
        if self.is_shared:
            return self.stalled_words or "no worker serves it"
        return "dead: its process is gone"

    @property
    def stalled_words(self) -> str:
        """Since when who works on the run does not move; empty while somebody does."""
        return "" if self.stall is None else stalled_words(self.stall, is_shared=self.is_shared)

    @property
    def continuing_words(self) -> str:
        """What to do about a run that is abandoned or stalled."""
        run = self.started.run if self.started is not None else "RUN"
        return continuing_words(run, self.stall, is_shared=self.is_shared)

    @property
    def standstills(self) -> list[str]:
        """What does not go on although the run does, and why; nothing once it has ended."""
        if self.finished is not None:
            return []
        if self.away is not None:  # what was seen before may be over
            return [self.away.words]
        return [*self.what_waits, *self._waits_for_slots()]

    def _waits_for_slots(self) -> Iterator[str]:
        if self.left and self.ending is None:
            left = self.left.values()
            yield from waiting_for_slots(
                self.kept_slots, left, self.eta, self.now, self.time_of_day
            )

    def time_left(self) -> TimeLeft:
        """Return how long the rest may take, as of `now`; unknown while nobody works on the run."""
        if self.abandoned or self.stall is not None:
            return TimeLeft()
        if self.awaits_confirmation:
            return TimeLeft(why="waiting for confirmation")
        if self.waits_for_people:
            return TimeLeft(why="time left: not known, it waits for people")
        if self.away is not None:
            return TimeLeft(why="time left: not known, the database is away")
        if self.standstills:
            return TimeLeft(why="time left: not known, a part of it stands still")
        now = Situation(
            at=self.now,
            running=self.running.values(),
            allowed=self.allowed,
            parked=self.parked_at,
            ending=self.ending is not None,
        )
        return self.eta.time_left(now, self.targets - self.done)

    def under_way(self) -> Iterator[MountRecord]:
        """Return the targets that use a slot and go on; a held mount waits for a person."""
        return (each for each in self.running.values() if each.phase is not Phase.HELD)

    @property
    def held_open(self) -> list[MountRecord]:
        """Targets whose mounts are held open for a person: decided, and not done yet."""
        return [each for each in self.running.values() if each.phase is Phase.HELD]

    @property
    def held_until(self) -> float | None:
        """When the last hold ends, on the run's clock; None: one lasts until somebody ends it."""
        times = [each.kept_until for each in self.held_open]
        return None if None in times else max((t for t in times if t is not None), default=None)

    @property
    def held_verdicts(self) -> Counter[Result]:
        """What those targets' results will be, if nothing is lost before the release."""
        return Counter(each.standing for each in self.held_open if each.standing is not None)

    def open_on(self, server: ServerName) -> int:
        """Return how many mounts are, or may be, open or under way on a server.

        Those that were left, are unknown or belong to no target count until they are released.
        """
        strays = sum(stray.server == server for stray in self.strays.values())
        return self.held[server] + self.left_on[server] + strays

    @property
    def may_be_mounted(self) -> int:
        """Mounts of finished targets, or of none, that are, or may be, open."""
        return len(self.left) + len(self.strays)

    @property
    def is_over(self) -> bool:
        """Whether no process works on the run any more."""
        return self.abandoned or self.finished is not None

    @property
    def unaudited(self) -> dict[ServerName, str]:
        """Servers with a session in which a mount of no target may be open, unseen, and why."""
        asked = self.asked if self.abandoned and self.finished is None else ()
        found = unread_sessions(self.ends, asked)
        return {name: next(iter(sessions.values())) for name, sessions in found.items()}

    @property
    def left_open(self) -> LeftOpen:
        """What may be open, and no process of the run removes.

        As long as one works on it, mounts of targets under way are none of them.
        """
        under_way = self.running.values() if self.is_over else ()
        return LeftOpen(
            records=(*self.left.values(), *(each for each in under_way if each.may_be_open)),
            strays=tuple(self.strays.values()),
            unaudited=self.unaudited,
        )

    def is_ramp(self, server: ServerName) -> bool:
        """Return whether the plan's ramp alone allows a server fewer mounts for now."""
        allowed = self.allowed.get(server)
        return allowed is not None and self.eta.is_ramp(server, allowed, self.now)

    def allowed_on(self, facts: ServerFacts) -> int | None:
        """Return the most mounts that may be open on a server now; None: no limit."""
        limits = (facts.mounts_limit, self.allowed.get(facts.name))
        return min((limit for limit in limits if limit is not None), default=None)

    def counts(self) -> str:
        """Return the totals in one line."""
        parts = [each.short for each in self.waits_for_people]
        parts += [f"{self.done}/{self.targets} done"]
        parts += [f"{self.results[result]} {result}" for result in Result if self.results[result]]
        parts += [f"{len(self.running)} open", f"{self.waiting} waiting"]
        if self.phases[Phase.BUSY]:
            parts[-1] += f" ({self.phases[Phase.BUSY]} for busy machines)"
        parts += self.content.parts()
        if self.phases[Phase.HELD]:
            parts.append(f"{self.phases[Phase.HELD]} held open ({in_words(self.held_verdicts)})")
        return ", ".join([*parts, *self.left_open.parts])


def in_words(counts: Mapping[Result, int]) -> str:
    """Return the count of each result, in the order of all views."""
    return ", ".join(f"{counts[result]} {result}" for result in Result if counts.get(result))
