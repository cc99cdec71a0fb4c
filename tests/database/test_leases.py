"""Leases: one holder, a higher epoch with every taking, and the database's clock (rule F1)."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from orchestrator.core.errors import NotEntered
from orchestrator.core.model import RunId
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.sites import CONDUCTOR, LEASE_LIFE_S, OnlyHolds, Outcome, ShardDone
from orchestrator.database.address import read_address
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer
from tests.database.owner import Owner
from tests.database.workers import BRANCH, HQ, LAB, RUN, Worker, note, submission

pytestmark = [pytest.mark.anyio, pytest.mark.process]


async def test_a_worker_takes_the_shards_of_its_sites_and_a_conductor(anna: Worker) -> None:
    """Each once, with the place where its chain ends."""
    found = await anna.take("east")

    assert [each.standing.lease.server for each in found] == [CONDUCTOR, HQ, LAB]
    assert [each.head.seq for each in found] == [1, 0, 0]
    assert [each.site for each in found] == [None, "east", "east"]
    assert await anna.take("east") == []


async def test_no_more_is_taken_than_there_is_room_for(anna: Worker) -> None:
    """The rest waits for others. A conductor takes no room."""
    assert len(await anna.take("east", "west", room=0)) == 1
    assert len(await anna.take("east", "west", room=2)) == 2
    assert len(await anna.take("east", "west", room=10)) == 1


async def test_of_many_workers_exactly_one_gets_each_shard(
    anna: Worker, server: PrivateServer, name: str
) -> None:
    """Eight workers ask at the same instant, over connections of their own."""
    taken: list[str] = []

    async def grab(number: int) -> None:
        database = PostgreSQL(read_address(server.url(name, "drill")))
        try:
            worker = Worker(database, f"worker {number}")
            await worker.enter("east", "west")
            for _ in range(3):
                found = await worker.take("east", "west", room=1)
                taken.extend(each.standing.lease.server for each in found)
        finally:
            await database.aclose()

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(grab, number)

    taken += [each.standing.lease.server for each in await anna.take("east", "west")]
    assert sorted(taken) == [CONDUCTOR, BRANCH, HQ, LAB]


async def test_an_expired_lease_is_taken_over_with_the_next_epoch(
    anna: Worker, bert: Worker, expire: Callable[[], None]
) -> None:
    """Its former holder is told who is named, and renews it no more."""
    before = await anna.serve(HQ)
    assert await bert.take() == []
    expire()

    (found,) = [each for each in await bert.take() if each.standing.lease.server == HQ]

    assert found.standing.lease.epoch == before.epoch + 1
    assert found.taken_from == "anna"
    assert await anna.renew(before) == []
    (row,) = [each for each in await bert.database.shards(RUN) if each.server == HQ]
    assert (row.worker, row.takeovers) == ("bert", 1)


async def test_only_the_databases_clock_lets_a_lease_expire(anna: Worker, owner: Owner) -> None:
    """It lives as long as the constant says, from each renewal on."""
    lease = await anna.serve(HQ)
    owner.rows("UPDATE lease SET expires = clock_timestamp()")

    assert [each.lease for each in await anna.renew(lease)] == [lease]

    left = owner.one(
        "SELECT extract(epoch FROM expires - clock_timestamp())::float FROM lease WHERE server='hq'"
    )
    assert 0 < left <= LEASE_LIFE_S
    assert owner.one("SELECT lease_life = make_interval(secs => %s) FROM meta", LEASE_LIFE_S)


async def test_an_expired_lease_that_nobody_took_is_renewed(
    anna: Worker, expire: Callable[[], None]
) -> None:
    """So the living go on after the database was away."""
    lease = await anna.serve(HQ)
    expire()

    assert [each.lease for each in await anna.renew(lease)] == [lease]
    assert (await anna.append(lease, note())).outcome is Outcome.WRITTEN


async def test_what_is_given_back_is_taken_at_once(anna: Worker, bert: Worker) -> None:
    """With the next epoch, and from nobody; giving it back again changes nothing."""
    lease = await anna.serve(HQ)
    await anna.database.give_back(anna.id, [lease])

    (found,) = await bert.take(expired=False)

    assert found.standing.lease.epoch == lease.epoch + 1
    assert found.taken_from is None
    await anna.database.give_back(anna.id, [lease])
    assert await anna.take() == []


async def test_after_a_restart_the_living_come_first(
    anna: Worker, bert: Worker, server: PrivateServer, owner: Owner
) -> None:
    """Nothing is taken over for one lease life; what was given back is."""
    leases = [each.standing.lease for each in await anna.take()]
    await anna.database.give_back(anna.id, leases[:1])
    owner.rows("UPDATE meta SET lease_life = interval '1 day'")
    owner.rows("UPDATE lease SET expires = clock_timestamp() - interval '1 s'")

    found = await bert.take()

    assert [each.standing.lease.server for each in found] == [CONDUCTOR]
    owner.rows("UPDATE meta SET lease_life = interval '0'")
    assert len(await bert.take()) == 2


async def test_a_worker_that_leaves_gives_everything_back(anna: Worker, bert: Worker) -> None:
    """And is no longer among the workers."""
    await anna.take()
    await anna.database.leave(anna.id)

    assert len(await bert.take(expired=False)) == 3
    assert [each.worker for each in await bert.database.workers()] == ["bert"]


async def test_who_has_not_entered_takes_nothing(submitted: SitesDatabase) -> None:
    """A lease always names a worker that is known."""
    with pytest.raises(NotEntered):
        await Worker(submitted, "nobody").take()


async def test_two_runs_never_post_on_one_server_at_once(anna: Worker, bert: Worker) -> None:
    """The later one waits, by name, until the first one is done; its epoch is higher still."""
    first = await anna.serve(HQ)
    await anna.database.submit(submission(RunId("later"), "other"))
    found = await bert.take()
    assert [each.standing.lease.server for each in found] == [CONDUCTOR]
    rows = await anna.database.shards(RunId("later"))
    assert [each.waits_for for each in rows] == [None, None, RUN, RUN]

    await anna.append(first, (note()[0], ShardDone()))

    (now,) = await bert.take()
    assert (now.standing.lease.run, now.standing.lease.server) == ("later", HQ)
    assert now.standing.lease.epoch > first.epoch
    assert now.standing.posts


async def test_a_shard_that_only_holds_lets_another_run_post(anna: Worker, bert: Worker) -> None:
    """And keeps its own lease."""
    first = await anna.serve(HQ)
    await anna.database.submit(submission(RunId("later"), "other"))
    await anna.append(first, (note()[0], OnlyHolds()))

    (standing,) = await anna.renew(first)
    servers = {each.standing.lease.server: each.standing for each in await bert.take()}

    assert not standing.posts
    assert servers[HQ].posts


async def test_a_recovery_goes_before_drills_that_have_not_begun(anna: Worker) -> None:
    """Of two runs that want one server."""
    await anna.database.submit(submission(RunId("urgent"), "recovery", mode="recovery"))

    found = await anna.take("east")

    assert {each.standing.lease.run for each in found if each.site} == {"urgent"}


async def test_shards_of_a_site_with_a_role_are_for_its_members(
    submitted: SitesDatabase, server: PrivateServer, name: str, owner: Owner
) -> None:
    """Another worker's login asks for them in vain."""
    owner.rows("CREATE ROLE bulk_restore_site_west ROLE west")
    try:
        for login, expected in (("east", [HQ, LAB]), ("west", [BRANCH])):
            database = PostgreSQL(read_address(server.url(name, login)))
            worker = Worker(database, login)
            await worker.enter("east", "west")
            sites = ("east", "west") if login == "east" else ("west",)
            found = await worker.take(*sites)
            await database.aclose()
            assert [each.standing.lease.server for each in found if each.site] == expected
    finally:
        owner.rows("DROP ROLE bulk_restore_site_west")


async def test_what_a_worker_could_begin_is_seen_by_all(anna: Worker) -> None:
    """The conductor gives quotas by it."""
    from orchestrator.core.sites import Held

    lease = await anna.serve(HQ)
    await anna.database.renew(anna.id, [Held(lease=lease, wants=7)])

    (row,) = [each for each in await anna.database.shards(RUN) if each.server == HQ]
    assert row.wants == 7
