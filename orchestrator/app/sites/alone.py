"""The other runs, for a shard: its lease keeps all others from mounting on its server."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from datetime import datetime
from itertools import count

from orchestrator.core.model import BackupServerName, MountKey, MountRequest, ServerName


class NoOtherRuns:
    """Nobody else mounts where this shard does; implements `ports.OtherRuns`."""

    is_present = False
    is_unsure = False
    earlier_seen_at: datetime | None = None
    trouble: str | None = None

    def __init__(self, sessions: Iterable[str], on_release: Callable[[MountKey], None]) -> None:
        """`sessions` are the ids of the logon sessions of this run on the server.

        `on_release` is told whose slot is given back: its mount is gone, or must be.
        """
        self._sessions, self._on_release = frozenset(sessions), on_release
        self._numbers = count(1)
        self._claims: dict[int, MountKey] = {}

    def on_server(self, server: ServerName) -> int:
        """Return 0."""
        _ = server
        return 0

    def behind(self, server: ServerName, backup_server: BackupServerName) -> int:
        """Return 0."""
        _ = server, backup_server
        return 0

    def of_machine(self, server: ServerName, backup_server: BackupServerName, vm: str) -> int:
        """Return 0."""
        _ = server, backup_server, vm
        return 0

    def claim(self, request: MountRequest, fits: Callable[[], bool]) -> int | None:
        """Claim a mount if it fits: nobody else claims any."""
        return self.occupy(request) if fits() else None

    def occupy(self, request: MountRequest) -> int:
        """Note whose slot it is: nobody else would see a claim."""
        number = next(self._numbers)
        self._claims[number] = request.key
        return number

    def release(self, number: int) -> None:
        """Tell that a slot is given back."""
        key = self._claims.pop(number, None)
        if key is not None:
            self._on_release(key)

    def forget_earlier(self) -> None:
        """Do nothing."""

    def look(self) -> bool:
        """Return that nothing has changed."""
        return False

    def why_waiting(self, request: MountRequest) -> str:
        """Return nothing: no request waits for another run."""
        _ = request
        return ""

    def meet(self, server: ServerName, endpoints: frozenset[str]) -> None:
        """Do nothing: the lease is of the address."""

    def sharing_sessions(self, server: ServerName) -> Container[str]:
        """Return the sessions of this run."""
        _ = server
        return self._sessions

    def sessions(self) -> Container[str]:
        """Return the sessions of this run."""
        return self._sessions
