"""What must be asked of a server before its targets can be expanded, and what it answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.model import BackupServerName, RestorePoint, RestorePointId, ServerName, Source
from orchestrator.plan.naming import names_like
from orchestrator.plan.sampling import Draw, rows_left_out
from orchestrator.plan.settings import Entry, RestorePlan, SelectorKind


@dataclass(frozen=True, slots=True)
class Question:
    """One thing asked of a server: a selector's value, or a whole family of points.

    The value of a MATCH is the backup server whose points are listed, or nothing for all.
    """

    kind: SelectorKind
    source: Source
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryNeeds:
    """The questions to one server, per family of restore points; no name stands twice.

    A backup server in `listings` stands for all points behind it, nothing for all points of
    the family; `queries` are texts to send as a filter.
    """

    points: tuple[tuple[Source, RestorePointId], ...] = ()
    machines: Mapping[Source, tuple[str, ...]] = field(default_factory=dict)
    jobs: Mapping[Source, tuple[str, ...]] = field(default_factory=dict)
    listings: Mapping[Source, tuple[BackupServerName, ...]] = field(default_factory=dict)
    queries: Mapping[Source, tuple[str, ...]] = field(default_factory=dict)

    @property
    def sources(self) -> frozenset[Source]:
        """The families of restore points that the plan uses on this server."""
        named = frozenset(source for source, _ in self.points)
        return named.union(self.machines, self.jobs, self.listings, self.queries)


def question(entry: Entry) -> Question:
    """Return what must be asked to know the machines of `entry`."""
    value = entry.value
    if entry.kind is SelectorKind.MATCH:
        value = entry.backup_server or ""
    return Question(entry.kind, entry.source, value)


def inventory_needs(
    plan: RestorePlan, server: ServerName, draw: Draw | None = None
) -> InventoryNeeds:
    """Return what `plan` must know of `server`, in the order of the plan.

    Not of the rows of a file that a sample leaves out, unless a guard counts them.
    """
    left_out, _notes = rows_left_out(plan, draw) if draw is not None else (frozenset(), ())
    return needs_of(
        entry
        for entry in plan.entries(server)
        if id(entry) not in left_out or entry.expect is not None
    )


def needs_of(entries: Iterable[Entry]) -> InventoryNeeds:
    """Return what must be known for these entries of one server, in their order."""
    found: dict[SelectorKind, dict[Source, dict[str, None]]] = {kind: {} for kind in SelectorKind}
    for entry in entries:
        asked = question(entry)
        found[asked.kind].setdefault(asked.source, {})[asked.value] = None
    for names in found[SelectorKind.MATCH].values():
        if "" in names:  # who lists everything need not list any part of it
            names.clear()
            names[""] = None
    points = found[SelectorKind.ID]
    listings = found[SelectorKind.MATCH]
    return InventoryNeeds(
        points=tuple((s, RestorePointId(value)) for s, ids in points.items() for value in ids),
        machines={s: tuple(names) for s, names in found[SelectorKind.VM].items()},
        jobs={s: tuple(names) for s, names in found[SelectorKind.JOB].items()},
        listings={s: tuple(map(BackupServerName, names)) for s, names in listings.items()},
        queries={s: tuple(texts) for s, texts in found[SelectorKind.QUERY].items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What one server answered: points in any order, what questions returned, what it refused.

    `returned` is known of queries and jobs; `refused` holds the reason in words, safe to show.
    """

    points: Sequence[RestorePoint] = ()
    returned: Mapping[Question, Sequence[RestorePointId]] = field(default_factory=dict)
    refused: Mapping[Question, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine behind one backup server, with the restore points that were found."""

    backup_server: BackupServerName
    vm: str
    points: Sequence[RestorePoint]


class Inventory:
    """The restore points that one server listed, grouped for looking them up.

    Pages of a long list are no snapshot, so a point may arrive twice: it counts once. The
    points of a job are those whose `job` names it.
    """

    def __init__(self, points: Iterable[RestorePoint] = (), listing: Listing | None = None) -> None:
        """Take everything that was found: `points`, or a whole `listing`."""
        listing = listing or Listing(points=tuple(points))
        self._returned = listing.returned
        self._refused = listing.refused
        self._by_id: dict[tuple[Source, RestorePointId], RestorePoint] = {}
        self._by_vm = _Names()
        self._by_job = _Names()
        for point in listing.points:
            if (point.source, point.id) not in self._by_id:
                self._by_id[point.source, point.id] = point
                self._by_vm.add(point.vm, point)
                self._by_job.add(point.job, point)

    def point(self, source: Source, point: RestorePointId) -> RestorePoint | None:
        """Return one point by its id, or None if the server does not list it."""
        return self._by_id.get((source, point))

    def refusal(self, asked: Question) -> str | None:
        """Return why the server did not answer a question, or None where it did.

        A listing of one backup server's points is part of a listing of all.
        """
        everything = Question(asked.kind, asked.source, "")
        if asked not in self._refused and asked.kind is SelectorKind.MATCH:
            return self._refused.get(everything)
        return self._refused.get(asked)

    def machines(self, source: Source, name: str) -> list[Machine]:
        """Return the machines called `name`, one for each backup server, in a stable order."""
        return _machines(self._by_vm.find(source, name))

    def machines_of_job(self, source: Source, job: str) -> list[Machine]:
        """Return the machines for which `job` made points, in a stable order.

        Where points do not name their job, as those of agents, what the server returned for
        it counts.
        """
        unnamed = [p for p in self._found_for(SelectorKind.JOB, source, job) if not p.job]
        return _machines([*self._by_job.find(source, job), *unnamed])

    def machines_like(
        self, source: Source, glob: str, backup_server: BackupServerName | None = None
    ) -> list[Machine]:
        """Return the machines whose names match `glob`, in a stable order.

        Of one backup server only, where it is named: also the spelling is then judged there.
        """
        points = [
            point
            for point in self._by_id.values()
            if point.source is source and backup_server in (None, point.backup_server)
        ]
        names = names_like(glob, {point.vm for point in points})
        return _machines(point for point in points if point.vm in names)

    def machines_returned(self, source: Source, text: str) -> list[Machine]:
        """Return the machines of the points that a query returned, with these points only."""
        return _machines(self._found_for(SelectorKind.QUERY, source, text))

    def _found_for(self, kind: SelectorKind, source: Source, value: str) -> list[RestorePoint]:
        ids = self._returned.get(Question(kind, source, value), ())
        found = (self._by_id.get((source, id_)) for id_ in dict.fromkeys(ids))
        return [point for point in found if point is not None]


class _Names:
    """Points by a name that the plan wrote and the server may spell in another case.

    The spelling must match; only if nothing has it, upper and lower case count as equal,
    because the server's own comparison may have ignored them.
    """

    def __init__(self) -> None:
        self._points: dict[tuple[Source, str], list[RestorePoint]] = {}
        self._spellings: dict[tuple[Source, str], list[str]] = {}

    def add(self, name: str, point: RestorePoint) -> None:
        found = self._points.get((point.source, name))
        if found is None:
            found = self._points[point.source, name] = []
            self._spellings.setdefault((point.source, name.casefold()), []).append(name)
        found.append(point)

    def find(self, source: Source, name: str) -> list[RestorePoint]:
        exact = self._points.get((source, name))
        if exact is not None:
            return exact
        spellings = self._spellings.get((source, name.casefold()), ())
        return [point for name in spellings for point in self._points[source, name]]


def _machines(points: Iterable[RestorePoint]) -> list[Machine]:
    groups: dict[tuple[str, BackupServerName], list[RestorePoint]] = {}
    for point in points:
        groups.setdefault((point.vm, point.backup_server), []).append(point)
    return [
        Machine(backup_server=backup_server, vm=vm, points=found)
        for (vm, backup_server), found in sorted(groups.items(), key=lambda item: item[0])
    ]
