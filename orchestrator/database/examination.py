"""What a database is worth for runs over several machines: `database check`."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from statistics import median
from typing import Any, LiteralString

import anyio
import psycopg
from msgspec import Struct

from orchestrator.core.text import duration
from orchestrator.database.address import Address
from orchestrator.database.failures import INIT, explain
from orchestrator.database.hearing import NOT_HEARD, PATIENCE_S, is_heard
from orchestrator.database.installation import (
    OPERATOR,
    READER,
    VERSION,
    WORKER,
    code_hash,
    connected,
)
from orchestrator.database.link import Connection, connecting

ROUND_TRIPS = 9
MEASURED_S = 1.0
"""Seconds for which commits are counted."""

CLOCK_TOLERATED_S = 5.0
SLOW_ROUND_TRIP_S = 0.2
FEW_COMMITS = 20
"""Commits per second below which a worker with some servers waits for each of them."""

COMMIT: LiteralString = "SELECT pg_logical_emit_message(true, 'bulk_restore', 'check')"
"""Writes to the log that a commit waits for, and into no table."""


class Status(StrEnum):
    """What a fact means for a run."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Fact(Struct, frozen=True, kw_only=True):
    """One thing that was found; `value` is for programs, `words` for people."""

    name: str
    status: Status
    value: object
    words: str


async def examine(address: Address) -> list[Fact]:
    """Return what was found, after at most some twenty seconds. Changes nothing.

    Raises:
        DatabaseAway: it cannot be reached.
        DatabaseUnusable: it does not have our tables, or denies access.
    """
    await (await connected(address)).aclose()
    try:
        async with connecting(address) as asking, connecting(address) as hearing:
            return [
                await _server(asking, address),
                await _tables(asking),
                await _functions(asking),
                await _rights(asking),
                await _writable(asking),
                await _clock(asking),
                await _round_trip(asking),
                await _commits(address),
                await _standby(asking),
                await _durability(asking),
                await _notifications(asking, hearing),
            ]
    except psycopg.Error as exc:
        explain(exc, address)


async def _row(connection: Connection, question: LiteralString, *values: object) -> Any:
    (found,) = await (await connection.execute(question, values or None)).fetchall()
    return found


async def _server(connection: Connection, address: Address) -> Fact:
    (version,) = await _row(connection, "SHOW server_version")
    way = "encrypted" if connection.pgconn.ssl_in_use else "not encrypted, on this machine"
    return Fact(
        name="server",
        status=Status.OK,
        value={"version": version, "encrypted": connection.pgconn.ssl_in_use},
        words=f"PostgreSQL {version}, {address}, {way}",
    )


async def _tables(connection: Connection) -> Fact:
    (version,) = await _row(connection, "SELECT version FROM bulk_restore.about")
    fits = version == VERSION
    return Fact(
        name="tables",
        status=Status.OK if fits else Status.PROBLEM,
        value=version,
        words=f"version {version}" + ("" if fits else f"; this program needs {VERSION}"),
    )


async def _functions(connection: Connection) -> Fact:
    """Say whether the functions are this program's; those of older ones do not say whose."""
    (code,) = await _row(connection, "SELECT to_jsonb(about) ->> 'code' FROM bulk_restore.about")
    fits = code == code_hash()
    other = f"another program's; their owner runs, with the newest of them: {INIT}"
    return Fact(
        name="functions",
        status=Status.OK if fits else Status.WARNING,
        value=fits,
        words="this program's" if fits else other,
    )


async def _rights(connection: Connection) -> Fact:
    login, *has = await _row(
        connection,
        "SELECT session_user::text, pg_has_role(session_user, %s, 'USAGE'), "
        "pg_has_role(session_user, %s, 'USAGE'), pg_has_role(session_user, %s, 'USAGE')",
        READER,
        OPERATOR,
        WORKER,
    )
    roles = [name for name, is_in in zip((READER, OPERATOR, WORKER), has, strict=True) if is_in]
    return Fact(
        name="rights",
        status=Status.OK if roles else Status.PROBLEM,
        value={"login": login, "roles": roles},
        words=f"{login} has {', '.join(roles) or 'no role of ours'}",
    )


