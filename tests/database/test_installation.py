"""`init`: safe to repeat, twice at once, and refused where it would break something."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import psycopg
import pytest

from orchestrator.core.errors import DatabaseAway, DatabaseUnusable
from orchestrator.database.address import Address, read_address
from orchestrator.database.installation import VERSION, Installed, connected, init
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer
from tests.database.conftest import NUMBERS
from tests.database.owner import Owner
from tests.database.workers import (
    HQ,
    RUN,
    Worker,
    note,
    recorded,
)

pytestmark = [pytest.mark.anyio, pytest.mark.process]


@pytest.fixture
def empty(server: PrivateServer) -> Iterator[str]:
    """Make a database with nothing in it, which belongs to a login without other rights."""
    name = f"empty_{next(NUMBERS)}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN CREATEROLE".encode())
        connection.execute(f"CREATE DATABASE {name} OWNER {name}".encode())
    yield name
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        connection.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def address(server: PrivateServer, empty: str) -> Address:
    """Return the address of an empty database, as its owner."""
    return read_address(server.url(empty, empty))


async def test_it_makes_everything_once(address: Address) -> None:
    """Then it is used at once; repeated, it finds it there."""
    with pytest.raises(DatabaseUnusable, match="bulk-restore database init"):
        await connected(address)

    first = await init(address)
    again = await init(address)

    assert (first.before, first.version) == (0, VERSION)
    assert (again.before, again.version) == (VERSION, VERSION)
    database = await connected(address)
    assert await database.runs() == []
    await database.aclose()


async def test_two_at_once_make_it_once(address: Address) -> None:
    """Whoever comes second waits."""
    done: list[Installed] = []

    async def make() -> None:
        done.append(await init(address))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(make)

    assert sorted(each.before for each in done) == [0, VERSION, VERSION, VERSION]


async def test_repeating_it_touches_no_run(anna: Worker, server: PrivateServer, name: str) -> None:
    """Workers go on meanwhile."""
    lease = await anna.serve(HQ)
    await anna.append(lease, note())

    await init(read_address(server.url(name)))

    await anna.append(lease, note())
    assert len(await recorded(anna.database, RUN, HQ)) == 2


async def test_it_gives_rights_back_and_replaces_changed_functions(
    database: PostgreSQL, server: PrivateServer, name: str, owner: Owner
) -> None:
    """Whatever became of them."""
    owner.rows("REVOKE ALL ON FUNCTION submit FROM bulk_restore_operator")
    owner.rows("GRANT DELETE ON event TO bulk_restore_reader")
    owner.rows("DROP FUNCTION share")
    owner.rows("UPDATE meta SET code = 'of another release'")

    await init(read_address(server.url(name)))

    granted = owner.rows(
        "SELECT privilege_type FROM information_schema.role_table_grants "
        "WHERE grantee = 'bulk_restore_reader' AND table_name = 'event'"
    )
    assert granted == []
    assert owner.one(
        "SELECT has_function_privilege('bulk_restore_operator', oid, 'EXECUTE') "
        "FROM pg_proc WHERE proname = 'submit'"
    )
    assert owner.one("SELECT count(*) FROM pg_proc WHERE proname = 'share'") == 1


async def test_tables_of_another_version_are_refused(
    server: PrivateServer, name: str, owner: Owner
) -> None:
    """Newer ones by init, too."""
    owner.rows("UPDATE meta SET version = 99")
    address = read_address(server.url(name))

    with pytest.raises(DatabaseUnusable, match="99"):
        await connected(address)
    with pytest.raises(DatabaseUnusable, match="newer"):
        await init(address)


OF_A_DEVELOPMENT_VERSION = (
    "ALTER TABLE meta ADD COLUMN queue text",
    "UPDATE meta SET queue = '3.10.0', code = 'of that version'",
    "CREATE SCHEMA bulk_restore_queue",
    "CREATE TABLE bulk_restore_queue.procrastinate_jobs (id bigint)",
    "INSERT INTO bulk_restore_queue.procrastinate_jobs VALUES (7)",
    "GRANT USAGE ON SCHEMA bulk_restore_queue TO bulk_restore_worker",
    "DROP VIEW about",
    "CREATE VIEW about AS SELECT version, lease_life, queue FROM meta",
)
"""What versions before 0.3.0 also made: a queue that nobody used."""


async def test_a_queue_of_a_development_version_is_left_alone(
    anna: Worker, server: PrivateServer, name: str, owner: Owner
) -> None:
    """Its database is used as it is, and can be made anew; what is in it stays."""
    for statement in OF_A_DEVELOPMENT_VERSION:
        owner.rows(statement)
    lease = await anna.serve(HQ)
    await anna.append(lease, note())
    address = read_address(server.url(name))
    await (await connected(address)).aclose()

    done = await init(address)

    await anna.append(lease, note())
    assert (done.before, done.version) == (VERSION, VERSION)
    assert len((await anna.database.records(RUN, {HQ: 0}))[HQ]) == 2
    assert owner.rows("SELECT id FROM bulk_restore_queue.procrastinate_jobs") == [(7,)]
    assert owner.one("SELECT queue FROM meta") == "3.10.0"


async def test_only_the_owner_may_repeat_it(server: PrivateServer, name: str) -> None:
    """Others are told whose it is."""
    with pytest.raises(DatabaseUnusable, match="belongs to drills"):
        await init(read_address(server.url(name, "drill")))


async def test_who_may_not_make_it_is_told_what_it_needs(server: PrivateServer, empty: str) -> None:
    """And nothing is made."""
    with pytest.raises(DatabaseUnusable, match="create schemas"):
        await init(read_address(server.url(empty, "drill")))


async def test_another_encoding_is_refused(server: PrivateServer) -> None:
    """Names of machines are of every language."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    try:
        with pytest.raises(DatabaseUnusable, match="LATIN1"):
            await init(read_address(server.url("latin")))
    finally:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("DROP DATABASE latin")


async def test_a_database_that_is_not_there_is_away(server: PrivateServer) -> None:
    """For init and for all others."""
    for call in (connected, init):
        with pytest.raises(DatabaseAway, match="nowhere"):
            await call(read_address(server.url("nowhere")))
