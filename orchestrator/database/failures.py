"""What an error of psycopg means for the caller: repeat it, stop sending, or have it set up."""

from __future__ import annotations

from typing import NoReturn

import psycopg

from orchestrator.core.errors import (
    DatabaseAway,
    DatabaseUnusable,
    Fenced,
    NotEntered,
    OrchestratorError,
    RunLocked,
    RunNotFound,
)
from orchestrator.database.address import Address

PASSING = ("08", "40", "53", "57", "58", "25006", "55006", "55P03")
"""SQLSTATEs, or their classes, of what passes: a lost connection, a conflict, no room, a server
that starts, stops or cannot write, one that is read-only. Source: PostgreSQL, appendix A."""

NOT_THERE = ("3F000", "42P01", "42883", "42703", "42704")
"""SQLSTATEs of a schema, table, function, column or type that does not exist."""

OURS: dict[str, type[OrchestratorError]] = {
    "BR001": Fenced,
    "BR002": RunNotFound,
    "BR003": DatabaseUnusable,
    "BR006": RunLocked,
    "BR007": NotEntered,
}
"""SQLSTATEs that our functions raise."""

INIT = "bulk-restore database init"


def explain(error: psycopg.Error, address: Address) -> NoReturn:
    """Raise what an error means.

    Raises:
        DatabaseAway: it may have happened or not; repeat it.
        DatabaseUnusable: repeating it changes nothing.
        Fenced, RunNotFound, RunLocked, NotEntered: one of our functions says so.
    """
    raise meaning(error, address) from error


def meaning(error: psycopg.Error, address: Address) -> OrchestratorError:
    """Return what `explain` raises."""
    code = error.sqlstate or ""
    words = error.diag.message_primary or " ".join(str(error).split())
    if code in OURS:
        return OURS[code](words)
    lost = not code and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    if lost or code.startswith(PASSING):
        return DatabaseAway(f"the database {address} is away: {words}")
    if code in NOT_THERE:
        return DatabaseUnusable(
            f"the database {address} does not have the tables of this version ({words}); "
            f"its owner runs: {INIT}"
        )
    if code == "42501":
        return DatabaseUnusable(
            f"the database {address} denies this account what it needs ({words}); grant it "
            "bulk_restore_reader, bulk_restore_operator or bulk_restore_worker"
        )
    return DatabaseUnusable(f"the database {address} refused a request: {words}")
