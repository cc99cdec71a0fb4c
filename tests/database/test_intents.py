"""Intents: granted in the transaction that records them, or nothing is sent (rule F2); quotas."""

from __future__ import annotations

from collections.abc import Awaitable

import anyio
import psycopg
import pytest

from orchestrator.core.errors import Fenced
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.sites import (
    CONDUCTOR,
    Ask,
    Ended,
    Lease,
    OnlyHolds,
    Outcome,
    Refusal,
    ShardDone,
    Stop,
)
from orchestrator.database.address import read_address
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer
from tests.database.owner import Owner
from tests.database.patience import until_overdue
from tests.database.workers import (
    BRANCH,
    HQ,
    LAB,
    RUN,
    SECOND,
    Worker,
    freed,
    halted,
    intent,
    note,
    opened,
    piece,
    recorded,
    submission,
)

pytestmark = [pytest.mark.anyio, pytest.mark.process]

Leases = dict[ServerName, Lease]


@pytest.fixture
async def leases(anna: Worker) -> Leases:
    """Let anna serve the whole run, whose first wave is open."""
    found = {
        each.standing.lease.server: each.standing.lease for each in await anna.take("east", "west")
    }
    await anna.open_wave()
    return found


async def test_an_intent_is_granted_while_nothing_speaks_against_it(
    anna: Worker, leases: Leases
) -> None:
    """It takes a slot, until its mount is gone."""
    assert (await anna.append(leases[HQ], intent("a"), intent("b"))).outcome is Outcome.WRITTEN
    assert await used(anna) == 2

    await anna.append(leases[HQ], freed("a"))

    assert await used(anna) == 1


@pytest.mark.parametrize(
    ("ask", "refusal"), [(Ask.STOP, Refusal.STOPPED), (Ask.STOP_NOW, Refusal.STOPPED)]
)
async def test_none_is_granted_in_a_run_that_was_stopped(
    anna: Worker, leases: Leases, ask: Ask, refusal: Refusal
) -> None:
    """Anybody with the role may stop it."""
    await anna.database.ask(RUN, ask, {})

    await refused(anna, leases[HQ], refusal)


async def test_none_is_granted_after_the_run_halted(anna: Worker, leases: Leases) -> None:
    """The halt and its record are one transaction; resumed, the run goes on."""
    await anna.append(leases[CONDUCTOR], halted())

    await refused(anna, leases[HQ], Refusal.HALTED)
    (standing,) = await anna.renew(leases[HQ])
    assert standing.halted == "budget"
    await anna.database.ask(RUN, Ask.RESUME, {})
    assert (await anna.append(leases[HQ], intent())).outcome is Outcome.WRITTEN


async def test_none_is_granted_for_a_wave_that_is_not_open(anna: Worker, leases: Leases) -> None:
    """Every shard learns which are by its renewals."""
    await refused(anna, leases[HQ], Refusal.WAVE, wave=SECOND)

    await anna.append(leases[CONDUCTOR], opened(SECOND))

    assert (await anna.append(leases[HQ], intent(wave=SECOND))).outcome is Outcome.WRITTEN
    (standing,) = await anna.renew(leases[LAB])
    assert standing.waves == {"first", "second"}


async def test_none_is_granted_after_the_deadline(
    anna: Worker, leases: Leases, owner: Owner
) -> None:
    """It needs no conductor: the database's clock decides."""
    owner.rows("UPDATE run SET deadline_at = clock_timestamp() - interval '1 ms'")

    await refused(anna, leases[HQ], Refusal.DEADLINE)
    (standing,) = await anna.renew(leases[HQ])
    assert standing.deadline_s is not None
    assert standing.deadline_s < 0


async def test_none_is_granted_once_the_run_is_over(anna: Worker, leases: Leases) -> None:
    """Its plan may then be submitted again."""
    await anna.append(leases[CONDUCTOR], (note()[0], Ended()))

    await refused(anna, leases[HQ], Refusal.CLOSED)
    await anna.database.submit(submission(RunId("next")))


async def test_none_is_granted_to_a_shard_that_only_holds(anna: Worker, leases: Leases) -> None:
    """Another run may have the right to post by now."""
    await anna.append(leases[HQ], (note()[0], OnlyHolds()))

    await refused(anna, leases[HQ], Refusal.ADDRESS)


