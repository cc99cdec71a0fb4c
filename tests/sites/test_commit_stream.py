"""The commits of a worker: who waits is written at once, and everything else goes with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import anyio
import pytest

from orchestrator.app.sites.chain import MOST, Chain
from orchestrator.app.sites.commit_stream import FEW, FLUSH_S, LATELY_S, CommitStream
from orchestrator.core.earlier_runs.durations import MountTimes
from orchestrator.core.events import RunNoted, SubmissionStarted
from orchestrator.core.model import (
    MountKey,
    RestorePointId,
    RunId,
    ServerName,
    SessionId,
    WaveName,
)
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.records import genesis
from orchestrator.core.sites import Appended, ChainHead, Lease, Outcome, Piece, WorkerId

pytestmark = pytest.mark.anyio

HQ, KEY = ServerName("hq"), MountKey("w/hq/a")
COMMIT_S = 0.1


class Database:
    """Takes `COMMIT_S` for each commit, and writes everything."""

    def __init__(self) -> None:
        self.commits: list[tuple[float, int]] = []
        """When each commit was sent, and how many records it had."""

    async def append(
        self, worker: WorkerId, attempt: int, pieces: Sequence[Piece]
    ) -> Sequence[Appended]:
        _ = worker, attempt
        records = sum(len(each.entries) for each in pieces)
        self.commits.append((anyio.current_time(), records))
        await anyio.sleep(COMMIT_S)
        return [
            Appended(
                lease=each.lease,
                outcome=Outcome.WRITTEN,
                head=ChainHead(each.entries[-1].record.seq, each.entries[-1].record.hash),
            )
            for each in pieces
        ]


@asynccontextmanager
async def written() -> AsyncIterator[tuple[Database, Chain]]:
    """Write one chain; yield the database and the chain."""
    async with all_written(1) as (database, chains):
        yield database, chains[0]


@asynccontextmanager
async def all_written(shards: int) -> AsyncIterator[tuple[Database, list[Chain]]]:
    """Write the chains of some shards; yield the database and the chains."""
    database = Database()
    stream = CommitStream(cast("SitesDatabase", database), WorkerId("anna"), anyio.current_time)
    chains = [
        Chain(
            Lease(run=RunId("r"), server=server, epoch=1),
            ChainHead(0, genesis(server)),
            wake=stream.wake,
            shortly=stream.shortly,
            soon=stream.soon,
            waves={KEY: WaveName("w")},
            wave_limits={},
            times=MountTimes(),
        )
        for server in [HQ, *(ServerName(f"hq{number}") for number in range(1, shards))]
    ]
    for chain in chains:
        stream.add(chain)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.serve)
        await anyio.sleep(1.0)
        yield database, chains
        tasks.cancel_scope.cancel()


def note(chain: Chain) -> None:
    """Record something for which nobody waits."""
    chain.append(RunNoted(at=anyio.current_time(), message="x"))


async def granted(chain: Chain) -> None:
    """Wait for an intent."""
    now = anyio.current_time()
    intent = SubmissionStarted(
        at=now, key=KEY, attempt=1, session=SessionId("s"), point=RestorePointId("p")
    )
    assert await chain.granted(intent, lambda: None) is None


async def test_what_nobody_waits_for_gathers_also_while_a_commit_is_under_way() -> None:
    """Else each commit is followed by one with the record or two that came meanwhile."""
    async with written() as (database, chain):
        began = anyio.current_time()
        note(chain)
        await anyio.sleep(FLUSH_S + COMMIT_S / 2)
        note(chain)
        await anyio.sleep(COMMIT_S)
        note(chain)
        await anyio.sleep(2.0)

    assert [records for _, records in database.commits] == [1, 2]
    first, second = (at - began for at, _ in database.commits)
    assert first == pytest.approx(FLUSH_S)
    assert second == pytest.approx(FLUSH_S + COMMIT_S / 2 + FLUSH_S)


async def test_an_intent_waits_for_the_commit_under_way_alone() -> None:
    """It takes what waits with it, and no moment passes before it is sent."""
    async with written() as (database, chain):
        await granted(chain)
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(granted, chain)
            await anyio.sleep(COMMIT_S / 2)
            note(chain)
            tasks.start_soon(granted, chain)

        assert anyio.current_time() - began == pytest.approx(2 * COMMIT_S)
    assert [records for _, records in database.commits] == [1, 1, 2]


@pytest.mark.parametrize(("shards", "waits_s"), [(1, 0), (FEW, 0), (FEW + 8, 0.02), (500, 0.1)])
async def test_an_intent_waits_a_moment_for_those_of_many_other_shards(
    shards: int, waits_s: float
) -> None:
    """What each of few shards asks for goes alone; it would wait for nothing most of the time."""
    async with all_written(shards) as (database, chains):
        for chain in chains:
            note(chain)
        await anyio.sleep(1.0)
        del database.commits[:]
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(granted, chains[0])
            await anyio.sleep(0.015)
            tasks.start_soon(granted, chains[-1])

    together = waits_s > 0.015
    assert [records for _, records in database.commits] == ([2] if together else [1, 1])
    assert database.commits[0][0] - began == pytest.approx(waits_s)


async def test_an_intent_waits_for_no_shard_that_is_silent() -> None:
    """A hundred of them may have nothing to do while one mounts."""
    async with all_written(100) as (database, chains):
        for chain in chains:
            note(chain)
        await anyio.sleep(LATELY_S + 1.0)
        await granted(chains[0])
        began = anyio.current_time()
        await granted(chains[0])

    assert database.commits[-1][0] == pytest.approx(began)


async def test_who_waits_for_no_mount_is_written_with_the_others_of_a_moment() -> None:
    """The moment is as long as a commit takes; at once, where that is not known."""
    async with written() as (database, chain):
        began = anyio.current_time()
        note(chain)
        await chain.durable()
        assert anyio.current_time() - began == pytest.approx(COMMIT_S)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                note(chain)
                tasks.start_soon(chain.durable)
                await anyio.sleep(COMMIT_S / 2)
        assert anyio.current_time() - began == pytest.approx(3 * COMMIT_S)

    assert [records for _, records in database.commits] == [1, 2]


async def test_no_mount_waits_for_a_commit_that_could_have_waited_for_it() -> None:
    """Where the database is far away, an unmount goes with the next intent."""
    async with written() as (database, chain):
        await granted(chain)
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            note(chain)
            tasks.start_soon(chain.durable)
            await anyio.sleep(0.8 * COMMIT_S)
            await granted(chain)
        assert anyio.current_time() - began == pytest.approx(1.8 * COMMIT_S)
        began = anyio.current_time()
        note(chain)
        await chain.durable()
        assert anyio.current_time() - began == pytest.approx(2 * COMMIT_S)

    assert [records for _, records in database.commits] == [1, 2, 1]


async def test_a_chain_longer_than_a_commit_is_written_without_a_pause() -> None:
    """What had no room in the first goes with the second."""
    async with written() as (database, chain):
        for _ in range(2 * MOST + 1):
            note(chain)
        await anyio.sleep(2.0)

    assert [records for _, records in database.commits] == [MOST, MOST, 1]
    first, last = database.commits[0][0], database.commits[-1][0]
    assert last - first == pytest.approx(2 * COMMIT_S)
