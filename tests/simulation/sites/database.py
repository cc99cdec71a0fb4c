"""A simulated database of runs over several machines: its clock, its restarts, its failover.

`SimulatedDatabase` is the server, `Connections` what a worker has to it: that implements
`ports.sites.SitesDatabase`. What goes wrong between the two is the `Wire`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Protocol, TypeVar

import anyio

from orchestrator.core.errors import DatabaseAway
from orchestrator.core.model import RunId, ServerName, SessionId
from orchestrator.core.records import Record
from orchestrator.core.sites import (
    LEASE_LIFE_S,
    Appended,
    Ask,
    ChainHead,
    Held,
    Holder,
    Lease,
    Piece,
    Quota,
    Request,
    RunRow,
    SealedToken,
    ShardRow,
    ShardState,
    Standing,
    Submission,
    Taken,
    WorkerFacts,
    WorkerId,
)
from tests.simulation.sites import chains
from tests.simulation.sites.tables import Shard, Tables
from tests.simulation.sites.tables import ShardRow as ShardTableRow

T = TypeVar("T")

START = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
"""What the database's clock says when it reads 0."""

LONG_AGO = -1e9

Transaction = Callable[[Tables, float], T]
"""What is done to the tables at a second of the database's clock, all at once."""


class SimulatedDatabase:
    """The server: one transaction after another, each whole or not at all."""

    def __init__(self, clock: Callable[[], float], *, kept: int = 0) -> None:
        """`clock` is its own, in seconds. It has been running for long.

        `kept`: how many of the last commits a failover may lose.
        """
        self.clock = clock
        self.tables = Tables()
        self.is_read_only = False
        self.is_down = False
        self.commits = self.timeline = 0
        self._started_at = LONG_AGO
        self._before: deque[Tables] = deque(maxlen=kept)
        self._on_break: list[Callable[[], None]] = []
        self._on_commit: list[Callable[[Tables], None]] = []

    def on_break(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever all connections break."""
        self._on_break.append(tell)

    def watch(self, look: Callable[[Tables], None]) -> None:
        """Call `look` after every commit."""
        self._on_commit.append(look)

    def transact(self, change: Transaction[T], *, writes: bool) -> T:
        """Commit a transaction and return its answer.

        Raises:
            DatabaseAway: it is down, or takes no changes now; nothing was changed.
        """
        if self.is_down:
            raise DatabaseAway("the database is away: it does not run")
        if writes and self.is_read_only:
            raise DatabaseAway("the database is away: cannot execute this in read-only mode")
        before = self.tables.copy() if writes and self._before.maxlen else None
        answer = change(self.tables, self.clock())
        if writes:
            self.commits += 1
            for look in self._on_commit:
                look(self.tables)
        if before is not None:
            self._before.append(before)
        return answer

    @property
    def takes_expired(self) -> bool:
        """False for one lease life after it was started: the living renew first."""
        return self._started_at + LEASE_LIFE_S < self.clock()

    # --- what happens to it --------------------------------------------------------------------

    def stop(self) -> None:
        """End it: all connections break, and nothing connects."""
        self.is_down = True
        for tell in self._on_break:
            tell()

    def start(self) -> None:
        """Start it again."""
        self.is_down = False
        self._started_at = self.clock()

    def become_writable(self) -> None:
        """Take changes again."""
        self.is_read_only = False

    def replicate(self) -> None:
        """Let the standby get all that was committed until now: no failover loses it."""
        self._before.clear()

    def fail_over(self, lost: int) -> int:
        """Let a standby go on that has not got the last commits; return how many were lost.

        It has been running for long, so it does not know that holders could not renew.
        """
        losing = min(lost, len(self._before))
        for _ in range(losing):
            self.tables = self._before.pop()
        self.timeline += 1
        self.tables.timeline = self.timeline
        self.is_down = False
        self._started_at = LONG_AGO
        return losing


class Wire(Protocol):
    """What carries statements to the database, and answers back."""

    async def carry(self, connection: str, statement: Callable[[], T]) -> T:
        """Have a statement done there and return its answer.

        `connection` names the one it goes over; statements of one are done one after another.

        Raises:
            DatabaseAway: there is no answer.
        """


class DirectWire:
    """Loses nothing, and takes no time."""

    async def carry(self, connection: str, statement: Callable[[], T]) -> T:
        """Have a statement done."""
        _ = connection
        return statement()


class Connections:
    """What one worker, or somebody who looks, has to the database: implements `ports.sites`.

    Over three connections: commits, other calls, and what is only read.
    """

    def __init__(self, database: SimulatedDatabase, wire: Wire | None = None) -> None:
        """Without a wire nothing goes wrong."""
        self.database, self._wire = database, wire or DirectWire()

    def _call(self, change: Transaction[T], over: str = "calls") -> Awaitable[T]:
        transaction = partial(self.database.transact, change, writes=True)
        return self._wire.carry(over, transaction)

    def _read(self, change: Transaction[T]) -> Awaitable[T]:
        return self._wire.carry("reads", partial(self.database.transact, change, writes=False))

    async def aclose(self) -> None:
        """Close every connection."""

    async def changes(self) -> AsyncIterator[RunId]:
        """Hear of nothing: it is only a hint."""
        await anyio.sleep_forever()
        yield RunId("")

    async def now(self) -> datetime:
        """Return the database's clock."""
        return await self._read(lambda tables, now: _time(now))

    # --- runs ----------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> None:
        """Make a run with its shards and its first record."""
        await self._call(lambda tables, now: tables.submit(submission, now))

    async def submission(self, run: RunId) -> Submission:
        """Return what was submitted."""
        return await self._read(lambda tables, now: tables.run(run).submission)

    async def ask(self, run: RunId, ask: Ask, details: Mapping[str, object]) -> int:
        """Ask something of a run; return the request's number."""
        return await self._call(lambda tables, now: tables.ask(run, ask, details, now))

    async def requests(self, run: RunId, after: int = 0) -> Sequence[Request]:
        """Return the requests about a run whose numbers are higher, in order."""

        def found(tables: Tables, now: float) -> Sequence[Request]:
            return [
                Request(
                    number=each.number,
                    ask=each.ask,
                    who="drill",
                    at=_time(each.at),
                    details=each.details,
                )
                for each in tables.requests
                if each.run == run and each.number > after
            ]

        return await self._read(found)

    # --- workers -------------------------------------------------------------------------------

    async def enter(self, worker: WorkerFacts) -> None:
        """Say that a worker is there."""
        await self._call(lambda tables, now: tables.enter(worker, now))

    async def leave(self, worker: WorkerId) -> None:
        """Say that a worker has ended."""
        await self._call(lambda tables, now: tables.leave(worker))

    async def take(
        self,
        worker: WorkerId,
        sites: Sequence[str],
        room: int,
        *,
        run: RunId | None = None,
        expired: bool = True,
    ) -> Sequence[Taken]:
        """Take all conductors, and up to `room` shards, that nobody serves."""

        def taken(tables: Tables, now: float) -> Sequence[Taken]:
            may_expire = expired and self.database.takes_expired
            return tables.take(worker, sites, room, run, now, expired=may_expire)

        return await self._call(taken)

    async def renew(self, worker: WorkerId, held: Sequence[Held]) -> Sequence[Standing]:
        """Renew the leases that are still this worker's."""
        return await self._call(lambda tables, now: tables.renew(worker, held, now))

    async def give_back(
        self, worker: WorkerId, leases: Sequence[Lease], *, in_turn: bool = False
    ) -> None:
        """Offer shards to others at once."""
        await self._call(lambda tables, now: tables.give_back(worker, leases, now, in_turn=in_turn))

    async def append(
        self, worker: WorkerId, attempt: int, pieces: Sequence[Piece]
    ) -> Sequence[Appended]:
        """Continue several chains in one commit."""
        return await self._call(
            lambda tables, now: chains.append(tables, worker, attempt, pieces, now), "commits"
        )

    async def share(
        self, worker: WorkerId, conductor: Lease, wanted: Mapping[ServerName, int]
    ) -> Mapping[ServerName, Quota]:
        """Give the shards of a run their parts of its limit."""
        return await self._call(lambda tables, now: tables.share(worker, conductor, wanted, now))

    # --- tokens --------------------------------------------------------------------------------

    async def keep_token(
        self, worker: WorkerId, lease: Lease, session: SessionId, sealed: bytes
    ) -> None:
        """Store a session's sealed token."""
        await self._call(lambda tables, now: tables.keep_token(worker, lease, session, sealed))

    async def tokens(self, worker: WorkerId, lease: Lease) -> Sequence[SealedToken]:
        """Return the sealed tokens of a shard."""
        return await self._call(lambda tables, now: tables.tokens_of(worker, lease))

    async def drop_token(self, worker: WorkerId, lease: Lease, session: SessionId) -> None:
        """Delete a token."""
        await self._call(lambda tables, now: tables.drop_token(worker, lease, session))

    # --- what anybody may read -----------------------------------------------------------------

    async def runs(self) -> Sequence[RunRow]:
        """Return all runs, the newest first."""

        def found(tables: Tables, now: float) -> Sequence[RunRow]:
            rows = sorted(tables.runs.values(), key=lambda row: -row.number)
            return [
                RunRow(
                    run=row.started.run,
                    plan=row.started.plan,
                    submitted_at=_time(row.submitted_at),
                    is_open=row.is_open,
                    halted=row.halted,
                    stopped=row.stopped,
                    unmount=row.unmount,
                )
                for row in rows
            ]

        return await self._read(found)

    async def shards(self, run: RunId) -> Sequence[ShardRow]:
        """Return the shards of a run, the conductor first, then by name."""
        return await self._read(
            lambda tables, now: [
                _shard(tables, shard, row, now)
                for shard, row in sorted(tables.shards.items())
                if shard[0] == run
            ]
        )

    async def undone(self, sites: Sequence[str], *, run: RunId | None = None) -> Sequence[ShardRow]:
        """Return what is left to do of runs that are open, or to be unmounted."""
        return await self._read(
            lambda tables, now: [
                _shard(tables, shard, row, now)
                for shard, row in tables.shards.items()
                if row.state is not ShardState.DONE
                and (tables.runs[shard[0]].is_open or tables.runs[shard[0]].unmount)
                and (row.site is None or row.site in sites)
                and run in {None, shard[0]}
            ]
        )

    async def workers(self) -> Sequence[Holder]:
        """Return the workers that have entered and not left."""

        def found(tables: Tables, now: float) -> Sequence[Holder]:
            rows = sorted(
                tables.workers.values(), key=lambda row: (row.entered_at, row.facts.worker)
            )
            return [
                Holder(
                    worker=row.facts.worker,
                    host=row.facts.host,
                    pid=row.facts.pid,
                    version=row.facts.version,
                    sites=row.facts.sites,
                    seen_s=now - row.seen,
                )
                for row in rows
                if not row.has_left
            ]

        return await self._read(found)

    async def heads(self, run: RunId) -> Mapping[ServerName, ChainHead]:
        """Return where each chain of a run ends, all at one instant."""
        return await self._read(
            lambda tables, now: {
                server: ChainHead(head.seq, head.hash)
                for (of, server), head in sorted(tables.heads.items())
                if of == run
            }
        )

    async def records(
        self, run: RunId, after: Mapping[ServerName, int], *, most: int = 5000
    ) -> Mapping[ServerName, Sequence[Record]]:
        """Return of several chains the records behind a number of each, in order."""
        return await self._read(
            lambda tables, now: {
                chain: [record for record, _ in records[number : number + most]]
                for chain, number in after.items()
                if len(records := tables.events.get((run, chain), [])) > number
            }
        )


@lru_cache(1024)
def _time(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def _shard(tables: Tables, shard: Shard, row: ShardTableRow, now: float) -> ShardRow:
    poster = tables.addresses[row.address].poster
    waits = row.state is ShardState.OPEN and poster is not None and poster[0] != shard[0]
    return ShardRow(
        server=shard[1],
        site=row.site,
        address=row.address,
        state=row.state,
        epoch=row.epoch,
        worker=row.worker,
        since=None if row.since is None else _time(row.since),
        lease_s=None if row.expires is None else row.expires - now,
        takeovers=row.takeovers,
        quota=tables.valid_part(shard),
        used=tables.used(shard, now),
        wants=row.wants,
        waits_for=poster[0] if waits and poster is not None else None,
    )
