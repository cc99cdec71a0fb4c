"""Which targets a run takes: those of a plan or of a locked plan, narrowed by the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase

from orchestrator.model import (
    MountKey,
    MountRequest,
    RestorePoint,
    RestorePointId,
    ServerName,
    Source,
    UnresolvedTarget,
)
from orchestrator.plan import expansion as expanding
from orchestrator.plan.fitting import moment
from orchestrator.plan.inventory import (
    Inventory,
    InventoryNeeds,
    Listing,
    Question,
    inventory_needs,
)
from orchestrator.plan.locked import LockedPlan
from orchestrator.plan.sampling import Draw
from orchestrator.plan.selection import PassedOver
from orchestrator.plan.settings import RestorePlan, SelectorKind


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
    """Targets of a plan after `--only`; what the engine takes as an expansion.

    `passed`, `queried` and `notes` are those of `plan.expansion.Expansion`.
    """

    requests: Sequence[MountRequest]
    unresolved: Sequence[UnresolvedTarget]
    broken: Sequence[str] = ()
    passed: Mapping[MountKey, Sequence[PassedOver]] = field(default_factory=dict)
    queried: frozenset[MountKey] = frozenset()
    notes: Sequence[str] = ()


class PlanSelection:
    """The selectors of a plan; implements `engine.orders.Selection`."""

    def __init__(
        self,
        plan: RestorePlan,
        narrowing: Narrowing,
        now: datetime,
        draw: Draw | None = None,
        *,
        explain: bool = False,
    ) -> None:
        """Ages of restore points are measured back from `now`; `draw` decides what chance does.

        Only with `explain` are the points kept that were passed over.

        Where the targets wanted are known by their keys, samples are not drawn: the keys say
        more than a new sample could.
        """
        self._plan = plan
        self._narrowing = narrowing
        self._now = now
        draw = draw or Draw()
        self._explain = explain
        self._draw = replace(draw, sampling=draw.sampling and narrowing.keys is None)

    def needs(self, server: ServerName) -> InventoryNeeds:
        """Return what must be asked of `server`."""
        return inventory_needs(self._plan, server, self._draw)

    def expand(self, found: Mapping[ServerName, Listing]) -> Expanded:
        """Choose the points of the targets on the given servers."""
        inventories = {name: Inventory(listing=listing) for name, listing in found.items()}
        expansion = expanding.expand(
            self._plan, inventories, now=self._now, draw=self._draw, explain=self._explain
        )
        return Expanded(
            requests=[each for each in expansion.requests if self._narrowing.takes(each)],
            unresolved=[each for each in expansion.unresolved if self._narrowing.takes(each)],
            broken=expansion.broken,
            passed=expansion.passed,
            queried=expansion.queried,
            notes=expansion.notes,
        )

    def placeholders(self, server: ServerName) -> Sequence[UnresolvedTarget]:
        """Return one target per entry of a server that could not be asked."""
        targets = expanding.placeholders(
            self._plan, server, reason="its server was not asked", draw=self._draw
        )
        return [each for each in targets if self._narrowing.takes(each)]


class LockedSelection:
    """The targets of a locked plan, exactly as they were saved, as far as they are still there.

    The servers are asked whether they still list the locked points: retention may have
    removed one since, and then that is said before anything is mounted.
    """

    def __init__(self, locked: LockedPlan, narrowing: Narrowing) -> None:
        """`narrowing` leaves out what the command line does not want."""
        self._locked_at = locked.created_at
        self._requests = [each for each in locked.requests if narrowing.takes(each)]
        self._unresolved = [each for each in locked.unresolved if narrowing.takes(each)]

    def needs(self, server: ServerName) -> InventoryNeeds:
        """Return what shows whether the locked points are there: many machines in one query.

        A point that the query does not show is asked for by its id: its machine may have been
        renamed, or the account may not list the family.
        """
        machines: dict[Source, dict[str, None]] = {}
        points: dict[tuple[Source, RestorePointId], None] = {}
        for request in self._requests:
            if request.server == server:
                point = request.point
                machines.setdefault(point.source, {})[point.vm] = None
                points[point.source, point.id] = None
        return InventoryNeeds(
            points=tuple(points),
            machines={source: tuple(names) for source, names in machines.items()},
        )

    def expand(self, found: Mapping[ServerName, Listing]) -> Expanded:
        """Return the saved targets of the servers that answered; those gone have no point."""
        requests: list[MountRequest] = []
        unresolved = [each for each in self._unresolved if each.server in found]
        inventories = {name: Inventory(listing=listing) for name, listing in found.items()}
        for request in self._requests:
            inventory = inventories.get(request.server)
            if inventory is None:
                continue
            why = self._why_gone(request, inventory)
            if why is None:
                requests.append(_with_what_is_there(request, inventory))
            else:
                unresolved.append(_without_point(request, why))
        return Expanded(requests=requests, unresolved=unresolved)

    def gone(self, found: Mapping[ServerName, Listing]) -> Sequence[UnresolvedTarget]:
        """Return the targets whose locked points are not there any more, and why."""
        without = {each.key for each in self._unresolved}
        return [each for each in self.expand(found).unresolved if each.key not in without]

    def placeholders(self, server: ServerName) -> Sequence[UnresolvedTarget]:
        """Return the saved targets of a server that does not answer."""
        pointless = [each for each in self._unresolved if each.server == server]
        return pointless + [
            _without_point(each, "its server was not asked")
            for each in self._requests
            if each.server == server
        ]

    def _why_gone(self, request: MountRequest, inventory: Inventory) -> str | None:
        """Return why a locked point cannot be mounted any more, or None where it is there."""
        point = request.point
        if inventory.point(point.source, point.id) is not None:
            return None
        refusal = inventory.refusal(Question(SelectorKind.ID, point.source, point.id))
        if refusal is not None:
            return refusal
        return (
            f"the locked restore point of {moment(point.created_at)} has gone: the server does not "
            f"list it any more (the plan was locked at {moment(self._locked_at)}); lock it anew"
        )


def _with_what_is_there(request: MountRequest, inventory: Inventory) -> MountRequest:
    """Return the request without the other points that have gone, as far as that is known."""
    point, search = request.point, request.search
    if not search.candidates or not _lists_machine(point, inventory):
        return request
    left = tuple(p for p in search.candidates if inventory.point(p.source, p.id) is not None)
    gone = len(search.candidates) - len(left)
    if not gone:
        return request
    return replace(
        request,
        search=replace(search, candidates=left),
        policy=f"{request.policy}; {gone} of the older points locked have gone since",
    )


def _lists_machine(point: RestorePoint, inventory: Inventory) -> bool:
    """Tell whether the server listed the machine's points, not only the one named by its id."""
    asked = Question(SelectorKind.VM, point.source, point.vm)
    return inventory.refusal(asked) is None and any(
        each.id == point.id
        for machine in inventory.machines(point.source, point.vm)
        for each in machine.points
    )


def _without_point(request: MountRequest, reason: str) -> UnresolvedTarget:
    return UnresolvedTarget(
        key=request.key,
        wave=request.wave,
        server=request.server,
        label=request.label,
        reason=reason,
        critical=request.critical,
        os_kind=request.os_kind,
        source=request.point.source,
        place=request.place,
    )
