"""Runs: submitted once, resumed, unmounted; and the tokens that their sessions leave."""

from __future__ import annotations

import anyio
import psycopg
import pytest

from orchestrator.core.errors import DatabaseAway, Fenced, RunLocked, RunNotFound
from orchestrator.core.model import RunId, SessionId
from orchestrator.core.records import genesis
from orchestrator.core.sites import (
    CONDUCTOR,
    Ask,
    ChainHead,
    Ended,
    SealedToken,
    ShardDone,
    ShardState,
)
from orchestrator.database.address import read_address
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer
from tests.database.owner import Owner
from tests.database.patience import until_overdue
from tests.database.workers import HQ, LAB, RUN, Worker, note, submission

pytestmark = [pytest.mark.anyio, pytest.mark.process]

OTHER = RunId("other")


async def test_what_was_submitted_is_there_for_every_worker(submitted: PostgreSQL) -> None:
    """Plan, documents and options, to the last byte; and a chain for each shard."""
    assert await submitted.submission(RUN) == submission()
    assert await submitted.heads(RUN) == {
        each.server: ChainHead(0, genesis(each.server)) for each in submission().shards
    } | {CONDUCTOR: (await submitted.heads(RUN))[CONDUCTOR]}
    (row,) = await submitted.runs()
    assert (row.run, row.plan, row.is_open, row.unmount) == (RUN, "drill", True, False)
    assert abs((await submitted.now() - row.submitted_at).total_seconds()) < 600


async def test_a_run_is_submitted_once(submitted: PostgreSQL, owner: Owner) -> None:
    """Its answer may be lost: the same again changes nothing."""
    await submitted.submit(submission())

    assert owner.one("SELECT count(*) FROM shard") == 4


async def test_a_plan_has_one_open_run(submitted: PostgreSQL, anna: Worker) -> None:
    """The next one is told which; after its end the plan is free."""
    with pytest.raises(RunLocked, match=RUN):
        await submitted.submit(submission(OTHER))
    assert [each.run for each in await submitted.runs()] == [RUN]

    await anna.append(await anna.serve(CONDUCTOR), (note()[0], Ended()))
    await submitted.submit(submission(OTHER))

    assert [each.run for each in await submitted.runs()] == [OTHER, RUN]
    with pytest.raises(RunLocked, match=OTHER):
        await submitted.ask(RUN, Ask.RESUME, {})


async def test_a_resumed_run_is_offered_again(anna: Worker, bert: Worker) -> None:
    """All its shards, also those that were done; and it has all of its time again."""
    await end(anna)
    assert await bert.take(expired=False) == []

    await bert.database.ask(RUN, Ask.RESUME, {"retry_failed": True})

    found = await bert.take(expired=False)
    assert {each.standing.lease.server for each in found} == {CONDUCTOR, HQ, LAB}
    assert all(each.standing.posts for each in found)
    assert (await bert.database.runs())[0].is_open


async def test_a_resumed_shard_posts_again_once_no_other_run_does(
    anna: Worker, bert: Worker
) -> None:
    """Also one whose worker has never let it go."""
    lease = await anna.serve(HQ)
    await anna.append(lease, (note()[0], ShardDone()))
    await bert.database.submit(submission(OTHER, "other"))
    other = await bert.serve(HQ)
    await anna.database.ask(RUN, Ask.RESUME, {})
    (waiting,) = await anna.renew(lease)

    await bert.append(other, (note()[0], ShardDone()))

    (standing,) = await anna.renew(lease)
    assert not waiting.posts
    assert standing.posts


async def test_a_run_that_has_ended_can_be_unmounted(anna: Worker, bert: Worker) -> None:
    """Its shards are offered without the right to post, to those who ask for this run."""
    await end(anna)
    await bert.database.submit(submission(OTHER, "other"))

    await bert.database.ask(RUN, Ask.UNMOUNT, {})

    found = await bert.take(run=RUN, expired=False)
    assert {each.standing.lease.run for each in found} == {RUN}
    assert {each.state for each in found} == {ShardState.HOLDING}
    assert all(each.standing.unmount and not each.standing.posts for each in found)


