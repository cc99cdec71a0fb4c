"""A database to read: runs are recorded in it by what records them there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from itertools import count

import anyio

from orchestrator.app.sites.chain import Chain
from orchestrator.app.sites.commit_stream import CommitStream
from orchestrator.core.earlier_runs.durations import MountTimes
from orchestrator.core.earlier_runs.naming import address_of, urls_of
from orchestrator.core.events import (
    Event,
    RunStarted,
    ServerEvent,
    SubmissionStarted,
    TargetEvent,
    TargetPlanned,
)
from orchestrator.core.model import MountKey, ServerName
from orchestrator.core.ports.journal import Journal
from orchestrator.core.ports.store import Store
from orchestrator.core.sites import (
    CONDUCTOR,
    ShardFacts,
    Submission,
    WorkerFacts,
    WorkerId,
)
from orchestrator.database.address import read_address
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.renewal import boot_clock
from orchestrator.database.store import DatabaseStore
from tests.database.owner import Owner
from tests.store.recorder import Recorder

SERVERS = (ServerName("dr"), ServerName("hq"))
"""Those of the runs that are recorded here."""

NUMBERS = count(1)


class DatabaseRecorder(Recorder):
    """A database with the schema, for one test."""

    def __init__(self, url: Callable[[str], str], owner: Owner) -> None:
        """`url` returns its address for a login."""
        self._url, self._owner = url, owner
        self._stores: list[DatabaseStore] = []

    @property
    def store(self) -> Store:
        """The database, over a connection of its own, for a login that may only read."""
        self._stores.append(DatabaseStore(read_address(self._url("reader"))))
        return self._stores[-1]

    def close(self) -> None:
        """Close what was read over."""
        for each in self._stores:
            each.close()

    def writing(self, first: RunStarted) -> AbstractAsyncContextManager[Journal]:
        """Be a worker that serves all shards of a run."""
        return _writing(PostgreSQL(read_address(self._url("drill"))), self._owner, first)

    def at_work(self, first: RunStarted) -> AbstractContextManager[None]:
        """Let a worker have a lease."""
        return _leased(self._owner, first)

    async def spoil(self, run: str, kind: type[Event], body: bytes) -> None:
        """Write into the table."""
        self._owner.rows(
            "UPDATE event SET body = %s WHERE run = %s AND kind = %s", body, run, kind.__name__
        )

    async def cut(self, run: str) -> None:
        """Take a record from the run's own chain, and let its head not tell."""
        self._owner.rows(
            "DELETE FROM event USING head WHERE event.run = %s AND event.chain = '' "
            "AND (head.run, head.chain, head.seq) = (event.run, event.chain, event.seq)",
            run,
        )
        self._owner.rows(
            "UPDATE head SET seq = event.seq, hash = event.hash FROM event "
            "WHERE (event.run, event.chain, event.seq) = (head.run, head.chain, head.seq - 1) "
            "AND head.run = %s AND head.chain = ''",
            run,
        )


class _Writer:
    """Implements `ports.Journal`: each event goes into the chain that it belongs to."""

    def __init__(self, database: PostgreSQL, owner: Owner, first: RunStarted) -> None:
        self._database, self._owner, self._first = database, owner, first
        self._waiting: list[Event] = []
        self._servers: dict[MountKey, ServerName] = {}
        self._chains: Mapping[ServerName, Chain] = {}
        self.worker = WorkerId(f"worker {next(NUMBERS)}")
        self.stream = CommitStream(database, self.worker, boot_clock)

    def append(self, event: Event) -> None:
        """Keep the event until `durable`."""
        self._waiting.append(event)

    async def durable(self) -> None:
        """Write what was kept."""
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            if isinstance(event, RunStarted):
                await self._begin(event)
                continue
            chain = self._chains[self._server_of(event)]
            if isinstance(event, TargetPlanned):
                self._owner.rows(
                    "INSERT INTO gate VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    self._first.run,
                    event.wave,
                )
            if isinstance(event, SubmissionStarted):
                assert await self.granted(event, lambda: None) is None
            else:
                chain.append(event)
        for chain in self._chains.values():
            await chain.durable()

    async def granted(self, intent: SubmissionStarted, taken: Callable[[], None]) -> str | None:
        """Write an intent."""
        return await self._chains[self._servers[intent.key]].granted(intent, taken)

    def _server_of(self, event: Event) -> ServerName:
        if isinstance(event, TargetPlanned):
            self._servers[event.key] = event.server
        if isinstance(event, TargetEvent):
            return self._servers[event.key]
        return event.server if isinstance(event, ServerEvent) else CONDUCTOR

    async def _begin(self, first: RunStarted) -> None:
        urls = urls_of(first.servers)
        shards = tuple(
            ShardFacts(server=name, site="east", address=address_of(urls, name))
            for name in {*SERVERS, *urls}
        )
        # the plan's runs overlap here, which is not what is tested
        self._owner.rows("UPDATE run SET state = 'ended'")
        await self._database.submit(
            Submission(started=first, plan=b"", documents={}, shards=shards)
        )
        facts = WorkerFacts(worker=self.worker, host="h", pid=1, version="1", sites=("east",))
        await self._database.enter(facts)
        taken = await self._database.take(self.worker, ["east"], 50, run=first.run)
        self._chains = {
            each.standing.lease.server: Chain(
                each.standing.lease,
                each.head,
                wake=self.stream.wake,
                shortly=self.stream.wake,
                soon=self.stream.soon,
                waves={},
                wave_limits={},
                times=MountTimes(),
            )
            for each in taken
        }
        for chain in self._chains.values():
            self.stream.add(chain)


@asynccontextmanager
async def _writing(database: PostgreSQL, owner: Owner, first: RunStarted) -> AsyncIterator[Journal]:
    writer = _Writer(database, owner, first)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.stream.serve)
        yield writer
        await writer.durable()
        tasks.cancel_scope.cancel()
    await database.leave(writer.worker)
    owner.rows("UPDATE address SET run = NULL, server = NULL")
    await database.aclose()


@contextmanager
def _leased(owner: Owner, first: RunStarted) -> Iterator[None]:
    owner.rows(
        "UPDATE lease SET worker = 'w', expires = clock_timestamp() + interval '1 hour' "
        "WHERE run = %s AND server = 'hq'",
        first.run,
    )
    yield
    owner.rows("UPDATE lease SET worker = NULL, expires = NULL WHERE run = %s", first.run)
