"""A whole run as its events tell it: the fold behind every report, view and status.

The live run, a second terminal and a rebuilt report all go through `RunState.fold`, so they
cannot disagree. A run over several machines has several chains, and nothing that a report shows
depends on the order in which these are folded, as long as each is in its own order: targets and
servers belong to one chain; waves, halts, stops and the end to that of the run.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from datetime import datetime, timedelta

from msgspec import Struct, field

from orchestrator.core.controls import LOOKS, Verb
from orchestrator.core.errors import IllegalTransition, JournalDamaged
from orchestrator.core.events import (
    ApprovalAwaited,
    ControlApplied,
    Event,
    MountLeft,
    OutOfReach,
    PlaceholderReplaced,
    RunFinished,
    RunForecast,
    RunHalted,
    RunNoted,
    RunResumed,
    RunStarted,
    ServerEvent,
    StopRequested,
    StrayFound,
    SubmissionStarted,
    TargetEvent,
    WaveFinished,
    WaveStarted,
)
from orchestrator.core.left_open import Ends, LeftOpen, unread_sessions
from orchestrator.core.lifecycle import FIRM_RESULTS, MountRecord, Phase, advance
from orchestrator.core.model import (
    MountKey,
    Result,
    ServerName,
    SessionId,
    WaveName,
)
from orchestrator.core.server_state import ServerState

NEVER_SUBMITTED = frozenset({Result.SKIPPED, Result.CANCELLED})
NOT_GOOD = frozenset({Result.FAILED, Result.UNKNOWN})


def good_results(*, require_checks: bool) -> frozenset[Result]:
    """Return the results that count as good; with `--require-checks` a mount alone does not."""
    return frozenset({Result.VERIFIED}) if require_checks else FIRM_RESULTS


class WaveState(Struct):
    """When a wave ran, in seconds on the run's clock; None while it has not."""

    started_at: float | None = None
    finished_at: float | None = None


