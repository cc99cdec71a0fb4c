"""Which targets a run takes: those of a plan or of a locked plan, narrowed by the command line."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property, partial

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.core.model import (
    MountKey,
    MountRequest,
    OsKind,
    OsSource,
    RestorePoint,
    RestorePointId,
    ServerName,
    Source,
    UnresolvedTarget,
    same_fields,
)
from orchestrator.core.parts import Part
from orchestrator.core.ports.journal import Systems
from orchestrator.plan.choose import expansion as expanding
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.guards import MachineCount, broken_guards, unknown_limits
from orchestrator.plan.choose.inventory import (
    Inventory,
    InventoryNeeds,
    Listing,
    Question,
    inventory_needs,
)
from orchestrator.plan.choose.locked import LockedPlan
from orchestrator.plan.choose.parts import PartOfPlan, locked_part_takes
from orchestrator.plan.choose.sampling import Draw
from orchestrator.plan.file.selectors import SelectorKind
from orchestrator.plan.file.settings import Entry, Expectation, RestorePlan


class Narrowing(Struct, frozen=True, kw_only=True):
    """Globs of --only over key, label and VM; `keys`, where given, are the only ones taken.

    Of those, a run with a `part` takes only what belongs to it: see `parts`.
    """

    only: tuple[str, ...] = ()
    keys: frozenset[str] | None = None
    part: Part | None = None

    def takes(self, target: MountRequest | UnresolvedTarget) -> bool:
        """Tell whether a target is wanted."""
        if self.keys is not None and target.key not in self.keys:
            return False
        if not self.only:
            return True
        names = {target.key, target.label, getattr(target, "vm", target.label)}
        return any(fnmatchcase(name, glob) for glob in self.only for name in names)

    def takes_in_any_case(self, target: UnresolvedTarget) -> bool:
        """Tell whether a target is wanted, however its server spells its name."""
        keys = None if self.keys is None else frozenset(key.casefold() for key in self.keys)
        folded = Narrowing(only=tuple(glob.casefold() for glob in self.only), keys=keys)
        key, label = MountKey(target.key.casefold()), target.label.casefold()
        return folded.takes(replace(target, key=key, label=label))

    def may_take(self, entry: Entry) -> bool:
        """Tell whether a target of an entry may be wanted, before its server has listed anything.

        What only the server can say speaks for it: the machines of a job, the end of a key, the
        spelling in upper and lower case.
        """
        name = entry.label or (entry.value if entry.kind is SelectorKind.VM else "")
        key = f"{entry.wave}/{entry.server}/{name}"
        keys = [each.casefold() for each in self.keys or ()]
        if self.keys is not None and not any(each.startswith(key.casefold()) for each in keys):
            return False
        if not self.only:
            return True
        machine = entry.value if entry.kind is SelectorKind.VM else ""
        if entry.kind is SelectorKind.MATCH:
            machine = re.split(r"[*?\[]", entry.value, maxsplit=1)[0]
        return any(may_begin(part, glob) for glob in self.only for part in (key, name, machine))


def may_begin(text: str, glob: str) -> bool:
    """Tell whether something that begins with `text`, in any spelling, could match `glob`."""
    text, glob = text.casefold(), glob.casefold()
    return any(fnmatchcase(text, glob[:end]) for end in range(len(glob) + 1))


@dataclass(frozen=True)
class PlanSelection:
    """The selectors of a plan; implements `engine.orders.Selection`.

    Ages of restore points are measured back from `now`. Only with `explain` are the points kept
    that were passed over.
    """

    plan: RestorePlan
    narrowing: Narrowing
    now: datetime
    draw: Draw = Draw()
    explain: bool = field(default=False, kw_only=True)

    @property
    def _draw(self) -> Draw:
        """Where the wanted targets are known by their keys, no new sample is drawn."""
        return replace(self.draw, sampling=self.draw.sampling and self.narrowing.keys is None)

    @cached_property
    def _part(self) -> PartOfPlan:
        return PartOfPlan(self.narrowing.part, self.plan)

    def wants(self, server: ServerName) -> bool:
        entries = self.plan.entries(server)
        return self._part.counts_on(entries) or any(
            self.narrowing.may_take(entry) and self._part.may_take(entry) for entry in entries
        )

    def needs(self, server: ServerName) -> InventoryNeeds:
        return inventory_needs(self.plan, server, self._draw)

    def expand(self, listings: Mapping[ServerName, Listing]) -> Expansion:
        inventories = {name: Inventory(listing=listing) for name, listing in listings.items()}
        expand = partial(
            expanding.expand, self.plan, inventories, now=self.now, explain=self.explain
        )
        expansion = expand(draw=self._draw)
        requests = list(filter(self.narrowing.takes, expansion.requests))
        unresolved = list(filter(self.narrowing.takes, expansion.unresolved))
        if self._unlisted_before:
            sampled = expand(draw=self.draw)
            known = {each.key for each in requests} | {each.key for each in unresolved}
            requests += [each for each in sampled.requests if self._was_unlisted(each, known)]
            unresolved += [each for each in sampled.unresolved if self._was_unlisted(each, known)]
        own_requests = tuple(filter(self._part.takes, requests))
        own_unresolved = tuple(filter(self._part.takes, unresolved))
        wanted, own = len(requests) + len(unresolved), len(own_requests) + len(own_unresolved)
        return replace(
            expansion,
            requests=with_known_systems(own_requests, self.draw.systems),
            unresolved=own_unresolved,
            elsewhere=wanted - own,
            broken=(*expansion.broken, *_unknown_limits(self.plan, listings)),
            pending=(),
        )

    def is_elsewhere(self, expansion: Expansion) -> bool:
        return expansion.elsewhere > 0 or any(
            self.narrowing.may_take(entry) and not self._part.may_take(entry)
            for server in self.plan.servers
            if not self.wants(server)
            for entry in self.plan.entries(server)
        )

    @cached_property
    def _unlisted_before(self) -> frozenset[str]:
        """The places of entries whose machines the run that is retried could not list.

        Its keys name a placeholder there, and no machine has that key.
        """
        keys = self.narrowing.keys or ()
        return frozenset(
            target.place
            for server in (self.plan.servers if keys else ())
            for target in expanding.placeholders(self.plan, server, reason="", draw=self._draw)
            if target.key in keys
        )

    def _was_unlisted(
        self, target: MountRequest | UnresolvedTarget, known: Container[MountKey]
    ) -> bool:
        """Tell whether a target is wanted for its entry, and not `known` by its key."""
        wanted = target.place in self._unlisted_before and target.key not in known
        return wanted and replace(self.narrowing, keys=None).takes(target)

    def guarded_with(self, server: ServerName) -> frozenset[ServerName]:
        together = (servers for servers, _ in self._guarded if server in servers)
        return frozenset().union(*together) - {server}

    def broken_together(self, matched: Mapping[ServerName, Mapping[str, int]]) -> tuple[str, ...]:
        counts = [
            MachineCount(
                expect,
                sum(matched[server].get(expect.place, 0) for server in servers & matched.keys()),
                is_complete=servers <= matched.keys(),
            )
            for servers, expect in self._guarded
            if len(servers) > 1
        ]
        return tuple(broken_guards(counts))

    @cached_property
    def _guarded(self) -> tuple[tuple[frozenset[ServerName], Expectation], ...]:
        """The servers of each guard: the rows of one inventory file share theirs."""
        servers: dict[int, tuple[set[ServerName], Expectation]] = {}
        for entry in self.plan.entries():
            if entry.expect is not None:
                servers.setdefault(id(entry.expect), (set(), entry.expect))[0].add(entry.server)
        return tuple((frozenset(names), expect) for names, expect in servers.values())

    def placeholders(self, server: ServerName) -> Sequence[UnresolvedTarget]:
        """Return one target per entry of a server that could not be asked, and may be wanted."""
        targets = expanding.placeholders(
            self.plan, server, reason="its server was not asked", draw=self._draw
        )
        entries = self.plan.entries(server)
        open_ended = {each.place for each in entries if self._may_take_unlisted(each)}
        return [
            target
            for target in targets
            if (target.place in open_ended or self.narrowing.takes_in_any_case(target))
            and self._part.takes(target)
        ]

    def _may_take_unlisted(self, entry: Entry) -> bool:
        """Tell whether a machine that only the server can name may be wanted of an entry."""
        is_named = entry.kind is SelectorKind.VM and not entry.several
        return not is_named and self.narrowing.may_take(entry)


class LockedSelection:
    """The targets of a locked plan, exactly as they were saved, as far as they are still there.

    The servers are asked whether they still list the locked points: retention may have
    removed one since, and then that is said before anything is mounted.
    """

    def __init__(
        self,
        locked: LockedPlan,
        narrowing: Narrowing,
        now: datetime | None = None,
        systems: Systems | None = None,
    ) -> None:
        """`narrowing` leaves out what the command line does not want.

        With `now`, points that claim to be made later are noted. `systems` are those that were
        found out since, too.
        """
        self._now, self._systems = now, systems
        self._plan = locked.plan
        self._locked = locked
        requests = list(filter(narrowing.takes, locked.requests))
        unresolved = list(filter(narrowing.takes, locked.unresolved))
        belongs = partial(locked_part_takes, narrowing.part)
        self._requests = list(filter(belongs, requests))
        self._unresolved = list(filter(belongs, unresolved))
        wanted, own = len(requests) + len(unresolved), len(self._requests) + len(self._unresolved)
        self._elsewhere = wanted - own

    def wants(self, server: ServerName) -> bool:
        targets: list[MountRequest | UnresolvedTarget] = [*self._requests, *self._unresolved]
        return any(each.server == server for each in targets)

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
            backup_servers=tuple(self._plan.servers[server].backup_server_mounts),
        )

    def expand(self, listings: Mapping[ServerName, Listing]) -> Expansion:
        """Return the saved targets of the servers that answered; those gone have no point."""
        requests: list[MountRequest] = []
        unresolved = [each for each in self._unresolved if each.server in listings]
        inventories = {name: Inventory(listing=listing) for name, listing in listings.items()}
        for request in self._requests:
            inventory = inventories.get(request.server)
            if inventory is None:
                continue
            why = self._why_gone(request, inventory)
            if why is None:
                requests.append(_with_what_is_there(request, inventory))
            else:
                unresolved.append(same_fields(UnresolvedTarget, request, reason=why))
        notes = expanding.unread_notes(inventories)
        if self._now is not None:
            notes += expanding.future_notes(requests, inventories, self._now)
        return Expansion(
            requests=with_known_systems(requests, self._systems),
            unresolved=tuple(unresolved),
            broken=tuple(_unknown_limits(self._plan, listings)),
            notes=tuple(notes),
            elsewhere=self._elsewhere,
        )

    def is_elsewhere(self, expansion: Expansion) -> bool:
        return expansion.elsewhere > 0

    def gone(self, listings: Mapping[ServerName, Listing]) -> Sequence[UnresolvedTarget]:
        """Return the targets whose locked points are not there any more, and why."""
        without = {each.key for each in self._unresolved}
        return [each for each in self.expand(listings).unresolved if each.key not in without]

    def guarded_with(self, server: ServerName) -> frozenset[ServerName]:
        """Return none: the guards were judged when the plan was locked."""
        return frozenset()

    def broken_together(self, matched: Mapping[ServerName, Mapping[str, int]]) -> tuple[str, ...]:
        """Return none: the guards were judged when the plan was locked."""
        return ()

    def placeholders(self, server: ServerName) -> Sequence[UnresolvedTarget]:
        """Return the saved targets of a server that does not answer."""
        pointless = [each for each in self._unresolved if each.server == server]
        return pointless + [
            same_fields(UnresolvedTarget, each, reason="its server was not asked")
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
        return self._locked.why_gone(point)


def with_known_systems(
    requests: Iterable[MountRequest], systems: Systems | None
) -> tuple[MountRequest, ...]:
    """Return requests whose plan leaves the system open with what earlier runs know of it."""
    return tuple(
        request
        if known is None
        else replace(request, os_kind=known, os_source=OsSource.EARLIER_RUN)
        for request in requests
        for known in (_known_system(request, systems),)
    )


def _known_system(request: MountRequest, systems: Systems | None) -> OsKind | None:
    if systems is None or request.os_source is OsSource.PLAN:
        return None
    return systems.known(request.server, request.vm, request.backup_server)


def _unknown_limits(plan: RestorePlan, listings: Mapping[ServerName, Listing]) -> Iterator[str]:
    """Yield a sentence for every limit of a backup server that no restore point names."""
    for name, listing in listings.items():
        yield from unknown_limits(name, plan.servers[name].backup_server_mounts, listing)


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
