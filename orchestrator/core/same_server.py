"""Which servers of two runs are the same: by address, or by where they answer.

A plan may name a server by its short name, full name, an alias or an IP address. So every run
records at its logons at which endpoints (IP address and port) the server answers, and whatever
its name resolves to. Servers with one endpoint in common are the same. A certificate proves
nothing: several servers can have one, and one server several.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.core.records import server_address

Met = tuple[str, str]
"""A run, and the address of a server in its plan."""


class Identities(Struct, frozen=True):
    """What identifies the servers of several runs."""

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
