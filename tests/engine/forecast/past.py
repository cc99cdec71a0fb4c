"""A history of mounts that a test makes up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from orchestrator.core.model import ServerName


class Past:
    """The last mounts of machines, by their names; the oldest first."""

    def __init__(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """Without a machine that is not named."""
        self._seconds = seconds

    def expected(self, server: ServerName, vm: str) -> float | None:
        """Return the median."""
        found = self.recent(server, vm)
        return median(found) if found else None

    def recent(self, server: ServerName, vm: str) -> Sequence[float]:
        """Return all of them."""
        _ = server
        return self._seconds.get(vm, ())
