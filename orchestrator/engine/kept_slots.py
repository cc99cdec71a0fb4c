"""Slots that nobody gives back: of mounts that may be open for ever, or are held without end.

A target that needs a limit which they have used up gets no slot any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from orchestrator.core.model import MountRequest, ServerName
from orchestrator.engine.limits import Limits
from orchestrator.engine.waiting import Lane, machine_of


class KeptSlots:
    """How many such slots count in each limit."""

    def __init__(self) -> None:
        """None at first."""
        self.forfeited: Counter[object] = Counter()
        """Of mounts that may be open for ever; None: in the whole run."""
        self.endless: Counter[object] = Counter()
        """Of mounts that are held without an end."""

    def forfeit(self, request: MountRequest, lane: Lane) -> None:
        """Count a slot that is never given back."""
        for resource in _resources(request, lane):
            self.forfeited[resource] += 1

    def hold(self, request: MountRequest, lane: Lane, change: int) -> None:
        """Count a mount that is held without end, or (-1) is so no more."""
        for resource in _resources(request, lane):
            self.endless[resource] += change

    def have_used_up(
        self, request: MountRequest, limits: Limits, behind: Mapping[tuple[ServerName, str], int]
    ) -> bool:
        """Return whether they leave no room in a limit that a request needs.

        `behind` are the limits of backup servers by their folded names.
        """
        if not self.forfeited and not self.endless[None]:
            return False
        backup = (request.server, request.backup_server)
        folded = (request.server, request.backup_server.casefold())
        bounds: tuple[tuple[object, int | None], ...] = (
            (None, limits.run),
            (request.wave, limits.waves.get(request.wave)),
            (request.server, limits.servers.get(request.server)),
            (backup, behind.get(folded, limits.backup_server_default)),
            (machine_of(request), limits.per_vm),
        )
        return any(
            limit is not None and self.forfeited[resource] + self.endless[resource] >= limit
            for resource, limit in bounds
        )


def _resources(request: MountRequest, lane: Lane) -> tuple[object, ...]:
    """Return what a slot counts for in the limits: run, wave, server, backup server, machine."""
    return (None, lane.wave, lane.server, lane[1:], machine_of(request))