async def test_a_run_that_has_ended_keeps_no_other_from_posting(anna: Worker, bert: Worker) -> None:
    """Also where some of its shards were never done."""
    await anna.take()
    conductor = next(each for each in anna.heads if each.server == CONDUCTOR)
    await anna.append(conductor, (note()[0], Ended()))

    await bert.database.submit(submission(OTHER, "other"))

    found = await bert.take()
    assert {each.standing.lease.server for each in found} == {CONDUCTOR, HQ, LAB}


async def test_whoever_listens_hears_about_which_run(
    submitted: PostgreSQL, server: PrivateServer, name: str
) -> None:
    """From a connection of their own; until it is lost."""
    heard: list[str] = []
    ready = anyio.Event()

    async def listen() -> None:
        database = PostgreSQL(read_address(server.url(name, "reader")))
        async for run in database.changes():
            heard.append(run)
            ready.set()

    async def until_lost() -> None:
        with pytest.raises(DatabaseAway):
            await listen()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(until_lost)
        for _ in until_overdue():  # it is not known when it begins to listen
            if ready.is_set():
                break
            await submitted.ask(RUN, Ask.UNMOUNT, {})
            await anyio.sleep(0.02)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'"
            )

    assert set(heard) == {RUN}


async def test_what_is_not_there_is_not_found(database: PostgreSQL) -> None:
    """By its name."""
    with pytest.raises(RunNotFound, match="nowhere"):
        await database.submission(RunId("nowhere"))
    with pytest.raises(RunNotFound, match="nowhere"):
        await database.ask(RunId("nowhere"), Ask.STOP, {})


async def test_a_successor_finds_the_token_and_its_epoch(
    anna: Worker, bert: Worker, owner: Owner
) -> None:
    """Until the session ends."""
    lease = await anna.serve(HQ)
    await anna.database.keep_token(anna.id, lease, SessionId("s1"), b"old")
    await anna.database.keep_token(anna.id, lease, SessionId("s1"), b"\x00sealed")
    owner.expire()
    later = await bert.serve(HQ)

    found = await bert.database.tokens(bert.id, later)

    assert found == [SealedToken(session=SessionId("s1"), epoch=lease.epoch, sealed=b"\x00sealed")]
    await bert.database.drop_token(bert.id, later, SessionId("s1"))
    await bert.database.drop_token(bert.id, later, SessionId("s1"))
    assert await bert.database.tokens(bert.id, later) == []


async def test_tokens_are_only_for_who_serves_the_shard(
    anna: Worker, bert: Worker, owner: Owner
) -> None:
    """Neither a stranger nor who was fenced reads, writes or deletes one."""
    lease = await anna.serve(HQ)
    await anna.database.keep_token(anna.id, lease, SessionId("s1"), b"sealed")
    with pytest.raises(Fenced):
        await bert.database.tokens(bert.id, lease)
    owner.expire()
    await bert.take()

    with pytest.raises(Fenced):
        await anna.database.tokens(anna.id, lease)
    with pytest.raises(Fenced):
        await anna.database.keep_token(anna.id, lease, SessionId("s2"), b"late")
    with pytest.raises(Fenced):
        await anna.database.drop_token(anna.id, lease, SessionId("s1"))
    assert owner.rows("SELECT session FROM token") == [("s1",)]


async def test_workers_are_seen_with_their_sites(anna: Worker, bert: Worker) -> None:
    """And how long ago."""
    await bert.enter("west", "moon")

    rows = await anna.database.workers()

    assert [(each.worker, each.sites) for each in rows] == [
        ("anna", ("east",)),
        ("bert", ("west", "moon")),
    ]
    assert all(0 <= each.seen_s < 600 for each in rows)


async def end(worker: Worker) -> None:
    """Serve a run to its end, and leave."""
    for each in await worker.take("east", "west"):
        lease = each.standing.lease
        last = Ended() if lease.server == CONDUCTOR else ShardDone()
        await worker.append(lease, (note()[0], last))
    await worker.database.leave(worker.id)
