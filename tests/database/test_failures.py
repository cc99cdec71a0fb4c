"""What goes wrong between a worker and the database: doubt, and what repeating it finds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import psycopg
import pytest

from orchestrator.core.errors import DatabaseAway, DatabaseUnusable, OrchestratorError
from orchestrator.core.sites import Outcome
from orchestrator.database.address import read_address
from orchestrator.database.failures import meaning
from orchestrator.database.link import Link
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer
from tests.database.owner import Owner
from tests.database.patience import until_overdue
from tests.database.proxy import Proxy, proxied
from tests.database.workers import (
    HQ,
    RUN,
    Worker,
    entered,
    intent,
    note,
    piece,
    recorded,
)

pytestmark = [pytest.mark.anyio, pytest.mark.process]


@pytest.fixture
async def path(
    server: PrivateServer, name: str, submitted: PostgreSQL
) -> AsyncIterator[tuple[Proxy, Worker]]:
    """Return a worker whose path to the database can fail."""
    with TemporaryDirectory(dir="/tmp") as directory:
        url = server.url(name, "drill")
        async with proxied(server, Path(directory), url) as (proxy, address):
            database = PostgreSQL(address)
            yield proxy, await entered(database, "anna")
            await database.aclose()


async def test_a_commit_whose_answer_is_lost_is_found_when_it_is_repeated(
    path: tuple[Proxy, Worker],
) -> None:
    """It is in doubt; the repetition says that it was there, and it is there once."""
    proxy, anna = path
    lease = await anna.serve(HQ)
    await anna.append(lease, note("before"))
    sent = piece(lease, anna.heads[lease], note("once"))
    proxy.loses_answers = True

    with pytest.raises(DatabaseAway):
        await anna.send(sent)
    (again,) = await anna.send(sent)

    assert again.outcome is Outcome.REPEATED
    assert len(await recorded(anna.database, RUN, HQ)) == 2


async def test_what_was_taken_without_an_answer_expires(
    path: tuple[Proxy, Worker], owner: Owner
) -> None:
    """Nobody serves it meanwhile."""
    proxy, anna = path
    proxy.loses_answers = True
    with pytest.raises(DatabaseAway):
        await anna.take()
    assert await anna.take() == []
    owner.expire()

    assert len(await anna.take()) == 3


async def test_a_call_that_arrives_long_after_it_was_given_up_changes_nothing(
    path: tuple[Proxy, Worker],
) -> None:
    """An intent was refused when it was repeated; its first sending arrives when it would fit."""
    proxy, anna = path
    leases = {each.standing.lease.server: each.standing.lease for each in await anna.take()}
    await anna.append(leases[HQ], note("before"))
    dropped = piece(leases[HQ], anna.heads[leases[HQ]], intent())
    anna.database._commits._patience = 0.2  # type: ignore[attr-defined]
    await anna.database._calls.aclose()  # type: ignore[attr-defined]
    proxy.stall()
    with pytest.raises(DatabaseAway):
        await anna.send(dropped)
    (refused,) = await anna.send(dropped)
    await anna.open_wave()

    await proxy.deliver()

    assert refused.outcome is Outcome.REFUSED
    assert [each.kind for each in await recorded(anna.database, RUN, HQ)] == ["RunNoted"]
    assert (await anna.append(leases[HQ], note("instead"))).outcome is Outcome.WRITTEN


async def test_everybody_goes_on_after_a_crash_of_the_database(
    path: tuple[Proxy, Worker], server: PrivateServer
) -> None:
    """What was acknowledged is there, and leases are renewed."""
    _proxy, anna = path
    lease = await anna.serve(HQ)
    await anna.append(lease, note("acknowledged"))
    sent = piece(lease, anna.heads[lease], note("in doubt"))
    server.stop(immediate=True)
    for call in (anna.send(sent), anna.renew(lease), anna.database.runs()):
        with pytest.raises(DatabaseAway):
            await call

    server.start()

    assert [each.lease for each in await anna.renew(lease)] == [lease]
    (again,) = await anna.send(sent)
    assert again.outcome is Outcome.WRITTEN
    assert len(await recorded(anna.database, RUN, HQ)) == 2


async def test_a_database_that_takes_no_writes_is_away_and_can_be_read(
    anna: Worker, server: PrivateServer
) -> None:
    """Nothing is given up, and the worker goes on by itself."""
    lease = await anna.serve(HQ)
    await anna.append(lease, note("before"))
    server.be_read_only(True)
    try:
        for call in (
            partial(anna.append, lease, note("again and again")),
            partial(anna.renew, lease),
            anna.take,
            partial(anna.database.give_back, anna.id, [lease]),
        ):
            await until_refused(call)
        last = anna.heads[lease]
        assert (await anna.database.heads(RUN))[HQ] == last
    finally:
        server.be_read_only(False)

    for _ in until_overdue():  # each connection hears of it by a signal
        with suppress(DatabaseAway):
            await anna.append(lease, note("after"))
            break
    assert (await anna.database.heads(RUN))[HQ].seq == last.seq + 1


async def until_refused(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat a call until its connection has heard that nothing may be written."""
    for _ in until_overdue():
        try:
            await call()
        except DatabaseAway as exc:
            assert "read-only" in str(exc)  # noqa: PT017 - until it is
            return