async def test_nothing_from_a_refused_intent_on_is_written(anna: Worker, leases: Leases) -> None:
    """What comes before it is."""
    answer = await anna.append(leases[HQ], note(), intent(wave=SECOND), note())

    assert answer.outcome is Outcome.REFUSED
    assert [each.kind for each in await recorded(anna.database, RUN, HQ)] == ["RunNoted"]
    assert (await anna.append(leases[HQ], note())).outcome is Outcome.WRITTEN


async def test_an_intent_that_was_granted_stays_so_when_it_is_repeated(
    anna: Worker, leases: Leases
) -> None:
    """Its answer was lost, and the run was stopped meanwhile: it may have been sent."""
    sent = piece(leases[HQ], anna.heads[leases[HQ]], intent())
    await anna.send(sent)
    await anna.database.ask(RUN, Ask.STOP, {})

    (again,) = await anna.send(sent)

    assert again.outcome is Outcome.REPEATED
    assert await used(anna) == 1


async def test_a_stop_is_not_done_before_intents_that_were_granted_are_durable(
    anna: Worker, leases: Leases, server: PrivateServer, name: str
) -> None:
    """So whoever has stopped a run sees no intent granted afterwards."""
    from_outside = PostgreSQL(read_address(server.url(name, "operator")))
    ended: list[str] = []

    async def do(what: str, call: Awaitable[object]) -> None:
        await call
        ended.append(what)

    with psycopg.connect(server.url(name)) as other:
        other.execute("LOCK TABLE bulk_restore.event IN EXCLUSIVE MODE")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(do, "intent", anna.append(leases[HQ], intent()))
            await until_waiting(server, name, 1)
            tasks.start_soon(do, "stop", from_outside.ask(RUN, Ask.STOP, {}))
            await until_waiting(server, name, 2)
            assert ended == []
            other.rollback()

    assert sorted(ended) == ["intent", "stop"]
    assert await used(anna) == 1
    await from_outside.aclose()


async def until_waiting(server: PrivateServer, name: str, number: int) -> None:
    """Wait until so many calls wait for a lock."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for _ in until_overdue():
            ((found,),) = connection.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = %s AND wait_event_type = 'Lock'",
                [name],
            ).fetchall()
            if found >= number:
                return
            await anyio.sleep(0.02)


class TestQuotas:
    """Parts of a run's limit."""

    @pytest.fixture
    async def submitted(self, database: PostgreSQL) -> PostgreSQL:
        """Submit a run that may have four mounts."""
        await database.submit(submission(mounts_limit=4))
        return database

    async def test_without_a_quota_nothing_is_granted(self, anna: Worker, leases: Leases) -> None:
        """The conductor gives it."""
        await refused(anna, leases[HQ], Refusal.QUOTA)

        quotas = await anna.database.share(anna.id, leases[CONDUCTOR], {HQ: 1})

        assert quotas[HQ] == (1, 0)
        assert (await anna.append(leases[HQ], intent("a"))).outcome is Outcome.WRITTEN
        await refused(anna, leases[HQ], Refusal.QUOTA, key="b")

    async def test_the_same_target_needs_no_second_slot(self, anna: Worker, leases: Leases) -> None:
        """It is asked for again after its first mount was proved absent."""
        await anna.database.share(anna.id, leases[CONDUCTOR], {HQ: 1})

        await anna.append(leases[HQ], intent("a"))

        assert (await anna.append(leases[HQ], intent("a"))).outcome is Outcome.WRITTEN
        assert await used(anna) == 1

    async def test_what_is_used_is_never_taken_away(self, anna: Worker, leases: Leases) -> None:
        """And given to nobody else before it is free."""
        await anna.database.share(anna.id, leases[CONDUCTOR], {HQ: 4})
        await anna.append(leases[HQ], intent("a"), intent("b"), intent("c"))

        quotas = await anna.database.share(anna.id, leases[CONDUCTOR], {LAB: 4, HQ: 0})

        assert quotas == {HQ: (3, 3), LAB: (1, 0), BRANCH: (0, 0)}

    async def test_what_a_shard_left_counts_until_its_sessions_must_be_forgotten(
        self, anna: Worker, leases: Leases, owner: Owner
    ) -> None:
        """Its mounts may be open until then, although nothing of it is left to do."""
        await anna.database.share(anna.id, leases[CONDUCTOR], {HQ: 4})
        await anna.append(leases[HQ], intent("a"), (note()[0], ShardDone()))
        at_once = await anna.database.share(anna.id, leases[CONDUCTOR], {LAB: 4, HQ: 0})
        owner.rows("UPDATE shard SET done_at = done_at - interval '902 s' WHERE state = 'done'")
        later = await anna.database.share(anna.id, leases[CONDUCTOR], {LAB: 4, HQ: 0})

        assert (at_once[HQ], at_once[LAB]) == ((1, 1), (3, 0))
        assert (later[HQ], later[LAB]) == ((0, 0), (4, 0))

    async def test_slots_outlive_a_takeover(
        self, anna: Worker, bert: Worker, leases: Leases, owner: Owner
    ) -> None:
        """Held and doubtful mounts count on."""
        await anna.database.share(anna.id, leases[CONDUCTOR], {HQ: 1})
        await anna.append(leases[HQ], intent("a"))
        owner.expire()

        lease = await bert.serve(HQ)

        await refused(bert, lease, Refusal.QUOTA, key="b")

    async def test_the_sum_never_exceeds_the_limit(self, anna: Worker, leases: Leases) -> None:
        """Whatever is wanted, used and wanted again."""
        wishes = [[4, 0, 0], [1, 6, 6], [0, 0, 9], [2, 2, 2], [0, 4, 0], [9, 9, 9]]
        for number, wish in enumerate(wishes):
            wanted = dict(zip((HQ, LAB, BRANCH), wish, strict=True))
            quotas = await anna.database.share(anna.id, leases[CONDUCTOR], wanted)
            for server in wanted:
                await anna.append(leases[server], intent(f"{server} {number}"))
            if number % 2:
                await anna.append(leases[LAB], freed(f"lab {number}"))

            rows = [each for each in await anna.database.shards(RUN) if each.site]
            assert sum(each.quota or 0 for each in quotas.values()) <= 4
            assert all(each.used <= (each.quota or 0) for each in rows)

    async def test_only_the_conductor_gives_quotas(
        self, anna: Worker, bert: Worker, leases: Leases
    ) -> None:
        """Not a worker that knows its epoch, and not one that was fenced."""
        with pytest.raises(Fenced):
            await bert.database.share(bert.id, leases[CONDUCTOR], {HQ: 1})


