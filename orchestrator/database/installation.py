"""Making and migrating the schema, and finding out whether it is there: `database init`."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any, LiteralString, cast

import anyio
import psycopg
from msgspec import Struct
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from orchestrator.core.errors import DatabaseAway, DatabaseUnusable
from orchestrator.core.sites import LEASE_LIFE_S
from orchestrator.database.address import Address
from orchestrator.database.failures import INIT, explain
from orchestrator.database.link import Link, hang_up
from orchestrator.database.postgresql import PostgreSQL

SCHEMA = "bulk_restore"
READER, OPERATOR, WORKER = "bulk_restore_reader", "bulk_restore_operator", "bulk_restore_worker"

MIGRATIONS = ("tables-1.sql",)
"""What makes version 1, 2, … of the tables out of the version before."""

VERSION = len(MIGRATIONS)
CODE = ("leases.sql", "chains.sql", "runs.sql", "views.sql")
"""Functions and views: replaced as a whole where they differ."""

OLDEST = 130000
"""Server version that is needed at least. Source: what the tests and the documents name."""

CONNECT_S = 12.0
"""Seconds after which a database counts as unreachable; with the program's start, 15."""

LOCK = 0x62756C6B2D726573
"""Advisory lock of `init`, so that two at once do the same one after the other."""


class Installed(Struct, frozen=True, kw_only=True):
    """What `init` did. `before` is the version that was there; 0: none."""

    before: int
    version: int
    owner: str


async def connected(address: Address) -> PostgreSQL:
    """Return the database at an address, after a look whether it is ours. May be repeated.

    Raises:
        DatabaseAway: it cannot be reached within 12 seconds.
        DatabaseUnusable: it has none of our tables, those of another version, or denies access.
    """
    link = Link(address)
    try:
        with anyio.fail_after(CONNECT_S):
            ((version,),) = await link.rows("SELECT version FROM bulk_restore.about")
    except TimeoutError:
        raise DatabaseAway(
            f"the database {address} did not answer within {CONNECT_S:.0f} s"
        ) from None
    finally:
        await link.aclose()
    require_version(version, address)
    return PostgreSQL(address)


def require_version(version: int, address: Address) -> None:
    """Check that the tables are those that this program knows.

    Raises:
        DatabaseUnusable: they are of another version.
    """
    if version != VERSION:
        raise DatabaseUnusable(
            f"the database {address} has tables of version {version}, this program needs "
            f"{VERSION}; its owner runs, with the newer of the two programs: {INIT}"
        )


async def init(address: Address) -> Installed:
    """Make or migrate the schema and its roles. May be repeated, and run twice at once.

    Raises:
        DatabaseAway: it cannot be reached; nothing was changed, or all of it.
        DatabaseUnusable: no right to make them, or the tables are of a newer program; nothing
            was changed.
    """
    try:
        with anyio.fail_after(CONNECT_S):
            connection = await AsyncConnection.connect(address.conninfo)
    except TimeoutError:
        raise DatabaseAway(
            f"the database {address} did not answer within {CONNECT_S:.0f} s"
        ) from None
    except psycopg.Error as exc:
        explain(exc, address)
    try:
        async with connection:  # one transaction
            return await _installed(connection, address)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise DatabaseUnusable(
            f"init needs a role that may create schemas in {address}, and roles: "
            f"{exc.diag.message_primary}"
        ) from exc
    except psycopg.Error as exc:
        explain(exc, address)
    finally:
        await hang_up(connection)


async def _installed(connection: AsyncConnection[TupleRow], address: Address) -> Installed:
    await _require_fit(connection, address)
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    for role in (READER, OPERATOR, WORKER):
        await _make_role(connection, role)
    owner = await _require_owner(connection, address)
    await connection.execute(
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA))
    )
    before, code = await _what_is_there(connection)
    if before > VERSION:
        raise DatabaseUnusable(
            f"the database {address} has tables of version {before}, newer than this program's "
            f"{VERSION}"
        )
    await connection.execute(
        sql.SQL("SET LOCAL search_path = {}, pg_temp").format(sql.Identifier(SCHEMA))
    )
    for name in MIGRATIONS[before:]:
        await connection.execute(_text(name))
    if code != code_hash():
        await connection.execute(DROP_CODE)
        for name in CODE:
            await connection.execute(_text(name))
    await connection.execute(
        "INSERT INTO meta (version, code, lease_life) "
        "VALUES (%(version)s, %(code)s, make_interval(secs => %(life)s)) "
        "ON CONFLICT (only_row) DO UPDATE SET version = excluded.version, code = excluded.code, "
        "lease_life = excluded.lease_life",
        {"version": VERSION, "code": code_hash(), "life": LEASE_LIFE_S},
    )
    await connection.execute(_text("rights.sql"))
    return Installed(before=before, version=VERSION, owner=owner)


async def _require_fit(connection: AsyncConnection[TupleRow], address: Address) -> None:
    if connection.info.server_version < OLDEST:
        raise DatabaseUnusable(
            f"the database {address} is PostgreSQL {connection.info.server_version // 10000}; "
            f"{OLDEST // 10000} or newer is needed"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseUnusable(
            f"the database {address} has the encoding {encoding}; UTF8 is needed"
        )


async def _make_role(connection: AsyncConnection[TupleRow], role: str) -> None:
    """Make a group role; roles are shared by all databases, so another `init` may make it, too."""
    name = sql.Identifier(role)
    await connection.execute(
        sql.SQL(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {word}) THEN "
            "CREATE ROLE {name} NOLOGIN; END IF; "
            "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        ).format(word=sql.Literal(role), name=name)
    )


async def _require_owner(connection: AsyncConnection[TupleRow], address: Address) -> str:
    """Return who owns the schema, or will own it."""
    cursor = await connection.execute(
        "SELECT nspowner::regrole::text, pg_has_role(nspowner, 'USAGE') FROM pg_namespace "
        "WHERE nspname = %s UNION ALL SELECT current_user::text, true LIMIT 1",
        [SCHEMA],
    )
    owner, is_ours = cast("tuple[str, bool]", await cursor.fetchone())
    if not is_ours:
        raise DatabaseUnusable(f"the schema in {address} belongs to {owner}; run init as that role")
    return owner


async def _what_is_there(connection: AsyncConnection[TupleRow]) -> tuple[int, str | None]:
    """Return the version of the tables, 0 for none; and which code."""
    if await _one(connection, "SELECT to_regclass('bulk_restore.meta') IS NULL"):
        return 0, None
    cursor = await connection.execute("SELECT version, code FROM bulk_restore.meta")
    return cast("tuple[int, str]", await cursor.fetchone())


async def _one(connection: AsyncConnection[TupleRow], question: LiteralString) -> Any:
    row = await (await connection.execute(question)).fetchone()
    return None if row is None else row[0]


def _text(name: str) -> bytes:
    return resources.files("orchestrator.database").joinpath("schema", name).read_bytes()


def code_hash() -> str:
    """Return by what the functions and views of this program are known."""
    return hashlib.sha256(b"".join(map(_text, CODE))).hexdigest()


DROP_CODE: LiteralString = """
DO $$
DECLARE
    each record;
BEGIN
    FOR each IN SELECT relname FROM pg_class
        WHERE relnamespace = 'bulk_restore'::regnamespace AND relkind = 'v' LOOP
        EXECUTE format('DROP VIEW bulk_restore.%I CASCADE', each.relname);
    END LOOP;
    FOR each IN SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = 'bulk_restore'::regnamespace LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', each.name);
    END LOOP;
    DROP TYPE IF EXISTS bulk_restore.entry;
END $$
"""
