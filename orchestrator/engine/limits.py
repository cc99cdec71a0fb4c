"""How many mounts may be open at once, and where."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.core.controls import LimitChange
from orchestrator.core.model import BackupServerName, Ramp, ServerName, WaveName

UNKNOWN_DURATION = 180.0
"""Seconds a machine without history is expected to be mounted; only comparisons matter."""


class Limits(Struct, frozen=True, kw_only=True):
    """How many mounts may be open at once; None means that the plan names no limit."""

    run: int | None = None
    per_vm: int = 1
    waves: Mapping[WaveName, int] = field(default_factory=dict)
    servers: Mapping[ServerName, int] = field(default_factory=dict)
    backup_servers: Mapping[tuple[ServerName, BackupServerName], int] = field(default_factory=dict)
    backup_server_default: int = 4
    counting_others: frozenset[tuple[ServerName, str]] = frozenset()
    """Whose limit open file-level restores of other people use up, too.

    Server and backup server, folded; "" for the limit of the server itself.
    """

    start_interval: float = 0.0
    """Seconds between the answer to a mount request and the next one to the same server."""
    ramp: Ramp | None = None
    """How each server is given its slots; None: all at once."""

    def changed(self, change: LimitChange) -> Limits:
        """Return the limits after a change that a person asked for."""
        if change.server is None:
            return replace(self, run=change.mounts)
        if change.backup_server is None:
            return replace(self, servers={**self.servers, change.server: change.mounts})
        folded = change.backup_server.casefold()
        others = {
            key: limit
            for key, limit in self.backup_servers.items()
            if key[0] != change.server or key[1].casefold() != folded
        }
        own = {(change.server, change.backup_server): change.mounts}
        return replace(self, backup_servers=others | own)

    def or_more(self, other: Limits) -> Limits:
        """Return these limits, each as high as `other` has it if that is more."""
        run = None if self.run is None or other.run is None else max(self.run, other.run)
        servers = {name: max(n, other.servers.get(name, n)) for name, n in self.servers.items()}
        known, default = self.by_folded_name(), self.backup_server_default
        higher = {
            (server, name): limit
            for (server, name), limit in other.backup_servers.items()
            if limit > known.get((server, name.casefold()), default)
        }
        replaced = {(server, name.casefold()) for server, name in higher}
        kept = {
            key: limit
            for key, limit in self.backup_servers.items()
            if (key[0], key[1].casefold()) not in replaced
        }
        return replace(self, run=run, servers=servers, backup_servers=kept | higher)

    def by_folded_name(self) -> dict[tuple[ServerName, str], int]:
        """Return the limits of backup servers by names that are the same in any spelling."""
        return {(s, name.casefold()): limit for (s, name), limit in self.backup_servers.items()}
