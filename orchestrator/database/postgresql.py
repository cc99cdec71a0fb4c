"""The database of a run over several machines, in PostgreSQL; implements `ports.sites`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

import anyio
import psycopg

from orchestrator.core.errors import RunNotFound
from orchestrator.core.events import RunStarted, from_json, to_json
from orchestrator.core.model import RunId, ServerName, SessionId
from orchestrator.core.records import Record
from orchestrator.core.sites import (
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
    ShardFacts,
    ShardRow,
    Standing,
    Submission,
    Taken,
    WorkerFacts,
    WorkerId,
)
from orchestrator.database import rows
from orchestrator.database.address import Address
from orchestrator.database.failures import explain
from orchestrator.database.link import Link, connecting


class PostgreSQL:
    """Asks the functions and views of the schema. Three connections: none waits for another.

    Records are appended over one of them and read over another, so that neither a long reading
    nor a commit that waits for its standby holds up a taking.
    """

    def __init__(self, address: Address) -> None:
        """Connects to nothing yet; see `connected`."""
        self._address = address
        self._commits = Link(address)
        self._calls = Link(address)
        self._reads = Link(address)

    async def aclose(self) -> None:
        """Close every connection."""
        for link in (self._commits, self._calls, self._reads):
            await link.aclose()

    async def now(self) -> datetime:
        """Return the database's clock."""
        ((found,),) = await self._calls.rows("SELECT clock_timestamp()")
        return _time(found)

    # --- runs ---------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> None:
        """Make a run with its shards and its first record."""
        started = submission.started
        await self._call(
            "submit(%s::text, %s::text, %s::text, %b::bytea, %b::bytea, %s::jsonb, %s::int, "
            "%s::double precision, %s::text[], %b::bytea[], %s::text[], %s::text[], %s::text[])",
            started.run,
            started.plan,
            started.mode,
            to_json(started),
            submission.plan,
            json.dumps(dict(submission.options)),
            started.mounts_limit,
            started.deadline_s,
            list(submission.documents),
            list(submission.documents.values()),
            [each.server for each in submission.shards],
            [each.site for each in submission.shards],
            [each.address for each in submission.shards],
        )

    async def submission(self, run: RunId) -> Submission:
        """Return what was submitted."""
        found = await self._reads.rows(
            "SELECT started, content, options FROM bulk_restore.submissions WHERE run = %s", [run]
        )
        if not found:
            raise RunNotFound(f"there is no run {run}")
        ((started, content, options),) = found
        documents = await self._reads.rows(
            "SELECT name, content FROM bulk_restore.documents WHERE run = %s ORDER BY name", [run]
        )
        event = from_json(RunStarted.__name__, started)
        assert isinstance(event, RunStarted)  # noqa: S101 - `kind` says so
        return Submission(
            started=event,
            plan=content,
            documents=dict(documents),
            shards=tuple(
                ShardFacts(server=each.server, site=each.site, address=each.address)
                for each in await self.shards(run)
                if each.site is not None
            ),
            options=options,
        )

    async def ask(self, run: RunId, ask: Ask, details: Mapping[str, object]) -> int:
        """Ask something of a run; return the request's number."""
        words = json.dumps(dict(details))
        number = await self._call("ask(%s::text, %s::text, %s::jsonb)", run, ask.value, words)
        return int(number)

    async def requests(self, run: RunId, after: int = 0) -> Sequence[Request]:
        """Return the requests about a run whose numbers are higher, in order."""
        found = await self._reads.rows(
            "SELECT number, ask, who, at, details FROM bulk_restore.requests "
            "WHERE run = %s AND number > %s ORDER BY number",
            [run, after],
        )
        return [
            Request(number=number, ask=Ask(ask), who=who, at=_time(at), details=details)
            for number, ask, who, at, details in found
        ]

    # --- workers ------------------------------------------------------------------------------

    async def enter(self, worker: WorkerFacts) -> None:
        """Say that a worker is there."""
        await self._call(
            "enter(%s::text, %s::text, %s::int, %s::text, %s::text[])",
            worker.worker,
            worker.host,
            worker.pid,
            worker.version,
            list(worker.sites),
        )

    async def leave(self, worker: WorkerId) -> None:
        """Say that a worker has ended."""
        await self._call("leave(%s::text)", worker)

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
        found = await self._calls.rows(
            "SELECT * FROM bulk_restore.take(%s::text, %s::text[], %s::int, %s::text, %s::boolean)",
            [worker, list(sites), room, run, expired],
        )
        return [rows.taken(each) for each in found]

    async def renew(self, worker: WorkerId, held: Sequence[Held]) -> Sequence[Standing]:
        """Renew the leases that are still this worker's."""
        found = await self._calls.rows(rows.RENEW, rows.renewal(worker, held))
        return [rows.standing(each) for each in found]

    async def give_back(
        self, worker: WorkerId, leases: Sequence[Lease], *, in_turn: bool = False
    ) -> None:
        """Offer shards to others at once."""
        await self._calls.rows(
            "SELECT bulk_restore.give_back(%(worker)s::text, %(runs)s::text[], "
            "%(servers)s::text[], %(epochs)s::bigint[], %(in_turn)s::boolean)",
            {"worker": worker, "in_turn": in_turn, **rows.leases(leases)},
        )

    async def append(
        self, worker: WorkerId, attempt: int, pieces: Sequence[Piece]
    ) -> Sequence[Appended]:
        """Continue several chains in one commit."""
        written = [each for each in pieces if each.entries]
        found = await self._commits.rows(rows.APPEND, rows.batch(worker, attempt, written))
        return rows.appended(written, found)

    async def share(
        self, worker: WorkerId, conductor: Lease, wanted: Mapping[ServerName, int]
    ) -> Mapping[ServerName, Quota]:
        """Give the shards of a run their parts of its limit."""
        found = await self._calls.rows(
            "SELECT server, quota, used FROM bulk_restore.share"
            "(%s::text, %s::text, %s::bigint, %s::text[], %s::int[])",
            [worker, conductor.run, conductor.epoch, list(wanted), list(wanted.values())],
        )
        return {ServerName(server): Quota(quota, used) for server, quota, used in found}

    # --- tokens -------------------------------------------------------------------------------

    async def keep_token(
        self, worker: WorkerId, lease: Lease, session: SessionId, sealed: bytes
    ) -> None:
        """Store a session's sealed token."""
        await self._call(
            "keep_token(%s::text, %s::text, %s::text, %s::bigint, %s::text, %b::bytea)",
            *_holder(worker, lease),
            session,
            sealed,
        )

    async def tokens(self, worker: WorkerId, lease: Lease) -> Sequence[SealedToken]:
        """Return the sealed tokens of a shard."""
        found = await self._calls.rows(
            "SELECT session, epoch, sealed FROM bulk_restore.tokens"
            "(%s::text, %s::text, %s::text, %s::bigint)",
            _holder(worker, lease),
        )
        return [
            SealedToken(session=SessionId(session), epoch=epoch, sealed=sealed)
            for session, epoch, sealed in found
        ]

    async def drop_token(self, worker: WorkerId, lease: Lease, session: SessionId) -> None:
        """Delete a token: its session has ended."""
        await self._call(
            "drop_token(%s::text, %s::text, %s::text, %s::bigint, %s::text)",
            *_holder(worker, lease),
            session,
        )

    # --- what anybody may read ------------------------------------------------------------------

    async def runs(self) -> Sequence[RunRow]:
        """Return all runs, the newest first."""
        found = await self._reads.rows(rows.RUNS + "ORDER BY number DESC")
        return [rows.run_row(each) for each in found]

    async def shards(self, run: RunId) -> Sequence[ShardRow]:
        """Return the shards of a run, the conductor first, then by name."""
        found = await self._reads.rows(
            rows.SHARDS + 'WHERE s.run = %s ORDER BY s.server COLLATE "C"', [run]
        )
        return [rows.shard(each) for each in found]

    async def undone(self, sites: Sequence[str], *, run: RunId | None = None) -> Sequence[ShardRow]:
        """Return what is left to do of runs that are open, or to be unmounted."""
        found = await self._reads.rows(
            rows.SHARDS + "JOIN bulk_restore.runs r USING (run) "
            "WHERE s.state <> 'done' AND (r.state = 'open' OR r.unmount) "
            "AND (s.site IS NULL OR s.site = ANY (%s::text[])) "
            "AND (%s::text IS NULL OR s.run = %s)",
            [list(sites), run, run],
        )
        return [rows.shard(each) for each in found]

    async def workers(self) -> Sequence[Holder]:
        """Return the workers that have entered and not left."""
        found = await self._reads.rows(rows.WORKERS + "ORDER BY entered_at, worker")
        return [rows.holder(each) for each in found]

    async def heads(self, run: RunId) -> Mapping[ServerName, ChainHead]:
        """Return where each chain of a run ends, all at one instant."""
        found = await self._reads.rows(
            "SELECT chain, seq, hash FROM bulk_restore.heads WHERE run = %s "
            'ORDER BY chain COLLATE "C"',
            [run],
        )
        return {ServerName(chain): ChainHead(seq, hash_) for chain, seq, hash_ in found}

    async def records(
        self, run: RunId, after: Mapping[ServerName, int], *, most: int = 5000
    ) -> Mapping[ServerName, Sequence[Record]]:
        """Return of several chains the records behind a number of each, in order."""
        found = await self._reads.rows(
            "SELECT known.chain, seq, kind, at, body, hash "
            "FROM unnest(%b::text[], %b::bigint[]) AS known (chain, after), LATERAL ("
            "SELECT seq, kind, at, body, hash FROM bulk_restore.events "
            "WHERE run = %s AND chain = known.chain AND seq > known.after ORDER BY seq LIMIT %s"
            ") AS behind ORDER BY known.chain, seq",
            [list(after), list(after.values()), run, most],
        )
        chains: dict[ServerName, list[Record]] = {}
        for chain, seq, kind, at, body, hash_ in found:
            record = Record(run=run, seq=seq, kind=kind, at=at, body=body, hash=hash_)
            chains.setdefault(ServerName(chain), []).append(record)
        return chains

    async def changes(self) -> AsyncIterator[RunId]:
        """Yield the runs about which something was written, on a connection of its own."""
        try:
            async with connecting(self._address) as connection:
                await connection.execute("LISTEN bulk_restore")
                while True:
                    async for each in connection.notifies(timeout=0):
                        yield RunId(each.payload)
                    # To wait there would wake this process ten times a second.
                    await anyio.wait_readable(connection.fileno())
        except psycopg.Error as exc:
            explain(exc, self._address)

    async def _call(self, call: LiteralString, *values: Any) -> Any:
        """Call one of our functions and return its answer."""
        ((answer,),) = await self._calls.rows("SELECT bulk_restore." + call, values)
        return answer


def _time(found: datetime) -> datetime:
    return found.astimezone(UTC)


def _holder(worker: WorkerId, lease: Lease) -> tuple[str, str, str, int]:
    return worker, lease.run, lease.server, lease.epoch
