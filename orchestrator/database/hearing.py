"""Whether notifications are heard. A pool that gives each transaction another connection swallows
them, and nobody is told: neither who sends one nor who listens.
"""

from __future__ import annotations

import secrets
from typing import LiteralString

import psycopg

from orchestrator.database.address import Address
from orchestrator.database.failures import explain
from orchestrator.database.link import Connection, connecting

PATIENCE_S = 5.0
"""Seconds after which a notification is not waited for any longer."""

CHANNEL: LiteralString = "bulk_restore_check"

NOTIFY: LiteralString = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"
"""A transaction that notifies and happens to write, such as a catalog page that it tidied, would
wait for a synchronous standby, for ever if none is there. Seen with PostgreSQL 18.4."""

NOT_HEARD = (
    "a pool in between gives every transaction another connection; name the server itself, or let "
    "the pool keep a connection per session"
)


async def is_heard(asking: Connection, hearing: Connection, within_s: float = PATIENCE_S) -> bool:
    """Return whether one connection hears what the other one notifies it of.

    Raises:
        psycopg.Error: the connection is lost, or the database takes no writes.
    """
    word = secrets.token_hex(8)
    await hearing.execute("LISTEN bulk_restore_check")
    await asking.execute(NOTIFY, [CHANNEL, word])
    async for each in hearing.notifies(timeout=within_s):
        if each.payload == word:
            return True
    return False


async def notifications_are_heard(address: Address, within_s: float = PATIENCE_S) -> bool:
    """Return whether notifications are heard at an address. Changes nothing.

    Raises:
        DatabaseAway: it cannot be reached, or takes no writes.
        DatabaseUnusable: it denies access.
    """
    try:
        async with connecting(address) as asking, connecting(address) as hearing:
            return await is_heard(asking, hearing, within_s)
    except psycopg.Error as exc:
        explain(exc, address)
