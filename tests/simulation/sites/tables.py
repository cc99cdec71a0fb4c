"""What the database of a run over several machines keeps, and what its functions do with that.

The functions of `orchestrator/database/schema/*.sql`, over plain dictionaries. Each is one
transaction: it happens whole or, if it raises, not at all. `now` is the database's clock, in
seconds. Rows are immutable, so a copy of the tables is cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as copied
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.core.errors import DatabaseUnusable, Fenced, NotEntered, RunLocked, RunNotFound
from orchestrator.core.events import RunStarted, to_json
from orchestrator.core.model import MountKey, RunId, ServerName, SessionId, WaveName
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.core.records import Record, chain_hash, genesis
from orchestrator.core.sites import (
    CONDUCTOR,
    LEASE_LIFE_S,
    Ask,
    ChainHead,
    Held,
    Lease,
    Quota,
    SealedToken,
    ShardState,
    Standing,
    Stop,
    Submission,
    Taken,
    WorkerFacts,
    WorkerId,
)

FORGOTTEN_AFTER = SESSION_IDLE_LIMIT + 1.0
"""Seconds after the last use of a session when its mounts count in no limit any more."""

Shard = tuple[RunId, ServerName]


class Run(Struct, frozen=True, kw_only=True):
    """A row of table `run`."""

    number: int
    submission: Submission
    submitted_at: float
    deadline_at: float | None
    timeline: int = 0
    failed_over_at: float | None = None
    is_open: bool = True
    halted: str | None = None
    stopped: Stop | None = None
    unmount: bool = False

    @property
    def started(self) -> RunStarted:
        """The run's first record."""
        return self.submission.started


class Address(Struct, frozen=True, kw_only=True):
    """A row of table `address`: which shard has the right to post there."""

    epoch: int = 0
    poster: Shard | None = None


class ShardRow(Struct, frozen=True, kw_only=True):
    """A row of table `shard`, with its row of table `lease`."""

    site: str | None
    address: str
    state: ShardState = ShardState.OPEN
    quota: int | None = None
    epoch: int = 0
    worker: WorkerId | None = None
    since: float | None = None
    expires: float | None = None
    wants: int = 0
    turn_over: float | None = None
    takeovers: int = 0
    done_at: float | None = None

    def is_held(self, worker: WorkerId, epoch: int) -> bool:
        """Return whether a worker has this very lease."""
        return (self.worker, self.epoch) == (worker, epoch)


class Head(Struct, frozen=True, kw_only=True):
    """A row of table `head`: where a chain ends, and the last attempt to continue it."""

    seq: int
    hash: bytes
    epoch: int = 0
    attempt: int = 0


class WorkerRow(Struct, frozen=True, kw_only=True):
    """A row of table `worker`."""

    facts: WorkerFacts
    entered_at: float
    seen: float
    has_left: bool = False


class Asked(Struct, frozen=True, kw_only=True):
    """A row of table `request`."""

    run: RunId
    number: int
    ask: Ask
    at: float
    details: Mapping[str, object]


