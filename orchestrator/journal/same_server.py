"""Which servers of two runs are the same: by address, or by where they answer.

A plan may name a server by its short name, full name, an alias or an IP address. So every run
records at its logons at which endpoints (IP address and port) the server answers, and whatever
its name resolves to. Servers with one endpoint in common are the same. A certificate proves
nothing: several servers can have one, and one server several.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from orchestrator.core.records import server_address

ENDPOINTS = """
CREATE TABLE IF NOT EXISTS endpoints (
    run TEXT NOT NULL, address TEXT NOT NULL, endpoint TEXT NOT NULL,
    PRIMARY KEY (run, address, endpoint)
) WITHOUT ROWID;
"""

Met = tuple[str, str]
"""A run, and the address of a server in its plan."""


class Identities(Struct, frozen=True):
    """What identifies the servers of the runs of a state directory."""

    endpoints: Mapping[Met, frozenset[str]]

    def of(self, run: str, url: str) -> frozenset[str]:
        """Return what identifies a server of a run: its address, and where it has answered."""
        address = server_address(url)
        return self.endpoints.get((run, address), frozenset()) | {address}

    def is_same(self, one: Met, other: Met) -> bool:
        """Return whether the servers of two runs are the same, as far as is known."""
        return not self.of(*one).isdisjoint(self.of(*other))

    def is_at(self, met: Met, url: str, endpoints: frozenset[str]) -> bool:
        """Return whether a server of a run is the one that answers at these `endpoints`."""
        return not self.of(*met).isdisjoint(endpoints | {server_address(url)})


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
