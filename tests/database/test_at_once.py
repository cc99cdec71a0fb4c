"""What many workers do at once: their commits never wait for each other in a circle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import anyio
import psycopg
import pytest

from orchestrator.core.model import RunId, ServerName, WaveName
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.sites import (
    CONDUCTOR,
    Appended,
    Lease,
    OnlyHolds,
    Outcome,
    Quota,
    Refusal,
    ShardDone,
    ShardFacts,
)
from orchestrator.database.address import read_address
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer
from tests.database.owner import Owner
from tests.database.patience import until_overdue
from tests.database.workers import (
    FIRST,
    HQ,
    LAB,
    SECOND,
    Worker,
    intent,
    note,
    piece,
    submission,
)

pytestmark = [pytest.mark.anyio, pytest.mark.process]

LIMITED = RunId("limited")
MANY = tuple(
    ShardFacts(server=ServerName(f"em{number}"), site="east", address=f"https://em{number}:9398")
    for number in range(8)
)


@asynccontextmanager
async def locked(server: PrivateServer, name: str, rows: str) -> AsyncIterator[None]:
    """Keep others from changing some rows, until the end of the block."""
    async with await psycopg.AsyncConnection.connect(server.url(name)) as connection:
        await connection.execute(f"SELECT FROM bulk_restore.{rows} FOR UPDATE".encode())
        yield
        await connection.rollback()


@asynccontextmanager
async def connected(url: str, shards: Sequence[ShardFacts]) -> AsyncIterator[list[Worker]]:
    """Give a worker for each shard, with connections of its own."""
    async with AsyncExitStack() as stack:
        found = []
        for shard in shards:
            database = PostgreSQL(read_address(url))
            await stack.enter_async_context(aclosing(database))
            found.append(Worker(database, shard.server))
        yield found


async def until_waiting(owner: Owner, least: int) -> None:
    """Return as soon as so many statements wait for locks."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    for _ in until_overdue():
        if owner.one(waiting) >= least:
            return
        await anyio.sleep(0.01)


async def test_a_failover_is_noted_however_many_write_at_once(
    server: PrivateServer, name: str, url: str, owner: Owner
) -> None:
    """None of their commits is given up; before it is noted the time to settle does not begin."""
    async with connected(url, MANY) as workers:
        await workers[0].database.submit(submission(LIMITED, mounts_limit=4, shards=MANY))
        leases = await taken(workers)
        owner.rows("UPDATE run SET timeline = timeline - 1")
        answers: list[Appended] = []

        async def ask(worker: Worker, lease: Lease) -> None:
            answers.append(await worker.append(lease, intent()))

        async with anyio.create_task_group() as tasks, locked(server, name, "shard"):
            for worker, lease in zip(workers, leases, strict=True):
                tasks.start_soon(ask, worker, lease)
            await until_waiting(owner, len(workers))

    assert [each.refusal for each in answers] == [Refusal.SETTLING] * len(workers)
    assert owner.one("SELECT failed_over_at IS NOT NULL FROM run")


async def taken(workers: Sequence[Worker]) -> list[Lease]:
    """Let each worker serve a server of the run, whose first wave is open."""
    leases = []
    for worker in workers:
        await worker.enter("east")
        found = [each.standing.lease for each in await worker.take("east", room=1)]
        leases.append(next(each for each in found if each.server != CONDUCTOR))
    await workers[0].open_wave(LIMITED)
    return leases


