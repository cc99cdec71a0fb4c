"""Which targets a run takes: those of a plan or of a locked plan, narrowed by the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from orchestrator.model import MountRequest, RestorePoint, ServerName, UnresolvedTarget
from orchestrator.plan import expansion as expanding
from orchestrator.plan.inventory import Inventory, InventoryNeeds, inventory_needs
from orchestrator.plan.locked import LockedPlan
from orchestrator.plan.settings import RestorePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """Globs of --only over key, label and VM; `keys`, where given, are the only ones taken."""

    only: tuple[str, ...] = ()
    keys: frozenset[str] | None = None

    def takes(self, target: MountRequest | UnresolvedTarget) -> bool:
        """Tell whether a target is wanted."""
        if self.keys is not None and target.key not in self.keys:
            return False
        if not self.only:
            return True
        names = {target.key, target.label, getattr(target, "vm", target.label)}
        return any(fnmatchcase(name, glob) for glob in self.only for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """Targets of a plan after `--only`; what the engine takes as an expansion."""

    requests: Sequence[MountRequest]
    unresolved: Sequence[UnresolvedTarget]
    broken: Sequence[str] = ()


class PlanSelection:
    """The selectors of a plan; implements `engine.orders.Selection`."""

    def __init__(self, plan: RestorePlan, narrowing: Narrowing, now: datetime) -> None:
        """Ages of restore points are measured back from `now`."""
        self._plan = plan
        self._narrowing = narrowing
        self._now = now

    def needs(self, server: ServerName) -> InventoryNeeds:
        """Return what must be asked of `server`."""
        return inventory_needs(self._plan, server)

    def expand(self, found: Mapping[ServerName, Sequence[RestorePoint]]) -> Expanded:
        """Choose the points of the targets on the given servers."""
        inventories = {name: Inventory(points) for name, points in found.items()}
        expansion = expanding.expand(self._plan, inventories, now=self._now)
        return Expanded(
            requests=[each for each in expansion.requests if self._narrowing.takes(each)],
            unresolved=[each for each in expansion.unresolved if self._narrowing.takes(each)],
            broken=expansion.broken,
        )

    def placeholders(self, server: ServerName) -> Sequence[UnresolvedTarget]:
        """Return one target per entry of a server that could not be asked."""
        targets = expanding.placeholders(self._plan, server, reason="its server was not asked")
        return [each for each in targets if self._narrowing.takes(each)]


class LockedSelection:
    """The targets of a locked plan, exactly as they were saved."""

    def __init__(self, locked: LockedPlan, narrowing: Narrowing) -> None:
        """Nothing is asked of the servers but their logon."""
        self._requests = [each for each in locked.requests if narrowing.takes(each)]
        self._unresolved = [each for each in locked.unresolved if narrowing.takes(each)]

    def needs(self, server: ServerName) -> InventoryNeeds:
        """Return nothing: the points are chosen already."""
        _ = server
        return InventoryNeeds(points=(), machines={}, jobs={})

    def expand(self, found: Mapping[ServerName, Sequence[RestorePoint]]) -> Expanded:
        """Return the saved targets of the servers that answered."""
        return Expanded(
            requests=[each for each in self._requests if each.server in found],
            unresolved=[each for each in self._unresolved if each.server in found],
        )

    def placeholders(self, server: ServerName) -> Sequence[UnresolvedTarget]:
        """Return the saved targets of a server that does not answer."""
        pointless = [each for each in self._unresolved if each.server == server]
        return pointless + [
            UnresolvedTarget(
                key=each.key,
                wave=each.wave,
                server=each.server,
                label=each.label,
                reason="its server was not asked",
                critical=each.critical,
                os_kind=each.os_kind,
                source=each.point.source,
                place=each.place,
            )
            for each in self._requests
            if each.server == server
        ]