async def test_a_commit_that_did_not_wait_for_its_standby_is_in_doubt(
    anna: Worker, server: PrivateServer, owner: Owner, name: str
) -> None:
    """PostgreSQL reports success, with a warning. No default of the database spares the wait."""
    lease = await anna.serve(HQ)
    owner.configure(name, "synchronous_commit = off")
    sent = piece(lease, anna.heads[lease], note())
    server.set("synchronous_standby_names", "nobody")
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_the_wait, owner)
            with pytest.raises(DatabaseAway, match="standby"):
                await anna.send(sent)
    finally:
        server.set("synchronous_standby_names", "")

    (again,) = await anna.send(sent)
    assert again.outcome is Outcome.REPEATED


async def cancel_the_wait(owner: Owner) -> None:
    """Cancel the commit that waits for a standby, as a timeout or an administrator does."""
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    for _ in until_overdue():
        if owner.rows(cancel):
            return
        await anyio.sleep(0.02)


async def test_no_timeout_of_the_role_cuts_a_commit_short(
    server: PrivateServer, name: str, submitted: PostgreSQL, owner: Owner
) -> None:
    """Nor does another isolation level let it see too little."""
    for setting in ("statement_timeout = '1ms'", "default_transaction_isolation = 'serializable'"):
        owner.configure(name, setting)
    database = PostgreSQL(read_address(server.url(name, "drill")))
    anna = await entered(database, "anna")
    lease = await anna.serve(HQ)

    answer = await anna.append(lease, *(note(str(n)) for n in range(500)))

    assert answer.outcome is Outcome.WRITTEN
    await database.aclose()


async def test_a_cancelled_call_leaves_a_usable_link(
    anna: Worker, server: PrivateServer, name: str
) -> None:
    """The next one has a connection of its own."""
    lease = await anna.serve(HQ)
    sent = piece(lease, anna.heads[lease], note())
    with psycopg.connect(server.url(name)) as other:
        other.execute("LOCK TABLE bulk_restore.event")
        with anyio.move_on_after(0.2):
            await anna.send(sent)

    (answer,) = await anna.send(sent)

    assert answer.outcome in {Outcome.WRITTEN, Outcome.REPEATED}
    assert len(await recorded(anna.database, RUN, HQ)) == 1


async def test_a_cancelled_call_asks_nobody_to_cancel_it(
    path: tuple[Proxy, Worker], server: PrivateServer, name: str
) -> None:
    """A commit would then report success, and a pool in between may end by it."""
    proxy, anna = path
    lease = await anna.serve(HQ)
    await anna.append(lease, note("before"))
    await anna.renew(lease)
    before = proxy.accepted
    with psycopg.connect(server.url(name)) as other:
        other.execute("LOCK TABLE bulk_restore.event")
        with anyio.move_on_after(0.2) as scope:
            await anna.send(piece(lease, anna.heads[lease], note()))

    for _ in range(5):  # meanwhile the proxy would have accepted it
        await anna.renew(lease)
    assert scope.cancelled_caught
    assert proxy.accepted == before


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.DiskFull(), DatabaseAway),
        (psycopg.errors.TooManyConnections(), DatabaseAway),
        (psycopg.errors.AdminShutdown(), DatabaseAway),
        (psycopg.errors.DeadlockDetected(), DatabaseAway),
        (psycopg.errors.QueryCanceled(), DatabaseAway),
        (psycopg.OperationalError("the connection is lost"), DatabaseAway),
        (psycopg.errors.UndefinedFunction(), DatabaseUnusable),
        (psycopg.errors.InsufficientPrivilege(), DatabaseUnusable),
        (psycopg.errors.DataCorrupted(), DatabaseUnusable),
    ],
)
async def test_an_error_says_whether_to_repeat(
    server: PrivateServer, error: psycopg.Error, expected: type[OrchestratorError]
) -> None:
    """What passes is away; what does not is unusable."""
    assert type(meaning(error, read_address(server.url()))) is expected


def test_what_the_client_library_says_becomes_one_line() -> None:
    """It indents its second line by a tab."""
    words = "connection to server failed: Connection refused\n\tIs the server running there?\n"
    error = meaning(psycopg.OperationalError(words), read_address("postgresql://127.0.0.1/x"))
    assert str(error).endswith("away: " + " ".join(words.split()))


async def test_a_link_can_be_closed_and_used_again(server: PrivateServer) -> None:
    """It connects when it is needed."""
    link = Link(read_address(server.url()))
    await link.aclose()
    assert await link.rows("SELECT 1") == [(1,)]
    await link.aclose()
    assert await link.rows("SELECT 2") == [(2,)]
    await link.aclose()
