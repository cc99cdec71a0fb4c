"""A whole run as its events tell it: the fold behind every report, view and status.

The live run, a second terminal and a rebuilt report all go through `RunState.take`, so they
cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.errors import IllegalTransition, JournalDamaged
from orchestrator.events import (
    Event,
    RunFinished,
    RunHalted,
    RunNoted,
    RunStarted,
    ServerGivenUp,
    ServerMeasured,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    StopRequested,
    TargetEvent,
    TargetPlanned,
    WaveFinished,
    WaveStarted,
)
from orchestrator.lifecycle import MountRecord, apply, begin
from orchestrator.model import MountKey, ServerName, WaveName


@dataclass(slots=True)
class ServerState:
    """What the events say of one Enterprise Manager."""

    sessions: list[SessionOpened] = field(default_factory=list)
    ended: list[SessionEnded] = field(default_factory=list)
    parked: ServerParked | None = None
    """Set while the server cannot be used."""
    given_up: ServerGivenUp | None = None
    measured: ServerMeasured | None = None


@dataclass(slots=True)
class WaveState:
    """When a wave ran, in seconds on the run's clock; None while it has not."""

    started_at: float | None = None
    finished_at: float | None = None


@dataclass(slots=True)
class RunState:
    """Everything known of a run. Only `take` changes it."""

    started: RunStarted
    records: dict[MountKey, MountRecord] = field(default_factory=dict)
    servers: dict[ServerName, ServerState] = field(default_factory=dict)
    waves: dict[WaveName, WaveState] = field(default_factory=dict)
    halted: RunHalted | None = None
    stops: list[StopRequested] = field(default_factory=list)
    notes: list[RunNoted] = field(default_factory=list)
    finished: RunFinished | None = None
    last_at: float = 0.0

    def __post_init__(self) -> None:
        """Make room for every server and wave of the plan."""
        self.servers = {facts.name: ServerState() for facts in self.started.servers}
        self.waves = {facts.name: WaveState() for facts in self.started.waves}

    def moment(self, at: float) -> datetime:
        """Return the point in time of `at` seconds on the run's clock."""
        return self.started.started_at + timedelta(seconds=at)

    def take(self, event: Event, after: MountRecord | None = None) -> MountRecord | None:
        """Fold one more event in; return the target's record after a target event.

        `after` is that record where somebody has it already.

        Raises:
            IllegalTransition: the table or the plan does not allow it.
        """
        self.last_at = max(self.last_at, event.at)
        if isinstance(event, TargetEvent):
            after = after or self._after(event)
            self.records[event.key] = after
            return after
        try:
            self._take_run(event)
        except KeyError as exc:
            kind = type(event).__name__
            raise IllegalTransition(f"{kind} names {exc}, which the plan does not") from exc
        return None

    def _after(self, event: TargetEvent) -> MountRecord:
        known = self.records.get(event.key)
        if isinstance(event, TargetPlanned):
            if known is not None:
                raise IllegalTransition(f"{event.key} was planned twice")
            return begin(event)
        if known is None:
            raise IllegalTransition(f"{event.key} was never planned")
        return apply(known, event)

    def _take_run(self, event: Event) -> None:
        match event:
            case WaveStarted(wave=wave):
                self.waves[wave].started_at = event.at
            case WaveFinished(wave=wave):
                self.waves[wave].finished_at = event.at
            case RunHalted():
                self.halted = event
            case StopRequested():
                self.stops.append(event)
            case RunNoted():
                self.notes.append(event)
            case RunFinished():
                self.finished = event
            case _:
                self._take_server(event)

    def _take_server(self, event: Event) -> None:
        match event:
            case SessionOpened(server=server):
                self.servers[server].sessions.append(event)
            case SessionEnded(server=server):
                self.servers[server].ended.append(event)
            case ServerParked(server=server):
                self.servers[server].parked = event
            case ServerResumed(server=server):
                self.servers[server].parked = None
            case ServerGivenUp(server=server):
                self.servers[server].given_up = event
            case ServerMeasured(server=server):
                self.servers[server].measured = event
            case _:
                return


def fold(events: Iterable[Event]) -> RunState:
    """Return the state after all `events`, the first of which is RunStarted.

    Raises:
        JournalDamaged: there is no beginning.
        IllegalTransition: events that no run of ours can have recorded.
    """
    state: RunState | None = None
    for event in events:
        if state is None:
            if not isinstance(event, RunStarted):
                raise JournalDamaged("the run's first record is missing")
            state = RunState(event)
        elif isinstance(event, RunStarted):
            raise IllegalTransition(f"run {event.run} began twice")
        else:
            state.take(event)
    if state is None:
        raise JournalDamaged("the run has no records")
    return state
