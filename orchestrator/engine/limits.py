"""How many mounts may be open at once, and where."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from orchestrator.core.model import BackupServerName, ServerName, WaveName
from orchestrator.plan.file.settings import Ramp

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

    def by_folded_name(self) -> dict[tuple[ServerName, str], int]:
        """Return the limits of backup servers by names that are the same in any spelling."""
        return {(s, name.casefold()): limit for (s, name), limit in self.backup_servers.items()}
