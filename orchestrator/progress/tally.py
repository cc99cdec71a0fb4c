"""Counting along: what the views show, kept up to date event by event."""

from __future__ import annotations

from collections import Counter, deque

from orchestrator.events import (
    Event,
    PlaceholderReplaced,
    RunHalted,
    RunStarted,
    ServerGivenUp,
    ServerParked,
    ServerResumed,
    StopRequested,
    TargetConcluded,
    TargetPlanned,
    TargetReopened,
    TaskAccepted,
)
from orchestrator.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.model import MountKey, Result, ServerName
from orchestrator.runstate import RunState

RECENT_FAILURES = 5


class Tally:
    """Counts per result, phase and server; what runs now, and the last failures."""

    def __init__(self) -> None:
        """Before the first event."""
        self.started: RunStarted | None = None
        self.now = 0.0
        self.targets = 0
        self.results: Counter[Result] = Counter()
        self.phases: Counter[Phase] = Counter()
        self.held: Counter[ServerName] = Counter()
        self.by_server: Counter[ServerName] = Counter()
        self.done_by_server: Counter[ServerName] = Counter()
        self.trouble: dict[ServerName, str] = {}
        self.running: dict[MountKey, MountRecord] = {}
        self.failures: deque[MountRecord] = deque(maxlen=RECENT_FAILURES)
        self.ending: str | None = None
        self._phase: dict[MountKey, Phase] = {}
        self._first_accepted: float | None = None
        self._done_before = 0

    def take_over(self, found: RunState) -> None:
        """Count what earlier processes of the run did; the pace is this one's alone."""
        self.started, self.now = found.started, found.last_at
        for record in found.records.values():
            server = record.planned.server
            self.targets += 1
            self.by_server[server] += 1
            self._move(None, record)
            if record.result is not None:
                self.results[record.result] += 1
                self.done_by_server[server] += 1
        self._done_before = self.done

    def take(self, event: Event, record: MountRecord | None) -> None:
        """Count one more event."""
        self.now = max(self.now, event.at)
        if record is not None:
            self._take_target(event, record)
            return
        match event:
            case RunStarted():
                self.started = event
            case ServerParked(server=server, reason=reason):
                self.trouble[server] = f"waiting: {reason}"
            case ServerResumed(server=server):
                self.trouble.pop(server, None)
            case ServerGivenUp(server=server, reason=reason):
                self.trouble[server] = f"given up: {reason}"
            case StopRequested(signal=signal):
                self.ending = f"stopping ({signal}): running mounts end and are unmounted"
            case RunHalted(detail=detail):
                self.ending = f"halted: {detail}"
            case PlaceholderReplaced():
                self._forget(event)
            case _:
                pass

    def _take_target(self, event: Event, record: MountRecord) -> None:
        planned, key = record.planned, record.planned.key
        if isinstance(event, TargetPlanned):
            self.targets += 1
            self.by_server[planned.server] += 1
        if isinstance(event, TaskAccepted) and self._first_accepted is None:
            self._first_accepted = event.at
        before, after = self._phase.get(key), record.phase
        if before is not after:
            self._move(before, record)
        elif key in self.running:
            self.running[key] = record
        if isinstance(event, TargetConcluded):
            self.results[event.result] += 1
            self.done_by_server[planned.server] += 1
            if event.result in {Result.FAILED, Result.UNKNOWN}:
                self.failures.append(record)

        elif isinstance(event, TargetReopened):
            self._lose(event.was, planned.server)

    def _forget(self, event: PlaceholderReplaced) -> None:
        self.targets -= 1
        self.by_server[event.server] -= 1
        self.phases[self._phase.pop(event.key)] -= 1
        if event.was is not None:
            self._lose(event.was, event.server)

    def _lose(self, result: Result, server: ServerName) -> None:
        """Take a result out of the counts: its target has it no more."""
        self.results[result] -= 1
        self.done_by_server[server] -= 1
        self._done_before -= 1

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

    @property
    def done(self) -> int:
        """Targets that have their result."""
        return sum(self.results.values())

    def remaining_s(self) -> float | None:
        """Return the expected seconds to the end at the pace so far; None while too early."""
        done, left = self.done - self._done_before, self.targets - self.done
        if self._first_accepted is None or done < max(3, self.targets // 50) or not left:
            return None
        return (self.now - self._first_accepted) / done * left

    def limit_of(self, server: ServerName) -> int | None:
        """Return the most mounts that may be open on a server, as far as the plan says."""
        if self.started is None:
            return None
        return next((s.mounts_limit for s in self.started.servers if s.name == server), None)

    def counts(self) -> str:
        """Return the totals in one line."""
        waiting = self.targets - self.done - len(self.running)
        parts = [f"{self.done}/{self.targets} done"]
        parts += [f"{self.results[result]} {result}" for result in Result if self.results[result]]
        parts += [f"{len(self.running)} open", f"{waiting} waiting"]
        if self.phases[Phase.HELD]:
            parts.append(f"{self.phases[Phase.HELD]} held")
        return ", ".join(parts)
