"""A connection within so many seconds, however many hosts an address names."""

from __future__ import annotations

import queue
import threading

from psycopg import Connection
from psycopg.rows import TupleRow

from orchestrator.core.errors import DatabaseAway
from orchestrator.database.address import Address


def connected_within(seconds: float, address: Address) -> Connection[TupleRow]:
    """Return a connection, without a transaction of its own around each statement.

    Each host has a `connect_timeout` of its own, and a name may stand for several.

    Raises:
        DatabaseAway: none was made in time; one that is made later is closed.
        psycopg.Error: as `Connection.connect`.
    """
    answers = queue.SimpleQueue[Connection[TupleRow] | Exception]()
    is_late = threading.Event()

    def connect() -> None:
        try:
            made = Connection.connect(address.conninfo, autocommit=True, prepare_threshold=None)
        except Exception as exc:  # noqa: BLE001 - raised where it is waited for
            answers.put(exc)
            return
        answers.put(made)
        if is_late.is_set():
            made.close()

    threading.Thread(target=connect, daemon=True, name="database-connect").start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        is_late.set()
        raise DatabaseAway(
            f"the database {address} did not answer within {seconds:.0f} s"
        ) from None
    if isinstance(answer, Exception):
        raise answer
    return answer
