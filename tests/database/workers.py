"""A run over two sites, and workers that know where their chains end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.core.events import (
    Event,
    MountReleased,
    RunHalted,
    RunNoted,
    RunStarted,
    SubmissionStarted,
    WaveStarted,
    to_json,
)
from orchestrator.core.model import (
    MountKey,
    RestorePointId,
    RunId,
    ServerName,
    SessionId,
    WaveName,
)
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.records import Record, chain_hash
from orchestrator.core.sites import (
    CONDUCTOR,
    Appended,
    ChainHead,
    Effect,
    Entry,
    Freed,
    Halted,
    Held,
    Intent,
    Lease,
    Outcome,
    Piece,
    ShardFacts,
    Standing,
    Submission,
    Taken,
    WaveOpened,
    WorkerFacts,
    WorkerId,
)

RUN = RunId("2026-01-01-run")
HQ, LAB, BRANCH = ServerName("hq"), ServerName("lab"), ServerName("branch")
FIRST, SECOND = WaveName("first"), WaveName("second")

SHARDS = (
    ShardFacts(server=BRANCH, site="west", address="https://branch.example.net:9398"),
    ShardFacts(server=HQ, site="east", address="https://hq.example.net:9398"),
    ShardFacts(server=LAB, site="east", address="https://lab.example.net:9398"),
)

Change = tuple[Event, Effect | None]


def submission(
    run: RunId = RUN,
    plan: str = "drill",
    *,
    shards: Sequence[ShardFacts] = SHARDS,
    documents: Mapping[str, bytes] | None = None,
    **facts: Any,
) -> Submission:
    """Return a run of a plan as it is submitted; `facts` are those of RunStarted."""
    values: dict[str, Any] = {"plan_path": "plan.yaml", "plan_sha256": "0" * 64, "version": "1"}
    started = RunStarted(
        at=0.0, run=run, started_at=datetime(2026, 1, 1, tzinfo=UTC), plan=plan, **values | facts
    )
    return Submission(
        started=started,
        plan=b"version: 1\n\x00\xff",
        documents=documents or {"machines.csv": b"vm\ndc01\n"},
        shards=tuple(shards),
        options={"only": ["dc*"], "yes_write": False},
    )


def note(words: str = "noted") -> Change:
    """Return an event that changes nothing beside the chain."""
    return RunNoted(at=1.0, message=words), None


def intent(key: str = "dc01", wave: WaveName = FIRST, limit: int | None = None) -> Change:
    """Return the intent to mount a target."""
    event = SubmissionStarted(
        at=2.0,
        key=MountKey(key),
        attempt=1,
        session=SessionId("s1"),
        point=RestorePointId("p1"),
    )
    return event, Intent(key=event.key, wave=wave, wave_limit=limit)


def freed(key: str = "dc01", **facts: Any) -> Change:
    """Return the end of a mount."""
    return MountReleased(at=3.0, key=MountKey(key)), Freed(key=MountKey(key), **facts)


def opened(wave: WaveName = FIRST) -> Change:
    """Return the opening of a wave."""
    return WaveStarted(at=1.0, wave=wave), WaveOpened(wave=wave)


def halted() -> Change:
    """Return the end of a run's budget."""
    return RunHalted(at=4.0, reason="budget", detail="too many"), Halted(reason="budget")


def piece(lease: Lease, head: ChainHead, *changes: Change) -> Piece:
    """Return records that continue a chain from `head`."""
    entries = []
    for event, effect in changes:
        kind, body, seq = type(event).__name__, to_json(event), head.seq + 1
        head = ChainHead(seq, chain_hash(head.hash, lease.run, seq, kind, body))
        record = Record(run=lease.run, seq=seq, kind=kind, at=event.at, body=body, hash=head.hash)
        entries.append(Entry(record=record, effect=effect))
    return Piece(lease=lease, entries=tuple(entries))


class Worker:
    """A worker that does as it is told, and counts its attempts."""

    def __init__(self, database: SitesDatabase, name: str) -> None:
        """It has not entered yet."""
        self.database = database
        self.id = WorkerId(name)
        self.heads: dict[Lease, ChainHead] = {}
        self.attempt = 0

    async def enter(self, *sites: str) -> None:
        """Enter, for these sites."""
        await self.database.enter(
            WorkerFacts(worker=self.id, host="host", pid=1, version="1", sites=sites)
        )

    async def take(self, *sites: str, room: int = 10, **choice: Any) -> list[Taken]:
        """Take what nobody serves, and note where the chains end."""
        found = list(await self.database.take(self.id, sites or ("east",), room, **choice))
        for each in found:
            self.heads[each.standing.lease] = each.head
        return found

    async def serve(self, server: ServerName, *sites: str) -> Lease:
        """Take everything that is free, and return the lease of one shard."""
        for each in await self.take(*sites):
            if each.standing.lease.server == server:
                return each.standing.lease
        raise AssertionError(server)

    async def renew(self, *leases: Lease) -> list[Standing]:
        """Renew leases."""
        held = [Held(lease=each) for each in leases]
        return list(await self.database.renew(self.id, held))

    async def append(self, lease: Lease, *changes: Change) -> Appended:
        """Continue one chain, and note where it ends now."""
        (answer,) = await self.send(piece(lease, self.heads[lease], *changes))
        return answer

    async def send(self, *pieces: Piece) -> list[Appended]:
        """Continue several chains."""
        self.attempt += 1
        answers = list(await self.database.append(self.id, self.attempt, pieces))
        for each in answers:
            if each.head is not None:
                self.heads[each.lease] = each.head
        return answers

    async def open_wave(self, run: RunId = RUN, wave: WaveName = FIRST) -> None:
        """Open a wave, as the conductor that this worker is already."""
        lease = next(each for each in self.heads if (each.run, each.server) == (run, CONDUCTOR))
        assert (await self.append(lease, opened(wave))).outcome is Outcome.WRITTEN


async def entered(database: SitesDatabase, name: str) -> Worker:
    """Return a worker that has entered, for site east."""
    worker = Worker(database, name)
    await worker.enter("east")
    return worker


async def recorded(
    database: SitesDatabase, run: RunId, chain: ServerName, *, after: int = 0, most: int = 5000
) -> Sequence[Record]:
    """Return the records of one chain behind a number."""
    return (await database.records(run, {chain: after}, most=most)).get(chain, [])
