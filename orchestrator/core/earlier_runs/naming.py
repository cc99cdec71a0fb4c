"""Which server is meant: by its address, whatever a plan calls it, and whether it was simulated.

What earlier runs found out is kept for a server and not for a name: renaming a server in the
plan keeps it, and two plans that call different servers alike do not share it. What was found
on simulated servers says nothing of real ones, not even at the same address.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from msgspec import Struct, field

from orchestrator.core.events import ServerFacts
from orchestrator.core.model import ServerName
from orchestrator.core.records import server_address

Known = tuple[str, bool]
"""The address of a server, and whether it was simulated when something was found out there."""


def address_of(urls: Mapping[ServerName, str], server: ServerName) -> str:
    """Return the address of a plan's server; its name, if no plan is known."""
    return server_address(urls[server]) if server in urls else f"named {server}"


def urls_in(started: Mapping[str, Any]) -> dict[ServerName, str]:
    """Return the servers' addresses in the first record of a run, as far as it can be read."""
    found = started.get("servers")
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return {
        ServerName(row["name"]): row["url"]
        for row in rows
        if isinstance(row.get("name"), str) and isinstance(row.get("url"), str)
    }


def urls_of(facts: Iterable[ServerFacts]) -> dict[ServerName, str]:
    """Return the addresses of the servers of a run."""
    return {each.name: each.url for each in facts}


class Naming(Struct, frozen=True, kw_only=True):
    """The caller's names of its servers.

    `is_simulated` says what is known by now; None: nothing. Then what was found on the real
    server at the address counts, and if there is nothing, what was found on a simulated one.
    """

    urls: Mapping[ServerName, str] = field(default_factory=dict)
    is_simulated: Callable[[ServerName], bool | None] = lambda server: None

    def known(self, server: ServerName, known: Container[Known]) -> Known:
        """Return for which server something is looked up among what is `known`."""
        at, simulated = address_of(self.urls, server), self.is_simulated(server)
        if simulated is None:
            simulated = (at, False) not in known
        return at, simulated


NO_NAMING = Naming()
"""Nobody says where the servers are: their names stand for them."""
