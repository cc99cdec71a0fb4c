"""Who may do what: the group roles, and what nobody but the owner may."""

from __future__ import annotations

import psycopg
import pytest

from orchestrator.core.errors import DatabaseUnusable
from orchestrator.core.sites import Ask, Outcome
from orchestrator.database.address import read_address
from orchestrator.database.installation import connected
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer
from tests.database.owner import Owner
from tests.database.workers import (
    HQ,
    RUN,
    Worker,
    note,
    recorded,
    submission,
)

pytestmark = [pytest.mark.anyio, pytest.mark.process]

LOGINS = ("reader", "operator", "east", "drill")

DENIED = (
    "UPDATE bulk_restore.event SET body = ''",
    "DELETE FROM bulk_restore.event",
    "TRUNCATE bulk_restore.event",
    "INSERT INTO bulk_restore.event VALUES ('r', '', 1, 0, 'k', '', '', 0)",
    "UPDATE bulk_restore.events SET body = ''",
    "DELETE FROM bulk_restore.events",
    "UPDATE bulk_restore.lease SET worker = 'me'",
    "UPDATE bulk_restore.head SET seq = 0",
    "UPDATE bulk_restore.meta SET version = 0",
    "SELECT sealed FROM bulk_restore.token",
    "INSERT INTO bulk_restore.gate (run, wave) VALUES ('r', 'w')",
    "DROP SCHEMA bulk_restore CASCADE",
    "CREATE TABLE bulk_restore.mine (x int)",
    "CREATE FUNCTION bulk_restore.now() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT bulk_restore.append_chain('w', 1, 'r', '', 1, '{}')",
    "SELECT bulk_restore.take_effect('r', 'hq', '{}')",
    "SELECT bulk_restore.refusal('r', 'hq', 'k', 'w', 3)",
    "SELECT bulk_restore.let_others_post('r', 'hq')",
)

WORKER_CALLS = (
    "enter('w', 'h', 1, '1', '{}')",
    "leave('w')",
    "take('w', '{east}', 1, NULL, true)",
    "renew('w', '{}', '{}', '{}', '{}')",
    "give_back('w', '{}', '{}', '{}', false)",
    "append('w', 1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
    "share('w', 'r', 1, '{}', '{}')",
    "keep_token('w', 'r', 's', 1, 'x', '')",
    "tokens('w', 'r', 's', 1)",
    "drop_token('w', 'r', 's', 1, 'x')",
)

OPERATOR_CALLS = (
    "submit('r','p','drill','','','{}',NULL,NULL,'{}','{}','{}','{}','{}')",
    "ask('r', 'stop', '{}')",
)


@pytest.mark.parametrize("statement", DENIED)
async def test_nobody_but_the_owner_touches_a_table(
    server: PrivateServer, name: str, statement: str
) -> None:
    """Not even with every role."""
    for login in LOGINS:
        denied(server.url(name, login), statement)


@pytest.mark.parametrize(
    ("login", "calls"),
    [
        ("reader", WORKER_CALLS + OPERATOR_CALLS),
        ("operator", WORKER_CALLS),
        ("east", OPERATOR_CALLS),
    ],
)
async def test_a_role_calls_only_its_own_functions(
    server: PrivateServer, name: str, login: str, calls: tuple[str, ...]
) -> None:
    """A reader calls none at all."""
    for call in calls:
        denied(server.url(name, login), f"SELECT * FROM bulk_restore.{call}")


async def test_every_function_is_somebodys_or_nobodys(owner: Owner) -> None:
    """None is forgotten here, and none can be called by everybody."""
    granted = owner.rows(
        "SELECT proname, array_agg(DISTINCT grantee::regrole::text) "
        "FROM pg_proc, aclexplode(proacl) WHERE pronamespace = 'bulk_restore'::regnamespace "
        "AND grantee <> proowner GROUP BY proname"
    )
    expected = {each.partition("(")[0]: ["bulk_restore_worker"] for each in WORKER_CALLS}
    expected |= {each.partition("(")[0]: ["bulk_restore_operator"] for each in OPERATOR_CALLS}

    assert dict(granted) == expected


async def test_every_function_that_may_write_looks_only_where_it_should(owner: Owner) -> None:
    """A caller's own tables and functions never stand for ours."""
    paths = owner.rows(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'bulk_restore'::regnamespace "
        "AND NOT coalesce('search_path=bulk_restore, pg_temp' = ANY (proconfig), false)"
    )

    assert paths == []


@pytest.mark.parametrize("login", LOGINS)
async def test_every_role_reads(
    server: PrivateServer, name: str, database: PostgreSQL, login: str
) -> None:
    """Runs, shards, workers, chains, requests; no sealed token is among them."""
    await database.submit(submission())

    found = await connected(read_address(server.url(name, login)))

    assert len(await found.runs()) == 1
    assert len(await found.shards(RUN)) == 4
    assert await found.workers() == []
    assert len(await recorded(found, RUN, HQ)) == 0
    assert await found.submission(RUN) == submission()
    assert await found.requests(RUN) == []
    await found.aclose()


async def test_an_operator_asks_and_a_worker_serves(server: PrivateServer, name: str) -> None:
    """Each with its own role only."""
    operator = PostgreSQL(read_address(server.url(name, "operator")))
    await operator.submit(submission())
    database = PostgreSQL(read_address(server.url(name, "east")))
    worker = Worker(database, "anna")
    await worker.enter("east")

    written = await worker.append(await worker.serve(HQ), note())
    await operator.ask(RUN, Ask.STOP, {})

    assert written.outcome is Outcome.WRITTEN
    await database.aclose()
    await operator.aclose()


async def test_a_login_cannot_use_what_another_login_holds(
    anna: Worker, server: PrivateServer, name: str
) -> None:
    """Not by calling itself by the other's worker id."""
    lease = await anna.serve(HQ)
    database = PostgreSQL(read_address(server.url(name, "west")))
    thief = Worker(database, "anna")
    thief.heads.update(anna.heads)
    thief.attempt = 1000

    with pytest.raises(DatabaseUnusable):
        await thief.enter("east")
    assert await thief.renew(lease) == []
    assert (await thief.append(lease, note())).outcome is Outcome.FENCED
    await database.give_back(thief.id, [lease])
    await database.leave(thief.id)
    assert (await anna.append(lease, note())).outcome is Outcome.WRITTEN
    await database.aclose()


async def test_who_has_no_role_is_told_which(server: PrivateServer, name: str) -> None:
    """At once."""
    with pytest.raises(DatabaseUnusable, match="bulk_restore_reader"):
        await connected(read_address(server.url(name, "stranger")))


def denied(url: str, statement: str) -> None:
    """See a statement refused for want of a right."""
    with (
        psycopg.connect(url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())
