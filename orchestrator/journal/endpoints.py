"""Where the servers of the runs that live have answered; `core.same_server` says what follows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from orchestrator.core.records import server_address
from orchestrator.core.same_server import Identities, Met

ENDPOINTS = """
CREATE TABLE IF NOT EXISTS endpoints (
    run TEXT NOT NULL, address TEXT NOT NULL, endpoint TEXT NOT NULL,
    PRIMARY KEY (run, address, endpoint)
) WITHOUT ROWID;
"""


def read_identities(connection: sqlite3.Connection) -> Identities:
    """Read where the servers of all runs have answered."""
    found: dict[Met, set[str]] = {}
    for run, url, endpoint in connection.execute("SELECT run, address, endpoint FROM endpoints"):
        found.setdefault((run, server_address(url)), set()).add(endpoint)
    return Identities({met: frozenset(endpoints) for met, endpoints in found.items()})


def identities_in(path: Path) -> Identities:
    """Read them from the file of the claims without changing it; nothing if it cannot be read."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return read_identities(connection)
    except sqlite3.Error:
        return Identities({})
