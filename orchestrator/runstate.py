"""A whole run as its events tell it: the fold behind every report, view and status.

The live run, a second terminal and a rebuilt report all go through `RunState.take`, so they
cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from orchestrator.errors import IllegalTransition, JournalDamaged
from orchestrator.events import (
    Event,
    PlaceholderReplaced,
    RunFinished,
    RunHalted,
    RunNoted,
    RunResumed,
    RunStarted,
    ServerGivenUp,
    ServerMeasured,
    ServerPaced,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    SessionTakenUp,
    StopRequested,
    TargetEvent,
    TargetPlanned,
    TasksAttributed,
    WaveFinished,
    WaveStarted,
)
from orchestrator.lifecycle import MountRecord, apply, begin
from orchestrator.model import MountKey, Result, ServerName, WaveName

NEVER_SUBMITTED = frozenset({Result.SKIPPED, Result.CANCELLED})
NOT_GOOD = frozenset({Result.FAILED, Result.UNKNOWN})


@dataclass(slots=True)
class Outage:
    """From when to when a server could not be used, on the run's clock; None: to the end."""

    start: float
    end: float | None
    reason: str


@dataclass(slots=True)
class ServerState:
    """What the events say of one Enterprise Manager."""

    sessions: list[SessionOpened] = field(default_factory=list)
    taken_up: int = 0
    """How often a later process took up a session that an earlier one had opened."""
    attributed: list[TasksAttributed] = field(default_factory=list)
    ended: list[SessionEnded] = field(default_factory=list)
    parked: ServerParked | None = None
    """Set while the server cannot be used."""
    given_up: ServerGivenUp | None = None
    measured: ServerMeasured | None = None
    outages: list[Outage] = field(default_factory=list)
    paces: list[tuple[float, int | None]] = field(default_factory=list)
    """(second, mounts it is given from then on); None: as many as the plan allows."""

    def back(self, at: float) -> None:
        """Let its trouble be over: it answers again, or another process asks anew."""
        self.parked = None
        if self.outages and self.outages[-1].end is None:
            self.outages[-1].end = at


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
    resumed: list[RunResumed] = field(default_factory=list)
    finished: RunFinished | None = None
    last_at: float = 0.0
    events: int = 1
    """How many events this is the fold of."""

    def __post_init__(self) -> None:
        """Make room for every server and wave of the plan."""
        self.servers = {facts.name: ServerState() for facts in self.started.servers}
        self.waves = {facts.name: WaveState() for facts in self.started.waves}

    @property
    def report_dir(self) -> str:
        """Where the newest process of this run writes, or would have written, its reports."""
        return self.resumed[-1].report_dir if self.resumed else self.started.report_dir

    def is_anything_left(self, *, retry_failed: bool = False) -> bool:
        """Tell whether there is anything that a resume would go on with."""
        return self.finished is None or any(
            not record.is_final
            or record.may_be_open
            or is_wanted_again(record, retry_failed=retry_failed)
            for record in self.records.values()
        )

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
        self.events += 1
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
                if self.waves[wave].started_at is None:  # not where a resumed run takes it up
                    self.waves[wave].started_at = event.at
            case WaveFinished(wave=wave):
                self.waves[wave].finished_at = event.at
            case RunHalted():
                self.halted = event
            case StopRequested():
                self.stops.append(event)
            case RunResumed():
                self._take_up(event)
            case PlaceholderReplaced(key=key):
                del self.records[key]
            case RunNoted():
                self.notes.append(event)
            case RunFinished():
                self.finished = event
            case _:
                self._take_server(event)

    def _take_up(self, event: RunResumed) -> None:
        """Begin anew what belongs to one process: stops, halts and the servers' troubles."""
        self.resumed.append(event)
        self.halted = None
        self.stops = []
        self.finished = None
        for server in self.servers.values():
            server.back(event.at)
            server.given_up = None
            if server.paces and server.paces[-1][1] is not None:
                server.paces.append((event.at, None))

    def _take_server(self, event: Event) -> None:
        match event:
            case SessionOpened(server=server):
                self.servers[server].sessions.append(event)
            case SessionTakenUp(server=server):
                self.servers[server].taken_up += 1
            case TasksAttributed(server=server):
                self.servers[server].attributed.append(event)
            case SessionEnded(server=server):
                self.servers[server].ended.append(event)
            case ServerParked(server=server):
                self.servers[server].back(event.at)
                self.servers[server].parked = event
                self.servers[server].outages.append(Outage(event.at, None, event.reason))
            case ServerResumed(server=server):
                self.servers[server].back(event.at)
            case ServerPaced(server=server, allowed=allowed):
                self.servers[server].paces.append((event.at, allowed))
            case ServerGivenUp(server=server):
                self.servers[server].given_up = event
            case ServerMeasured(server=server):
                self.servers[server].measured = _joined(self.servers[server].measured, event)
            case _:
                return


def _joined(before: ServerMeasured | None, now: ServerMeasured) -> ServerMeasured:
    """Return what a server cost over all processes of the run that told."""
    if before is None:
        return now
    return replace(
        now,
        requests=before.requests + now.requests,
        retries=before.retries + now.retries,
        peak_mounts=max(before.peak_mounts, now.peak_mounts),
        sessions=before.sessions + now.sessions,
    )


def is_wanted_again(record: MountRecord, *, retry_failed: bool) -> bool:
    """Tell whether a resume takes up a concluded target: it was never submitted, or it may retry.

    A mount that may be open forbids it; see `lifecycle`.
    """
    return record.result in NEVER_SUBMITTED or (retry_failed and record.result in NOT_GOOD)


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
