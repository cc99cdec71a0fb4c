"""Where a run's targets come from: a plan with its inventories, or a locked plan as it is.

Both answer the same three questions, so that a run need not know which of them it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from orchestrator.model import RestorePoint, ServerName, UnresolvedTarget
from orchestrator.plan.expansion import Expansion, expand, placeholders
from orchestrator.plan.inventory import Inventory, InventoryNeeds, inventory_needs
from orchestrator.plan.locked import LockedPlan
from orchestrator.plan.settings import RestorePlan

NOT_ASKED = "the server could not be used, so its restore points are not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTargets:
    """Targets chosen from what the servers list; ages are measured back from `now`."""

    plan: RestorePlan
    now: datetime

    def needs(self, server: ServerName) -> InventoryNeeds:
        """Return what must be asked of `server`."""
        return inventory_needs(self.plan, server)

    def expand(self, found: Mapping[ServerName, Iterable[RestorePoint]]) -> Expansion:
        """Return the targets of the servers whose restore points were `found`."""
        inventories = {server: Inventory(points) for server, points in found.items()}
        return expand(self.plan, inventories, now=self.now)

    def placeholders(self, server: ServerName) -> tuple[UnresolvedTarget, ...]:
        """Return one target for each entry of a server that could not be asked."""
        return placeholders(self.plan, server, reason=NOT_ASKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedTargets:
    """Targets exactly as they were locked; nothing need be asked."""

    locked: LockedPlan

    def needs(self, server: ServerName) -> InventoryNeeds:
        """Return that nothing must be asked of `server`."""
        _ = server
        return InventoryNeeds(points=(), machines={}, jobs={})

    def expand(self, found: Mapping[ServerName, Iterable[RestorePoint]]) -> Expansion:
        """Return the locked targets of the servers in `found`, whatever those list now."""
        return Expansion(
            requests=tuple(r for r in self.locked.requests if r.server in found),
            unresolved=tuple(t for t in self.locked.unresolved if t.server in found),
            broken=(),
            pending=(),
        )

    def placeholders(self, server: ServerName) -> tuple[UnresolvedTarget, ...]:
        """Return the locked targets of a server that cannot be used."""
        unresolved = tuple(t for t in self.locked.unresolved if t.server == server)
        return unresolved + tuple(
            UnresolvedTarget(
                key=request.key,
                wave=request.wave,
                server=request.server,
                label=request.label,
                reason="the server could not be used",
                critical=request.critical,
                os_kind=request.os_kind,
                source=request.point.source,
                place=request.place,
            )
            for request in self.locked.requests
            if request.server == server
        )