@pytest.mark.parametrize("end", [ShardDone(), OnlyHolds()])
async def test_the_end_of_a_shard_and_new_parts_of_the_limit_do_not_wait_for_each_other(
    database: SitesDatabase,
    fail_over: Callable[[], None],
    settle: Callable[[], None],
    server: PrivateServer,
    name: str,
    owner: Owner,
    end: ShardDone | OnlyHolds,
) -> None:
    """One commit ends a shard and asks for a mount of another, while the parts are given anew."""
    await database.submit(submission(LIMITED, mounts_limit=3))
    worker = Worker(database, "carl")
    await worker.enter("east", "west")
    found = await worker.take("east", "west")
    leases = {each.standing.lease.server: each.standing.lease for each in found}
    await worker.open_wave(LIMITED)
    fail_over()
    await worker.append(leases[HQ], intent())
    settle()
    shares: list[Quota] = []
    answers: list[Appended] = []

    async def share() -> None:
        given = await database.share(worker.id, leases[CONDUCTOR], {HQ: 0, LAB: 2})
        shares.append(given[LAB])

    async def write() -> None:
        ends = piece(leases[HQ], worker.heads[leases[HQ]], (note()[0], end))
        asks = piece(leases[LAB], worker.heads[leases[LAB]], intent())
        answers.extend(await worker.send(ends, asks))

    async with (
        anyio.create_task_group() as tasks,
        locked(server, name, "lease WHERE server = 'lab'"),
    ):
        tasks.start_soon(write)
        await until_waiting(owner, 1)
        tasks.start_soon(share)
        await until_waiting(owner, 2)

    assert [(each.outcome, each.refusal) for each in answers] == [
        (Outcome.WRITTEN, None),
        (Outcome.REFUSED, Refusal.SETTLING),
    ]
    assert shares == [Quota(2, 0)]


@pytest.mark.parametrize("limit", [None, 5])
async def test_commits_with_mounts_of_several_waves_do_not_wait_for_each_other(
    server: PrivateServer, name: str, url: str, owner: Owner, limit: int | None
) -> None:
    """Each of two workers asks for a mount of either wave, and in another order."""
    async with connected(url, MANY[:2]) as workers:
        await workers[0].database.submit(submission(LIMITED, shards=MANY[:4]))
        leases = await taken(workers)
        more = [(await each.take("east", room=1))[0].standing.lease for each in workers]
        await workers[0].open_wave(LIMITED, SECOND)
        answers: list[Appended] = []

        async def ask(at: int, first: WaveName, second: WaveName) -> None:
            worker = workers[at]
            pieces = [
                piece(lease, worker.heads[lease], intent(wave=wave, limit=limit))
                for lease, wave in ((leases[at], first), (more[at], second))
            ]
            answers.extend(await worker.send(*pieces))

        last = "lease WHERE server IN ('em2', 'em3')"
        async with anyio.create_task_group() as tasks, locked(server, name, last):
            tasks.start_soon(ask, 0, FIRST, SECOND)
            tasks.start_soon(ask, 1, SECOND, FIRST)
            await until_waiting(owner, 2)

    assert [(each.outcome, each.refusal) for each in answers] == [(Outcome.WRITTEN, None)] * 4


async def test_the_limit_of_a_wave_holds_for_commits_at_the_same_time(
    server: PrivateServer, name: str, url: str, owner: Owner
) -> None:
    """The one that comes later waits for the other, and counts what that has taken."""
    async with connected(url, MANY[:2]) as (one, other):
        await one.database.submit(submission(LIMITED, shards=MANY[:3]))
        leases = await taken([one, other])
        more = (await one.take("east", room=1))[0].standing.lease
        answers: list[Appended] = []

        async def first() -> None:
            asks = piece(leases[0], one.heads[leases[0]], intent(limit=1))
            answers.extend(await one.send(asks, piece(more, one.heads[more], note())))

        async def second() -> None:
            answers.append(await other.append(leases[1], intent(limit=1)))

        last = "lease WHERE server = 'em2'"
        async with anyio.create_task_group() as tasks, locked(server, name, last):
            tasks.start_soon(first)
            await until_waiting(owner, 1)
            tasks.start_soon(second)
            await until_waiting(owner, 2)

    assert [each.refusal for each in answers] == [None, None, Refusal.WAVE_LIMIT]
