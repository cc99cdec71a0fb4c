"""The owner's hand in a database: what no rule of ours holds."""

from __future__ import annotations

import time
from typing import Any, LiteralString, Self

import psycopg

from tests.database.patience import until_overdue


class Owner:
    """Looks at the tables and changes them, as only their owner may."""

    def __init__(self, url: str) -> None:
        """Connect as the owner."""
        self._connection = psycopg.connect(url, autocommit=True)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._connection.close()

    def rows(self, statement: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds, in schema `bulk_restore`."""
        self._connection.execute("SET search_path = bulk_restore")
        cursor = self._connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def one(self, statement: LiteralString, *values: Any) -> Any:
        """Return the only value of the only row."""
        ((found,),) = self.rows(statement, *values)
        return found

    def expire(self) -> None:
        """Let all leases be expired, and the database have run for long enough to say so."""
        for _ in until_overdue():
            if self.one("SELECT pg_postmaster_start_time() + lease_life() < clock_timestamp()"):
                break
            time.sleep(0.05)
        self.rows("UPDATE lease SET expires = clock_timestamp() - interval '1 ms'")

    def configure(self, name: str, setting: str) -> None:
        """Set something for all later connections to a database."""
        self._connection.execute(f"ALTER DATABASE {name} SET {setting}".encode())