@dataclass(slots=True)
class Tables:
    """All tables."""

    runs: dict[RunId, Run] = field(default_factory=dict)
    addresses: dict[str, Address] = field(default_factory=dict)
    shards: dict[Shard, ShardRow] = field(default_factory=dict)
    heads: dict[Shard, Head] = field(default_factory=dict)
    events: dict[Shard, list[tuple[Record, int]]] = field(default_factory=dict)
    """Each record with the epoch in which it was written."""
    gates: dict[tuple[RunId, WaveName], str | None] = field(default_factory=dict)
    """Why a wave is skipped; None: it is open."""
    slots: dict[tuple[RunId, ServerName, MountKey], WaveName] = field(default_factory=dict)
    tokens: dict[tuple[RunId, ServerName, SessionId], SealedToken] = field(default_factory=dict)
    workers: dict[WorkerId, WorkerRow] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)
    durations: list[tuple[RunId, str, str, float, bool]] = field(default_factory=list)
    timeline: int = 0
    """How often the database has failed over."""

    def copy(self) -> Self:
        """Return tables that later changes of these do not touch."""
        return copied(
            self,
            runs=dict(self.runs),
            addresses=dict(self.addresses),
            shards=dict(self.shards),
            heads=dict(self.heads),
            events={shard: list(events) for shard, events in self.events.items()},
            gates=dict(self.gates),
            slots=dict(self.slots),
            tokens=dict(self.tokens),
            workers=dict(self.workers),
            requests=list(self.requests),
            durations=list(self.durations),
        )

    # --- runs.sql ------------------------------------------------------------------------------

    def submit(self, submission: Submission, now: float) -> None:
        """Make a run with its shards and its first record. Repeated, it changes nothing."""
        started = submission.started
        run = self.runs.get(started.run)
        if run is not None and to_json(run.started) == to_json(started):
            return
        for other in self.runs.values():
            if other.is_open and other.started.plan == started.plan:
                raise RunLocked(f"run {other.started.run} of plan {started.plan} is open")
        if run is not None:
            raise DatabaseUnusable(f"there is another run {started.run}")
        deadline = started.deadline_s
        self.runs[started.run] = Run(
            number=len(self.runs) + 1,
            submission=submission,
            submitted_at=now,
            deadline_at=None if deadline is None else now + deadline,
            timeline=self.timeline,
        )
        quota = None if started.mounts_limit is None else 0
        own = f"run {started.run}"
        self._add_shard((started.run, CONDUCTOR), ShardRow(site=None, address=own))
        for facts in submission.shards:
            row = ShardRow(site=facts.site, address=facts.address, quota=quota)
            self._add_shard((started.run, facts.server), row)
        self._record_start(started)

    def _add_shard(self, shard: Shard, row: ShardRow) -> None:
        self.shards[shard] = row
        self.addresses.setdefault(row.address, Address())
        self.heads[shard] = Head(seq=0, hash=genesis(shard[1]))
        self.events[shard] = []

    def _record_start(self, started: RunStarted) -> None:
        chain, kind, body = (started.run, CONDUCTOR), type(started).__name__, to_json(started)
        digest = chain_hash(genesis(CONDUCTOR), started.run, 1, kind, body)
        record = Record(run=started.run, seq=1, kind=kind, at=0.0, body=body, hash=digest)
        self.events[chain].append((record, 0))
        self.heads[chain] = Head(seq=1, hash=digest)

    def run(self, run: RunId) -> Run:
        """Return a run.

        Raises:
            RunNotFound: there is none.
        """
        if run not in self.runs:
            raise RunNotFound(f"there is no run {run}")
        return self.runs[run]

    def ask(self, run: RunId, ask: Ask, details: Mapping[str, object], now: float) -> int:
        """Note a request about a run, and do what it asks for."""
        row = self.run(run)
        match ask:
            case Ask.STOP:
                self.runs[run] = replace(row, stopped=row.stopped or Stop.GENTLY)
            case Ask.STOP_NOW:
                self.runs[run] = replace(row, stopped=Stop.NOW)
            case Ask.UNMOUNT:
                stopped = Stop.GENTLY if row.stopped is Stop.NOW else row.stopped
                self.runs[run] = replace(row, unmount=True, stopped=stopped)
                self._change_shards(run, ShardState.HOLDING, only=ShardState.DONE)
            case Ask.RESUME:
                self._resume(row, now)
        number = len(self.requests) + 1
        asked = Asked(run=run, number=number, ask=ask, at=now, details=dict(details))
        self.requests.append(asked)
        return number

    def _resume(self, row: Run, now: float) -> None:
        run, plan, deadline = row.started.run, row.started.plan, row.started.deadline_s
        for other in self.runs.values():
            if other.is_open and other.started.plan == plan and other.started.run != run:
                raise RunLocked(f"run {other.started.run} of plan {plan} is open")
        self.runs[run] = replace(
            row,
            is_open=True,
            halted=None,
            stopped=None,
            unmount=False,
            deadline_at=None if deadline is None else now + deadline,
        )
        self._change_shards(run, ShardState.OPEN)

    def _change_shards(self, run: RunId, to: ShardState, only: ShardState | None = None) -> None:
        for shard, row in self.shards.items():
            if shard[0] == run and only in {None, row.state}:
                self.shards[shard] = replace(row, state=to, done_at=None)

    def share(
        self, worker: WorkerId, conductor: Lease, wanted: Mapping[ServerName, int], now: float
    ) -> Mapping[ServerName, Quota]:
        """Give the shards of a run their parts of its limit; return what they have now."""
        run = conductor.run
        self.require_lease(worker, Lease(run=run, server=CONDUCTOR, epoch=conductor.epoch))
        if not self.is_settling(run, now):
            if self.runs[run].failed_over_at is not None:
                self._take_back(run, now)
            self._share(run, wanted, now)
        return {
            server: Quota(row.quota, self.used((run, server), now))
            for (of, server), row in sorted(self.shards.items())
            if of == run and server
        }

    def is_settling(self, run: RunId, now: float) -> bool:
        """Return whether the database has just failed over, and note when that is first seen."""
        row = self.runs[run]
        if row.timeline != self.timeline:
            row = replace(row, timeline=self.timeline, failed_over_at=now)
            self.runs[run] = row
        return row.failed_over_at is not None and row.failed_over_at + LEASE_LIFE_S > now

    def valid_part(self, shard: Shard) -> int | None:
        """Return what a shard's part of its run's limit is worth: after a failover nothing."""
        quota = self.shards[shard].quota
        return quota if quota is None or self.runs[shard[0]].failed_over_at is None else 0

    def _take_back(self, run: RunId, now: float) -> None:
        """Leave every shard the part of the limit that it uses: the rest is given anew."""
        self.runs[run] = replace(self.runs[run], failed_over_at=None)
        for shard, row in self.shards.items():
            if shard[0] == run and row.quota is not None:
                least = min(row.quota, self.used(shard, now))
                self.shards[shard] = replace(row, quota=least)

    def _share(self, run: RunId, wanted: Mapping[ServerName, int], now: float) -> None:
        limit = self.runs[run].started.mounts_limit
        for server, mounts in wanted.items():
            row = self.shards.get((run, server))
            if server and row is not None and row.quota is not None and row.quota > mounts:
                least = max(mounts, self.used((run, server), now))
                self.shards[run, server] = replace(row, quota=least)
        left = 0 if limit is None else limit - sum(self._taken_up(run, now))
        for server, mounts in wanted.items():
            row = self.shards.get((run, server))
            if row is not None and row.quota is not None and row.quota < mounts:
                more = max(0, min(mounts - row.quota, left))
                self.shards[run, server] = replace(row, quota=row.quota + more)
                left -= more

    def _taken_up(self, run: RunId, now: float) -> Iterator[int]:
        """Yield what each shard has of its run's limit, or uses."""
        for shard, row in self.shards.items():
            if shard[0] == run and row.quota is not None:
                yield max(row.quota, self.used(shard, now))

    def used(self, shard: Shard, now: float) -> int:
        """Return how many mounts of a shard are in the making, open or in doubt.

        None of one that was done for so long that no session can live there any more.
        """
        done_at = self.shards[shard].done_at
        if done_at is not None and done_at + FORGOTTEN_AFTER < now:
            return 0
        run, server = shard
        return sum([of == server and by == run for by, of, _ in self.slots])

    def keep_token(self, worker: WorkerId, lease: Lease, session: SessionId, sealed: bytes) -> None:
        """Store a session's sealed token, as the newest; none of a shard that is done."""
        self.require_lease(worker, lease)
        if self.shards[lease.run, lease.server].state is ShardState.DONE:
            raise Fenced("nobody serves this shard any more")
        self.tokens.pop((lease.run, lease.server, session), None)
        token = SealedToken(session=session, epoch=lease.epoch, sealed=sealed)
        self.tokens[lease.run, lease.server, session] = token

    def tokens_of(self, worker: WorkerId, lease: Lease) -> Sequence[SealedToken]:
        """Return the sealed tokens of a shard, the oldest first."""
        self.require_lease(worker, lease)
        shard = (lease.run, lease.server)
        return [token for place, token in self.tokens.items() if place[:2] == shard]

    def drop_token(self, worker: WorkerId, lease: Lease, session: SessionId) -> None:
        """Delete a token."""
        self.require_lease(worker, lease)
        self.tokens.pop((lease.run, lease.server, session), None)

    # --- leases.sql ----------------------------------------------------------------------------

    def enter(self, facts: WorkerFacts, now: float) -> None:
        """Say that a worker is there."""
        before = self.workers.get(facts.worker)
        entered_at = now if before is None else before.entered_at
        self.workers[facts.worker] = WorkerRow(facts=facts, entered_at=entered_at, seen=now)

    def leave(self, worker: WorkerId) -> None:
        """Say that a worker has ended: all that it still held is given back."""
        if worker in self.workers:
            self.workers[worker] = replace(self.workers[worker], has_left=True)
        for shard, row in self.shards.items():
            if row.worker == worker:
                self.shards[shard] = replace(row, worker=None, since=None, expires=None)

    def _see(self, worker: WorkerId, now: float) -> bool:
        if worker in self.workers:
            self.workers[worker] = replace(self.workers[worker], seen=now, has_left=False)
        return worker in self.workers

    def take(
        self,
        worker: WorkerId,
        sites: Sequence[str],
        room: int,
        run: RunId | None,
        now: float,
        *,
        expired: bool,
    ) -> Sequence[Taken]:
        """Take what nobody serves; those whose leases have expired if `expired`."""
        if not self._see(worker, now):
            raise NotEntered(f"worker {worker} has not entered")
        free = [
            shard
            for shard, row in self.shards.items()
            if (row.worker is None or (expired and row.expires is not None and row.expires < now))
            and self._is_offered(shard, sites, run)
        ]
        if not free:
            return []
        taken, posting = list[Taken](), set[str]()
        servers = [shard for shard in sorted(free, key=self._rank) if shard[1] != CONDUCTOR]
        conductors = [shard for shard in free if shard[1] == CONDUCTOR]
        for shard in [*conductors, *servers[:room]]:
            row = self.shards[shard]
            if row.state is ShardState.OPEN and row.address in posting:
                continue
            taken.append(self._taken(worker, shard, now))
            if row.state is ShardState.OPEN:
                posting.add(row.address)
        return taken

    def _is_offered(self, shard: Shard, sites: Sequence[str], wanted: RunId | None) -> bool:
        row, run = self.shards[shard], self.runs[shard[0]]
        if row.state is ShardState.DONE or wanted not in {None, shard[0]}:
            return False
        if not (run.is_open or run.unmount) or not (row.site is None or row.site in sites):
            return False
        poster = self.addresses[row.address].poster
        return row.state is ShardState.HOLDING or poster in {None, shard}

    def _rank(self, shard: Shard) -> tuple[float, bool, int, ServerName]:
        run, turn_over = self.runs[shard[0]], self.shards[shard].turn_over
        turn = -1.0 if turn_over is None else turn_over
        return turn, run.started.mode != "recovery", run.number, shard[1]

    def _taken(self, worker: WorkerId, shard: Shard, now: float) -> Taken:
        row = self.shards[shard]
        address = self.addresses[row.address]
        address = replace(address, epoch=address.epoch + 1)
        if row.state is ShardState.OPEN:
            address = replace(address, poster=shard)
        self.addresses[row.address] = address
        self.shards[shard] = replace(
            row,
            epoch=address.epoch,
            worker=worker,
            since=now,
            expires=now + LEASE_LIFE_S,
            wants=0,
            takeovers=row.takeovers + (row.worker is not None),
        )
        head = self.heads[shard]
        return Taken(
            standing=self._standing(shard, now),
            site=row.site,
            address=row.address,
            state=row.state,
            head=ChainHead(head.seq, head.hash),
            taken_from=row.worker,
        )

    def _standing(self, shard: Shard, now: float) -> Standing:
        row, run = self.shards[shard], self.runs[shard[0]]
        gates = [(wave, why) for (of, wave), why in self.gates.items() if of == shard[0]]
        return Standing(
            lease=Lease(run=shard[0], server=shard[1], epoch=row.epoch),
            at=max(0.0, now - run.submitted_at),
            waves=frozenset([wave for wave, why in gates if why is None]),
            skipped={wave: why for wave, why in gates if why is not None},
            posts=self.addresses[row.address].poster == shard,
            halted=run.halted,
            stopped=run.stopped,
            unmount=run.unmount,
            quota=self.valid_part(shard),
            deadline_s=None if run.deadline_at is None else run.deadline_at - now,
            asked=max([each.number for each in self.requests if each.run == shard[0]], default=0),
            head=ChainHead(self.heads[shard].seq, self.heads[shard].hash),
        )

    def renew(self, worker: WorkerId, held: Sequence[Held], now: float) -> Sequence[Standing]:
        """Renew what is still this worker's, also after it expired; return that."""
        self._see(worker, now)
        mine = []
        for each in held:
            shard = (each.lease.run, each.lease.server)
            row = self.shards.get(shard)
            if row is not None and row.is_held(worker, each.lease.epoch):
                expires = now + LEASE_LIFE_S
                self.shards[shard] = replace(row, expires=expires, wants=each.wants)
                mine.append(shard)
        for shard, row in self.shards.items():  # a run that was resumed posts again
            address = self.addresses[row.address]
            if row.worker == worker and row.state is ShardState.OPEN and address.poster is None:
                self.addresses[row.address] = replace(address, poster=shard)
        return [self._standing(shard, now) for shard in sorted(mine)]

    def give_back(
        self, worker: WorkerId, leases: Sequence[Lease], now: float, *, in_turn: bool
    ) -> None:
        """Offer shards to others at once."""
        for lease in leases:
            row = self.shards.get((lease.run, lease.server))
            if row is not None and row.is_held(worker, lease.epoch):
                self.shards[lease.run, lease.server] = replace(
                    row,
                    worker=None,
                    since=None,
                    expires=None,
                    wants=0,
                    turn_over=now if in_turn else row.turn_over,
                )

    def require_lease(self, worker: WorkerId, lease: Lease) -> None:
        """Return unless the worker does not have this very lease.

        Raises:
            Fenced: it has not.
        """
        row = self.shards.get((lease.run, lease.server))
        if row is None or not row.is_held(worker, lease.epoch):
            raise Fenced("another worker serves this shard")