class RunState(Struct):
    """Everything known of a run. Only `fold` changes it, but for `process_gone`."""

    started: RunStarted
    records: dict[MountKey, MountRecord] = field(default_factory=dict)
    servers: dict[ServerName, ServerState] = field(default_factory=dict)
    waves: dict[WaveName, WaveState] = field(default_factory=dict)
    halted: RunHalted | None = None
    accepted: set[MountKey] = field(default_factory=set)
    """Targets that were not good when the run halted at a critical one: whoever resumes knows.

    No report shows them. In a run over several machines only who conducts it looks at them, and
    reads its chains in the order of `records.merged`. A target that ended badly at the very time
    of the halt may be in or not; when the run has ended, all are in.
    """
    broken_guard: str | None = None
    """What the plan expects and the servers did not list: no process of the run mounts any more."""
    stops: list[StopRequested] = field(default_factory=list)
    notes: list[RunNoted] = field(default_factory=list)
    resumed: list[RunResumed] = field(default_factory=list)
    controls: list[ControlApplied] = field(default_factory=list)
    """What people asked of the living run; a resume goes on with what still holds."""
    awaited: dict[WaveName, ApprovalAwaited] = field(default_factory=dict)
    """The waves that wait for people, or have waited for them in vain."""
    finished: RunFinished | None = None
    forecast: RunForecast | None = None
    """How long it was expected to take; None: its machines had hardly any history."""
    last_at: float = 0.0
    events: int = 1
    """How many events this is the fold of."""
    process_gone: bool = False
    """Set by who has seen that no process works on the run: the events do not tell it."""

    def __post_init__(self) -> None:
        """Make room for every server and wave of the plan."""
        self.servers = {facts.name: ServerState() for facts in self.started.servers}
        self.waves = {facts.name: WaveState() for facts in self.started.waves}

    @property
    def report_dir(self) -> str:
        """Where the newest process of this run writes, or would have written, its reports."""
        return self.resumed[-1].report_dir if self.resumed else self.started.report_dir

    @property
    def simulated_servers(self) -> frozenset[ServerName]:
        """The servers that said of themselves that they are simulated."""
        return frozenset(
            name
            for name, server in self.servers.items()
            if any(session.simulated for session in server.sessions)
        )

    @property
    def steered(self) -> tuple[ControlApplied, ...]:
        """What people asked that changed the run; to look into a held mount changes nothing."""
        return tuple(each for each in self.controls if each.verb not in LOOKS)

    @property
    def pauses(self) -> list[tuple[float, float | None]]:
        """When the run was paused, and until when, on its clock; None: it still is."""
        found: list[tuple[float, float | None]] = []
        for each in self.controls:
            is_paused = bool(found) and found[-1][1] is None
            if each.verb == Verb.PAUSE and not is_paused:
                found.append((each.at, None))
            elif each.verb == Verb.CONTINUE and is_paused:
                found[-1] = found[-1][0], each.at
        return found

    @property
    def is_held_up(self) -> bool:
        """Whether the run waits for people: it is paused, or a wave needs their approval."""
        return any(until is None for _, until in self.pauses) or bool(self.closed_gates)

    @property
    def closed_gates(self) -> list[ApprovalAwaited]:
        """The waves that people may still approve."""
        if self.halted is not None or self.stops:
            return []
        return [each for each in self.awaited.values() if each.until > self.last_at]

    @property
    def awaits_confirmation(self) -> bool:
        """Whether a person must confirm the run, who is asked once everything is listed."""
        if self.started.confirmed or self.process_gone or self.finished is not None:
            return False
        has_begun = any(wave.started_at is not None for wave in self.waves.values()) or any(
            record.phase not in {Phase.QUEUED, Phase.BUSY} for record in self.records.values()
        )
        return bool(self.records) and not (has_begun or self.stops or self.halted)

    @property
    def unaudited_sessions(self) -> dict[ServerName, dict[SessionId, str]]:
        """The sessions in which a mount of no target may be open, unseen, and why, by server.

        Also those in which a mount was asked for and that a process which is gone did not end.
        """
        asked: list[tuple[ServerName, SessionId]] = []
        if self.process_gone and self.finished is None:
            asked += [
                (record.planned.server, attempt.session)
                for record in self.records.values()
                for attempt in record.attempts
            ]
        return unread_sessions(self._ends, asked)

    @property
    def unaudited(self) -> dict[ServerName, str]:
        """Servers with a session in which a mount of no target may be open, unseen, and why."""
        return {
            name: next(iter(sessions.values()))
            for name, sessions in self.unaudited_sessions.items()
        }

    @property
    def left_open(self) -> LeftOpen:
        """What may be open of the run now, of targets and of none."""
        return LeftOpen(
            records=tuple(record for record in self.records.values() if record.may_be_open),
            strays=self.strays,
            unaudited=self.unaudited,
        )

    @property
    def strays(self) -> tuple[StrayFound, ...]:
        """Mounts that belong to no target and may be open."""
        return tuple(each for server in self.servers.values() for each in server.strays.values())

    @property
    def out_of_reach(self) -> int:
        """Mounts that may be open, of targets or of none, while their session has ended."""
        return self.left_open.out_of_reach(self._ends, self.last_at)

    @property
    def _ends(self) -> Ends:
        return {name: server.last_ends for name, server in self.servers.items()}

    def is_anything_left(self, *, retry_failed: bool = False) -> bool:
        """Tell whether there is anything that a resume would go on with."""
        skipped = skipped_keys(self.controls)
        return (
            self.finished is None
            or bool(self.left_open)
            or any(
                is_left(each, retry_failed=retry_failed, skipped=skipped)
                for each in self.records.values()
            )
        )

    def clock_at(self, moment: datetime) -> float:
        """Return the second of the run's clock at a point in time, never before the last event."""
        return max(self.last_at, (moment - self.started.started_at).total_seconds())

    def moment(self, at: float) -> datetime:
        """Return the point in time of `at` seconds on the run's clock."""
        return self.started.started_at + timedelta(seconds=at)

    def fold(self, event: Event, after: MountRecord | None = None) -> MountRecord | None:
        """Fold one more event in; return the target's record after a target event.

        `after` is that record where the caller has it already.

        Raises:
            IllegalTransition: the table or the plan does not allow it.
        """
        last_at, self.last_at = self.last_at, max(self.last_at, event.at)
        self.events += 1
        if isinstance(event, TargetEvent):
            after = after or advance(self.records, event)
            self.records[event.key] = after
            self._count_mounts(event, after)
            return after
        try:
            self._fold_run(event, last_at)
        except KeyError as exc:
            kind = type(event).__name__
            raise IllegalTransition(f"{kind} names {exc}, which the plan does not") from exc
        return None

    def _fold_run(self, event: Event, last_at: float) -> None:
        match event:
            case ApprovalAwaited(wave=wave):
                self.awaited[wave] = event
            case WaveStarted(wave=wave):
                self.awaited.pop(wave, None)
                if self.waves[wave].started_at is None:  # not where a resumed run takes it up
                    self.waves[wave].started_at = event.at
            case WaveFinished(wave=wave):
                self.waves[wave].finished_at = event.at
            case RunHalted():
                self.halted = event
                if event.reason == "expect":
                    self.broken_guard = event.detail
                if event.reason == "critical":
                    self._accept()
            case StopRequested():
                self.stops.append(event)
            case RunResumed():
                self._begin_anew(event, last_at)
            case ControlApplied():
                self.controls.append(event)
            case PlaceholderReplaced(key=key):
                del self.records[key]
            case RunNoted():
                self.notes.append(event)
            case RunForecast():
                self.forecast = event
            case RunFinished():
                self.finished = event
                for each in self.servers.values():
                    each.end()
                if self.halted is not None and self.halted.reason == "critical":
                    self._accept()
            case ServerEvent(server=server):
                self.servers[server].fold(event)
            case _:
                pass

    def _count_mounts(self, event: TargetEvent, after: MountRecord) -> None:
        """Count a target whose mount may be open from now on, or no longer.

        One whose request may have begun after all, as its session shows in the end, counts no
        more: what it may have begun is that of another request, too.
        """
        server = self.servers.get(after.planned.server)
        if server is None or not after.attempts:
            return
        session = after.attempts[-1].session
        if isinstance(event, SubmissionStarted | MountLeft):
            server.count_mount(session, event.key, at=event.at)
        elif isinstance(event, OutOfReach) and event.lost:
            server.deny(session, event.at)
        elif not after.may_be_open:
            server.open_mounts.get(session, set()).discard(event.key)

    def _accept(self) -> None:
        """Note which targets are not good: a halt at a critical one tells of all of them."""
        for key, record in self.records.items():
            if (record.result or record.standing) in NOT_GOOD:
                self.accepted.add(key)

    def _begin_anew(self, event: RunResumed, last_at: float) -> None:
        """Begin anew what belongs to one process: stops, halts and the servers' troubles."""
        self.resumed.append(event)
        self.halted = None
        self.stops = []
        self.awaited = {}
        self.finished = None
        self.process_gone = False
        for server in self.servers.values():
            server.begin_anew(event.at, last_at if event.used_until is None else event.used_until)

    def put_in_order(self) -> None:
        """Put targets and notes in one order, in whatever order several chains were folded.

        Targets as in the plan: by wave, then by server, then as they were planned there. In a run
        on one machine everything is in order already.
        """
        if not any(server.workers for server in self.servers.values()):
            return
        waves = {name: place for place, name in enumerate(self.waves)}
        servers = {name: place for place, name in enumerate(self.servers)}

        def place(record: MountRecord) -> tuple[int, int]:
            target = record.planned
            return waves.get(target.wave, len(waves)), servers.get(target.server, len(servers))

        self.records = {each.planned.key: each for each in sorted(self.records.values(), key=place)}
        self.notes.sort(key=lambda note: (note.at, note.message))


