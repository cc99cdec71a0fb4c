"""As which systems machines were readable, for targets whose plan says `os: auto`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.core.earlier_runs.naming import NO_NAMING, Known, Naming, address_of, urls_in
from orchestrator.core.model import BackupServerName, OsKind, ServerName
from orchestrator.core.records import as_mapping

SystemRow = tuple[str, bytes]
"""A run, and the body of one of its `SystemFound`."""

_Machine = tuple[str, str]
"""Its name without regard to case, and its backup server."""


class KnownSystems:
    """As which systems machines were readable last; implements `ports.journal.Systems`.

    Names of machines are compared without regard to case, as the servers do.
    """

    def __init__(
        self,
        systems: Mapping[tuple[Known, _Machine], OsKind],
        naming: Naming = NO_NAMING,
    ) -> None:
        """`systems` by server and machine."""
        self._systems, self._naming = systems, naming
        self._servers = {server for server, _machine in systems}

    def known(self, server: ServerName, vm: str, backup_server: BackupServerName) -> OsKind | None:
        """Return as which system a machine was readable last, or None if nothing is known."""
        where = self._naming.known(server, self._servers)
        return self._systems.get((where, (vm.casefold(), backup_server)))


NO_SYSTEMS = KnownSystems({})
"""Nothing is known of any machine."""


def known_systems(
    started: Mapping[str, bytes], rows: Iterable[SystemRow], naming: Naming
) -> KnownSystems:
    """Return what runs have found out; `rows` has the oldest first, `started` each first record.

    A record that cannot be read says nothing.
    """
    systems: dict[tuple[Known, _Machine], OsKind] = {}
    urls: dict[str, Mapping[ServerName, str]] = {}
    for run, body in rows:
        fact = as_mapping(body)
        if run not in urls:
            urls[run] = urls_in(as_mapping(started.get(run, b"")))
        found = _found(fact)
        if found is not None:
            server, machine, os_kind = found
            where = address_of(urls[run], server), fact.get("simulated") is True
            systems[where, machine] = os_kind
    return KnownSystems(systems, naming)


def _found(fact: Mapping[str, Any]) -> tuple[ServerName, _Machine, OsKind] | None:
    """Return server, machine and system of a record, or None where it cannot be read."""
    named = (fact.get(name, "") for name in ("server", "vm", "backup_server", "os_kind"))
    server, vm, behind, word = (text if isinstance(text, str) else None for text in named)
    os_kind = next((each for each in OsKind if each == word), None)
    if not server or not vm or behind is None or os_kind is None:
        return None
    return ServerName(server), (vm.casefold(), behind), os_kind
