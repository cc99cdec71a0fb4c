"""Sees every request that reaches a server and every commit, and notes what must never be.

What can only be judged at the end is in `judging`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web

from orchestrator.core.events import (
    Event,
    MountLeft,
    OutOfReach,
    SessionOpened,
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    TargetPlanned,
    TaskAccepted,
    WaveStarted,
    from_json,
)
from orchestrator.core.model import MountKey, RunId, ServerName, SessionId, WaveName, session_id
from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.manager import SimulatedManager
from orchestrator.simulator.server import HttpFace
from tests.simulation.sites.database import SimulatedDatabase
from tests.simulation.sites.processes import Process, process_in
from tests.simulation.sites.tables import Tables

POINT_OF = re.compile(r"/([0-9a-f-]{36})/mounts$", re.IGNORECASE)
MOMENTS = {
    "SubmissionStarted": "granted",
    "TaskAccepted": "accepted",
    "TaskSucceeded": "succeeded",
    "MountReleased": "released",
    "ShardTaken": "taken",
    "SessionTakenUp": "taken_up",
    "SessionOpened": "opened",
    "ShardPlanned": "planned",
    "WaveStarted": "wave",
    "ShardFinished": "finishing",
}
"""What a record is called as a moment."""

SHOWN = 3
"""Violations that are told; the first is the cause of the others more often than not."""


@dataclass(slots=True)
class _Aim:
    """What the chains say of one target."""

    wave: WaveName
    asked: tuple[str, str] | None = None
    """Session and restore point of an intent whose outcome is not recorded."""
    last: tuple[SessionId, str] | None = None
    """Those of the newest intent."""


@dataclass(slots=True)
class Witness:
    """Watches one run."""

    run: RunId
    database: SimulatedDatabase
    violations: list[str] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    paused: set[Process] = field(default_factory=set)
    """Processes whose clocks stood still: these prove nothing, and a late POST of theirs may come.

    It then acts in an old session, in which nobody else posts: see rules F5 and F6.
    """
    changes: list[tuple[float, ServerName, str, str, str]] = field(default_factory=list)
    """Second, server, worker, method and path of every request that changes a server."""
    lost_takings: bool = False
    """Whether a failover has lost that a shard was taken."""
    lost_intents: set[bytes] = field(default_factory=set)
    """Hashes of intents that a failover has lost: one may have been acted on by who is fenced."""
    ramp: tuple[int, float] | None = None
    """So many mounts of a server, and the seconds after which as many more are given."""
    interval_s: float = 0.0
    """Least time between two mount requests of a worker to a server."""
    on_moment: Callable[[str, str], None] = lambda moment, worker: None
    """Told when a worker comes to a moment at which a fault would hurt."""
    _aims: dict[tuple[ServerName, MountKey], _Aim] = field(default_factory=dict)
    _posts: dict[tuple[ServerName, int], float] = field(default_factory=dict)
    """When the last mount request came, by server and epoch."""
    _began: dict[tuple[ServerName, int], float] = field(default_factory=dict)
    _aside: set[tuple[SessionId, str]] = field(default_factory=set)
    """Sessions and restore points of mounts that were given up."""
    _read: Counter[ServerName] = field(default_factory=Counter)
    _opened: set[WaveName] = field(default_factory=set)
    _logged_on: dict[SessionId, int] = field(default_factory=dict)
    """In which epoch each session was opened."""

    def __post_init__(self) -> None:
        """Look at every commit."""
        self.database.watch(self.committed)

    def demand(self, holds: bool, what: str) -> None:
        """Note a violation unless `holds`."""
        if not holds:
            self.violations.append(f"after {self.database.clock():.3f} s: {what}")

    def require_none(self) -> None:
        """Raise what was noted, if anything."""
        assert not self.violations, "\n".join(self.violations[:SHOWN])

    @property
    def face(self) -> Callable[[SimulatedManager, FaultScript | None], HttpFace]:
        """Return what makes the REST faces of the servers, each of which shows its requests."""
        return partial(_Face, self)

    # --- commits -------------------------------------------------------------------------------

    def committed(self, tables: Tables) -> None:
        """Look at the tables after a commit."""
        run = tables.runs.get(self.run)
        if run is None:
            return
        limit = run.started.mounts_limit
        if limit is not None:
            quotas = {shard[1]: row.quota or 0 for shard, row in tables.shards.items()}
            if sum(quotas.values()) > limit:
                self.demand(False, f"quotas {quotas} of {limit}")
        for shard, events in tables.events.items():
            read = self._read.get(shard[1], 0)
            if read == len(events):
                continue
            self._read[shard[1]] = len(events)
            for record, epoch in events[read:]:
                event = from_json(record.kind, record.body)
                self._saw(shard[1], event)
                if isinstance(event, SubmissionStarted):
                    self._began.setdefault((shard[1], epoch), self.database.clock())
                if isinstance(event, SessionOpened):
                    self._logged_on[event.session] = epoch
                moment = MOMENTS.get(record.kind)
                worker = tables.shards[shard].worker
                if moment is not None and worker is not None:
                    self.on_moment(moment, worker)

    def failed_over(self, before: Tables, tables: Tables) -> None:
        """Note that the database has lost commits: records that are lost are written once more.

        Where a taking is lost nobody can: who took the shard is fenced with all that it knows.
        """
        for shard, events in tables.events.items():
            self._read[shard[1]] = min(self._read[shard[1]], len(events))
            self.lost_takings |= before.shards[shard].epoch != tables.shards[shard].epoch
            self.lost_intents.update(
                record.hash
                for record, _ in before.events[shard][len(events) :]
                if record.kind == SubmissionStarted.__name__
            )

    @property
    def has_lost_intents(self) -> bool:
        """Whether an intent is lost for good: its mount counts against no limit."""
        written = {
            record.hash for events in self.database.tables.events.values() for record, _ in events
        }
        return not self.lost_intents <= written

    def _saw(self, server: ServerName, event: Event) -> None:
        match event:
            case TargetPlanned(key=key, wave=wave):
                self._aims.setdefault((server, key), _Aim(wave)).wave = wave
            case SubmissionStarted(key=key):
                aim = self._aims[server, key]
                self.demand(aim.wave in self._opened, f"{key} was granted before its wave")
                aim.asked = aim.last = event.session, event.point
                self._aside.discard(aim.last)
                self.hits["intents"] += 1
            case TaskAccepted(key=key) | SubmissionNotSent(key=key) | SubmissionRefused(key=key):
                self._aims[server, key].asked = None
            case SubmissionInDoubt(key=key):
                self.hits["doubts"] += 1
                self._aims[server, key].asked = None
            case MountLeft(key=key) | OutOfReach(key=key):
                last = self._aims[server, key].last
                self._aside.update([last] if last is not None else [])
            case WaveStarted(wave=wave):
                self._opened.add(wave)
            case _:
                pass

    # --- requests ------------------------------------------------------------------------------

    def arrived(
        self, manager: SimulatedManager, process: Process | None, method: str, target: str, by: str
    ) -> None:
        """Look at a request as it reaches a server; `by` is the session that sends it.

        Of a connection that is closed by now nobody can say whose it was.
        """
        server, path = ServerName(manager.name), target.partition("?")[0]
        if method == "GET":
            return
        name = process.name if process is not None else "nobody"
        self.changes.append((self.database.clock(), server, name, method, path))
        self.hits[f"{method} of {name}"] += 1
        shard = self.database.tables.shards[self.run, server]
        is_holder = shard.worker == name
        self.demand(
            is_holder or process is None or process in self.paused,
            f"{server}: {method} {path} of {name}, and {shard.worker} has the lease",
        )
        point = POINT_OF.search(path)
        if method == "POST" and point is not None:
            self._posted(server, name, point[1].lower(), SessionId(by), excused=not is_holder)
            if is_holder:
                self._judge_pace(manager, server, shard.epoch)
            self.on_moment("posted", name)
        if method == "DELETE":
            self.on_moment(
                "logging_off" if "/logonsessions/" in path.lower() else "unmounting", name
            )

    def _judge_pace(self, manager: SimulatedManager, server: ServerName, epoch: int) -> None:
        """Check that a mount request keeps the plan's start interval and ramp."""
        now, place = self.database.clock(), (server, epoch)
        apart = now - self._posts.get(place, -math.inf)
        self.demand(apart >= self.interval_s - 1e-6, f"{server}: two POSTs {apart:g} s apart")
        self.hits["intervals"] += place in self._posts and self.interval_s > 0
        self._posts[place] = now
        if self.ramp is None or place not in self._began:
            return
        mounts, every = self.ramp
        given = mounts * (1 + math.floor((now - self._began[place]) / every))
        count = sum(
            fate.is_open
            and not (fate.is_excused or fate.orphaned)
            and fate.server == server
            and self._logged_on.get(session_id(fate.session)) == epoch
            and (session_id(fate.session), fate.point) not in self._aside
            for fate in manager.truth.mounts
        )
        self.demand(count < given, f"{server}: {count} in work, and the ramp gives {given}")
        self.hits["ramps"] += given <= 2 * mounts

    def answered(self, process: Process | None, method: str, target: str) -> None:
        """Look at an answer before it leaves a server."""
        if method == "POST" and POINT_OF.search(target.partition("?")[0]) and process is not None:
            self.on_moment("answered", process.name)

    def _posted(
        self, server: ServerName, name: str, point: str, session: SessionId, *, excused: bool
    ) -> None:
        asked = {aim.asked for (of, _), aim in self._aims.items() if of == server}
        wanted = (session, point)
        self.demand(
            excused or wanted in asked,
            f"{server}: {name} posts for {point} in {session}, which no chain intends: {asked}",
        )
        epoch = self.database.tables.shards[self.run, server].epoch
        self.demand(
            excused or self._logged_on.get(session) == epoch,
            f"{server}: {name} posts for {point} in {session}, which it has not opened itself",
        )


class _Face(HttpFace):
    """Shows the witness every request before anything goes wrong with it."""

    def __init__(
        self, witness: Witness, manager: SimulatedManager, faults: FaultScript | None
    ) -> None:
        super().__init__(manager, faults)
        self._witness = witness

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        session = self.manager.sessions.get(request.headers.get("X-RestSvcSessionId", ""))
        sender = _sender(request)
        self._witness.arrived(
            self.manager,
            sender,
            request.method,
            request.raw_path,
            session_id(session.id) if session is not None else "no session",
        )
        answer = await super().handle(request)
        self._witness.answered(sender, request.method, request.raw_path)
        return answer


def _sender(request: web.BaseRequest) -> Process | None:
    """Return the process at the other end of a request's connection."""
    pipe: Any = request.transport
    return None if pipe is None else process_in(pipe.other.context)
