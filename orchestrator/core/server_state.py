"""What the events of a run say of one Enterprise Manager."""

from __future__ import annotations

import math

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.core.events import (
    ActivitySeen,
    HaltAsked,
    MountForgotten,
    ServerEvent,
    ServerGivenUp,
    ServerMeasured,
    ServerPaced,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    SessionTakenUp,
    ShardDamaged,
    ShardFinished,
    ShardPlanned,
    ShardTaken,
    StrayFound,
    StrayReleased,
    TasksAttributed,
)
from orchestrator.core.model import MountKey, SessionId, TaskId
from orchestrator.core.policy import SESSION_IDLE_LIMIT


class Outage(Struct):
    """From when to when a server could not be used, on the run's clock; None: to the end."""

    start: float
    end: float | None
    reason: str


class ServerState(Struct):
    """What the events say of one Enterprise Manager."""

    sessions: list[SessionOpened] = field(default_factory=list)
    taken_up: int = 0
    """How often a later process took up a session that an earlier one had opened."""
    attributed: list[TasksAttributed] = field(default_factory=list)
    ended: list[SessionEnded] = field(default_factory=list)
    strays: dict[tuple[SessionId, TaskId], StrayFound] = field(default_factory=dict)
    """Mounts of no target that may be open."""
    strays_removed: list[StrayFound] = field(default_factory=list)
    """Mounts of no target that were found and are gone."""
    parked: ServerParked | None = None
    """Set while the server cannot be used."""
    given_up: ServerGivenUp | None = None
    measured: ServerMeasured | None = None
    open_mounts: dict[SessionId, set[MountKey]] = field(default_factory=dict)
    """Targets whose mount is, or may be, open, from the moment before it is asked for.

    By session; one that nobody used until the server must have forgotten it has none.
    """
    unattended: dict[SessionId, float] = field(default_factory=dict)
    """Sessions that are denied, or of a process that is gone: when they were used last.

    Those too that the server must have forgotten by now: whoever goes on later must not think that
    they were in use until then.
    """
    denied: dict[SessionId, float] = field(default_factory=dict)
    """Sessions that were left open, and denied since to each worker: when that was first said."""
    peak_mounts: int = 0
    """The most of them at a time, over all processes of the run."""
    outages: list[Outage] = field(default_factory=list)
    paces: list[tuple[float, int | None]] = field(default_factory=list)
    """(second, mounts it is given from then on); None: as many as the plan allows."""
    activity: list[ActivitySeen] = field(default_factory=list)
    """What it has shown of restores and replications, each time that it changed."""
    workers: list[ShardTaken] = field(default_factory=list)
    """The workers that have served it, in a run over several machines."""
    matched: dict[str, int] | None = None
    """What the plan's guards have counted on it, in such a run."""
    ends: list[float] = field(default_factory=list)
    """When nothing was left to do on it, in such a run: once, and again after each resume."""
    forgotten: set[MountKey] = field(default_factory=set)
    """Targets whose mount counts no more, for its session must be forgotten, in such a run."""
    failure: str | None = None
    """An internal error of one of its workers."""
    damaged: str | None = None
    """Why nobody goes on with it, in such a run: records of it are lost."""
    is_planned: bool = False
    """Whether its worker has planned all of its targets since the run began, or ended last.

    This and the next two are for who conducts such a run, and reads its chains in the order of
    `records.merged`: over chains in another order they may tell of the time before that end.
    """
    is_finished: bool = False
    """Whether nothing is left to do on it."""
    halt_asked: HaltAsked | None = None
    """Set if one of its workers wants the run to halt."""

    @property
    def over(self) -> frozenset[SessionId]:
        """The sessions that were lost or logged off: they are not used any more."""
        return frozenset(session for session, end in self.last_ends.items() if end.is_over)

    @property
    def last_ends(self) -> dict[SessionId, SessionEnded]:
        """How each session ended, by what was said last."""
        return {end.session: end for end in self.ended}

    def fold(self, event: ServerEvent) -> None:
        """Fold one more event of this server in."""
        match event:
            case SessionOpened():
                self.sessions.append(event)
            case SessionTakenUp():
                self.taken_up += 1
                self.unattended.pop(event.session, None)
                self.denied.pop(event.session, None)
            case TasksAttributed():
                self.attributed.append(event)
            case StrayFound():
                self.strays[event.session, event.task] = event
            case StrayReleased():
                gone = self.strays.pop((event.session, event.task), None)
                if gone is not None:
                    self.strays_removed.append(gone)
            case SessionEnded():
                self._end(event)
            case ServerParked():
                self.back(event.at)
                self.parked = event
                start = event.at if event.since is None else event.since
                self.outages.append(Outage(start, None, event.reason))
            case ServerResumed():
                self.back(event.at)
            case ServerPaced():
                self.paces.append((event.at, event.allowed))
            case ServerGivenUp():
                self.given_up = event
            case ActivitySeen():
                self.activity.append(event)
            case ServerMeasured():
                self.measured = _joined(self.measured, event)
            case ShardTaken():
                said = self.last_said()
                self.denied = {each: at for each, at in self.denied.items() if each in said}
                self.workers.append(event)
                self.is_finished = False
                self._use_anew(event.at, event.used_until)
            case HaltAsked():
                self.halt_asked = event
            case MountForgotten(key=key):
                self.forgotten.add(key)
            case ShardPlanned():
                self.is_planned = True
                if event.matched is not None:
                    self.matched = event.matched
            case ShardDamaged(detail=detail):
                self.damaged, self.is_finished = detail, True
            case ShardFinished():
                self.is_finished = True
                self.ends.append(event.at)
                self.failure = event.failure or self.failure
            case _:
                pass

    def _end(self, event: SessionEnded) -> None:
        self.ended.append(event)
        if not event.lost and event.unaudited is None:  # it has answered just now
            self.unattended.pop(event.session, None)
        self.deny(event.session, event.at)
        if event.lost and event.left_open:
            self.denied.setdefault(event.session, event.at)
        else:
            self.denied.pop(event.session, None)

    def last_said(self) -> dict[SessionId, SessionEnded]:
        """Return how sessions ended that its last worker has left open, or found denied."""
        since = self.workers[-1].at if self.workers else -math.inf
        ends = self.last_ends.items()
        return {each: end for each, end in ends if end.left_open and end.at >= since}

    def deny(self, session: SessionId, at: float) -> None:
        """Note that a session is used no more: its mounts count until it must be forgotten."""
        if session in self.open_mounts:
            self.unattended.setdefault(session, at)

    def count_mount(self, session: SessionId, key: MountKey, *, at: float) -> None:
        """Count a target whose mount may be open in a session from now on."""
        for left, since in self.unattended.items():
            if at - since > SESSION_IDLE_LIMIT:
                self.open_mounts.pop(left, None)
        self.open_mounts.setdefault(session, set()).add(key)
        self.peak_mounts = max(self.peak_mounts, sum(map(len, self.open_mounts.values())))

    def end(self) -> None:
        """Note that the run has ended: if its workers do anything now, it is resumed."""
        self.is_planned = self.is_finished = False
        self.halt_asked = None

    def begin_anew(self, at: float, used_until: float) -> None:
        """Begin anew what belongs to one process; an earlier one used its sessions until then.

        A server of a run over several machines begins anew with each of its workers.
        """
        if not self.workers:
            self._use_anew(at, used_until)

    def _use_anew(self, at: float, used_until: float) -> None:
        for session in self.open_mounts:
            self.unattended.setdefault(session, used_until)
        self.back(at)
        self.given_up = None
        if self.paces and self.paces[-1][1] is not None:
            self.paces.append((at, None))

    def back(self, at: float) -> None:
        """Let its trouble be over: it answers again, or another process asks anew."""
        self.parked = None
        if self.outages and self.outages[-1].end is None:
            self.outages[-1].end = at


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