async def test_a_run_without_a_limit_has_no_quotas(anna: Worker, leases: Leases) -> None:
    """Every shard may have what its server may."""
    quotas = await anna.database.share(anna.id, leases[CONDUCTOR], {HQ: 1})

    assert quotas[HQ].quota is None
    assert (await anna.append(leases[HQ], intent("a"), intent("b"))).outcome is Outcome.WRITTEN


async def test_how_long_a_mount_took_is_kept_once(
    anna: Worker, leases: Leases, owner: Owner
) -> None:
    """By the server's address, for the forecasts of later runs."""
    await anna.append(leases[HQ], intent("a"), intent("b"))

    await anna.append(leases[HQ], freed("a", vm="dc\u000001", seconds=12.5), freed("b"))

    assert owner.rows("SELECT address, simulated, vm, seconds FROM duration") == [
        ("https://hq.example.net:9398", False, "dc\ufffd01", 12.5)
    ]


async def test_a_stop_is_never_taken_back_by_a_gentler_one(anna: Worker, leases: Leases) -> None:
    """Each is recorded, with who asked."""
    await anna.database.ask(RUN, Ask.STOP_NOW, {"host": "desk"})
    await anna.database.ask(RUN, Ask.STOP, {})

    (standing,) = await anna.renew(leases[HQ])
    requests = await anna.database.requests(RUN)

    assert standing.stopped is Stop.NOW
    assert standing.asked == requests[-1].number
    assert [(each.ask, each.who) for each in requests] == [
        (Ask.STOP_NOW, "drill"),
        (Ask.STOP, "drill"),
    ]
    assert requests[0].details == {"host": "desk"}
    assert await anna.database.requests(RUN, requests[0].number) == requests[1:]


async def used(worker: Worker) -> int:
    """Return how many slots are taken."""
    return sum(each.used for each in await worker.database.shards(RUN))


async def refused(worker: Worker, lease: Lease, why: Refusal, **facts: str) -> None:
    """See an intent refused."""
    before = worker.heads[lease]

    answer = await worker.append(lease, intent(**facts))  # type: ignore[arg-type]

    assert (answer.outcome, answer.refusal) == (Outcome.REFUSED, why)
    assert answer.head == before