def skipped_keys(controls: Iterable[ControlApplied]) -> frozenset[MountKey]:
    """Return the targets that people have skipped, and do not want to be tried again."""
    skipped: set[MountKey] = set()
    for each in controls:
        if each.verb == Verb.SKIP:
            skipped.update(map(MountKey, each.words))
        elif each.verb == Verb.RETRY:
            skipped.difference_update(map(MountKey, each.words))
    return frozenset(skipped)


def is_wanted_again(
    record: MountRecord, *, retry_failed: bool, skipped: Container[MountKey] = ()
) -> bool:
    """Tell whether a resume takes up a concluded target: it was never submitted, or it may retry.

    So it does one that the end of the run cut short before an attempt told of its restore point.
    A mount that may be open forbids it; see `lifecycle`. One that a person skipped stays skipped.
    A target that was mounted and has no checks is not taken up, whatever the run requires: the same
    plan has none to make then either.
    """
    if record.planned.key in skipped:
        return False
    if record.result in NEVER_SUBMITTED or record.was_cut_short:
        return True
    return retry_failed and record.result in NOT_GOOD


def is_left(record: MountRecord, *, retry_failed: bool, skipped: Container[MountKey] = ()) -> bool:
    """Tell whether a resume has anything to do for a target."""
    again = is_wanted_again(record, retry_failed=retry_failed, skipped=skipped)
    return not record.is_final or record.may_be_open or again


def fold(events: Iterable[Event]) -> RunState:
    """Return the state after all `events`, the first of which is RunStarted.

    Those of several chains may come in any order that leaves each chain in its own.

    Raises:
        JournalDamaged: there is no beginning.
        IllegalTransition: events that no run of ours can have recorded.
    """
    state: RunState | None = None
    for state, _event, _record in replay(events):  # noqa: B007 - the last one is returned
        pass
    if state is None:
        raise JournalDamaged("the run has no records")
    state.put_in_order()
    return state


def replay(events: Iterable[Event]) -> Iterator[tuple[RunState, Event, MountRecord | None]]:
    """Yield the state after each event, the event, and its target's record if it has one.

    Raises:
        JournalDamaged, IllegalTransition: as `fold`.
    """
    state: RunState | None = None
    for event in events:
        record = None
        if state is None:
            if not isinstance(event, RunStarted):
                raise JournalDamaged("the run's first record is missing")
            state = RunState(event)
        elif isinstance(event, RunStarted):
            raise IllegalTransition(f"run {event.run} began twice")
        else:
            record = state.fold(event)
        yield state, event, record