async def _writable(connection: Connection) -> Fact:
    is_standby, read_only = await _row(
        connection,
        "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean",
    )
    fits = not (is_standby or read_only)
    why = "it is a standby" if is_standby else "it takes no writes"
    return Fact(
        name="writable",
        status=Status.OK if fits else Status.PROBLEM,
        value=fits,
        words="it takes writes" if fits else f"{why}; workers wait until it does",
    )


async def _clock(connection: Connection) -> Fact:
    began = datetime.now(UTC)
    (theirs,) = await _row(connection, "SELECT clock_timestamp()")
    ours = began + (datetime.now(UTC) - began) / 2
    off = (theirs - ours).total_seconds()
    fits = abs(off) <= CLOCK_TOLERATED_S
    return Fact(
        name="clock",
        status=Status.OK if fits else Status.WARNING,
        value=round(off, 3),
        words=f"{off:+.1f} s against this machine"
        + ("" if fits else "; leases do not depend on it, times in reports do"),
    )


async def _round_trip(connection: Connection) -> Fact:
    taken = []
    for _ in range(ROUND_TRIPS):
        began = anyio.current_time()
        await _row(connection, "SELECT 1")
        taken.append(anyio.current_time() - began)
    middle = median(taken)
    fits = middle <= SLOW_ROUND_TRIP_S
    return Fact(
        name="round_trip",
        status=Status.OK if fits else Status.WARNING,
        value=round(middle, 5),
        words=f"{1000 * middle:.1f} ms" + ("" if fits else "; every mount waits for one"),
    )


async def _commits(address: Address) -> Fact:
    """Count commits on a connection of its own: one that hangs is given up with it."""
    count, began = 0, anyio.current_time()
    try:
        async with connecting(address) as connection:
            await connection.execute("SET synchronous_commit = on")
            while (spent := anyio.current_time() - began) < MEASURED_S:
                with anyio.fail_after(PATIENCE_S):
                    await connection.execute(COMMIT)
                count += 1
    except psycopg.errors.ReadOnlySqlTransaction:
        return Fact(name="commits", status=Status.PROBLEM, value=None, words="none: read-only")
    except TimeoutError:
        return Fact(
            name="commits",
            status=Status.PROBLEM,
            value=None,
            words=f"one did not end within {duration(PATIENCE_S)}; it may wait for a synchronous "
            "standby that is not there",
        )
    rate = count / spent
    fits = rate >= FEW_COMMITS
    return Fact(
        name="commits",
        status=Status.OK if fits else Status.WARNING,
        value=round(rate, 1),
        words=f"{rate:.0f} per second, one after another",
    )


async def _standby(connection: Connection) -> Fact:
    (names,) = await _row(connection, "SHOW synchronous_standby_names")
    (count,) = await _row(
        connection,
        "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')",
    )
    if not names:
        words = "none: a failover to another server may lose records that were acknowledged"
        return Fact(name="standby", status=Status.WARNING, value=None, words=words)
    seen = f", {count} seen" if count else ""
    return Fact(name="standby", status=Status.OK, value=names, words=f"synchronous: {names}{seen}")


async def _durability(connection: Connection) -> Fact:
    off = []
    for name in ("fsync", "full_page_writes"):
        (setting,) = await _row(connection, "SELECT current_setting(%s)", name)
        if setting != "on":
            off.append(name)
    return Fact(
        name="durability",
        status=Status.PROBLEM if off else Status.OK,
        value=not off,
        words=f"{' and '.join(off)} off: a crash loses what was acknowledged"
        if off
        else "what is acknowledged outlives a crash",
    )


async def _notifications(asking: Connection, hearing: Connection) -> Fact:
    try:
        heard = await is_heard(asking, hearing)
    except psycopg.errors.ReadOnlySqlTransaction:
        return Fact(name="notify", status=Status.PROBLEM, value=False, words="none: read-only")
    return Fact(
        name="notify",
        status=Status.OK if heard else Status.PROBLEM,
        value=heard,
        words="heard" if heard else f"not heard: {NOT_HEARD}",
    )
