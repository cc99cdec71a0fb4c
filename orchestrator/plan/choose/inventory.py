"""What must be asked of a server before its targets can be expanded, and what it answered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.core.model import (
    BackupServerName,
    RestorePoint,
    RestorePointId,
    ServerName,
    Source,
)
from orchestrator.core.policy import FUTURE_SLACK, clock_correction
from orchestrator.core.text import counted
from orchestrator.plan.choose.sampling import Draw, rows_left_out
from orchestrator.plan.file.naming import names_like
from orchestrator.plan.file.selectors import SELECTORS, SelectorKind
from orchestrator.plan.file.settings import Entry, RestorePlan

SHOWN_SET_ASIDE = 3
"""Rows that could not be read and are named; the others are counted."""


class Question(Struct, frozen=True):
    """One thing asked of a server: a selector's value, or a whole family of points.

    The value of a MATCH is the backup server whose points are listed, or nothing for all.
    """

    kind: SelectorKind
    source: Source
    value: str


class InventoryNeeds(Struct, frozen=True, kw_only=True):
    """The questions to one server, per family of restore points; no name is listed twice.

    A backup server in `listings` means all points behind it, an empty name all points of
    the family; `queries` are texts to send as a filter.
    """

    points: tuple[tuple[Source, RestorePointId], ...] = ()
    machines: Mapping[Source, tuple[str, ...]] = field(default_factory=dict)
    jobs: Mapping[Source, tuple[str, ...]] = field(default_factory=dict)
    listings: Mapping[Source, tuple[BackupServerName, ...]] = field(default_factory=dict)
    queries: Mapping[Source, tuple[str, ...]] = field(default_factory=dict)
    backup_servers: tuple[BackupServerName, ...] = ()
    """Those that the plan limits: one that no restore point names is looked for by its name."""

    @property
    def sources(self) -> frozenset[Source]:
        """The families of restore points that the plan uses on this server."""
        named = frozenset(source for source, _ in self.points)
        return named.union(self.machines, self.jobs, self.listings, self.queries)


def question(entry: Entry) -> Question:
    """Return what must be asked to know the machines of `entry`."""
    selector = SELECTORS[entry.kind]
    text = selector.text(entry.value, entry.backup_server or "")
    return Question(selector.asked_as, entry.source, text)


def inventory_needs(
    plan: RestorePlan, server: ServerName, draw: Draw | None = None
) -> InventoryNeeds:
    """Return what `plan` must know of `server`, in the order of the plan.

    Not of the rows of a file that a sample leaves out, unless a guard counts them.
    """
    left_out, _notes = rows_left_out(plan, draw) if draw is not None else (frozenset(), ())
    needs = needs_of(
        entry
        for entry in plan.entries(server)
        if id(entry) not in left_out or entry.expect is not None
    )
    return replace(needs, backup_servers=tuple(plan.servers[server].backup_server_mounts))


def needs_of(entries: Iterable[Entry]) -> InventoryNeeds:
    """Return what must be known for these entries of one server, in their order."""
    values: dict[SelectorKind, dict[Source, dict[str, None]]] = {kind: {} for kind in SelectorKind}
    for entry in entries:
        asked = question(entry)
        values[asked.kind].setdefault(asked.source, {})[asked.value] = None
    for names in values[SelectorKind.MATCH].values():
        if "" in names:  # who lists everything need not list any part of it
            names.clear()
            names[""] = None
    points = values[SelectorKind.ID]
    listings = values[SelectorKind.MATCH]
    return InventoryNeeds(
        points=tuple((s, RestorePointId(value)) for s, ids in points.items() for value in ids),
        machines={s: tuple(names) for s, names in values[SelectorKind.VM].items()},
        jobs={s: tuple(names) for s, names in values[SelectorKind.JOB].items()},
        listings={s: tuple(map(BackupServerName, names)) for s, names in listings.items()},
        queries={s: tuple(texts) for s, texts in values[SelectorKind.QUERY].items()},
    )


class Listing(Struct, frozen=True, kw_only=True):
    """What one server answered: points in any order, what questions returned, what it refused.

    `returned` is known of queries and jobs; `refused` holds the reason in words, safe to show,
    `set_aside` says so of every point that could not be read. `clock_offset_s` is the server's
    time minus ours, `after_s` how long after the plan's "now" the server was asked, in seconds.
    """

    points: Sequence[RestorePoint] = ()
    returned: Mapping[Question, Sequence[RestorePointId]] = field(default_factory=dict)
    refused: Mapping[Question, str] = field(default_factory=dict)
    set_aside: Sequence[str] = ()
    clock_offset_s: float | None = None
    backup_servers: frozenset[BackupServerName] = frozenset()
    """Those that the plan limits, that no point here names, and that another point does."""
    after_s: float = 0.0

    def clock(self, now: datetime) -> datetime:
        """Return what the server's clock shows when ours shows `now`."""
        return now + timedelta(seconds=clock_correction(self.clock_offset_s))

    def is_future(self, point: RestorePoint, now: datetime) -> bool:
        """Tell whether a point claims to be made after it was listed, on the server's own clock."""
        slack = timedelta(seconds=self.after_s + FUTURE_SLACK)
        return point.created_at > self.clock(now) + slack

    @property
    def unread(self) -> str | None:
        """How many points were set aside and what the first of them are; None if none was."""
        return set_aside_words("restore point", self.set_aside)


def set_aside_words(thing: str, rows: Collection[str]) -> str | None:
    """Return how many rows could not be read and what the first of them are; None if none."""
    if not rows:
        return None
    shown = "; ".join(list(rows)[:SHOWN_SET_ASIDE])
    more = len(rows) - SHOWN_SET_ASIDE
    rest = f"; and {more} more" if more > 0 else ""
    verb = "was" if len(rows) == 1 else "were"
    return f"{counted(len(rows), thing)} that could not be read {verb} set aside: {shown}{rest}"


class Machine(Struct, frozen=True, kw_only=True):
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
        self.unread = listing.unread
        """What of the listing could not be read, in words; None where all could."""
        self.clock, self.is_future = listing.clock, listing.is_future
        self._returned = listing.returned
        self._refused = listing.refused
        self._by_id: dict[tuple[Source, RestorePointId], RestorePoint] = {}
        self._by_vm = _PointsByName()
        self._by_job = _PointsByName()
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
        unnamed = [p for p in self._points_returned(SelectorKind.JOB, source, job) if not p.job]
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
        return _machines(self._points_returned(SelectorKind.QUERY, source, text))

    def _points_returned(
        self, kind: SelectorKind, source: Source, value: str
    ) -> list[RestorePoint]:
        ids = self._returned.get(Question(kind, source, value), ())
        points = (self._by_id.get((source, id_)) for id_ in dict.fromkeys(ids))
        return [point for point in points if point is not None]


class _PointsByName:
    """Points by a name that the plan wrote and the server may spell in another case.

    The spelling must match; only if nothing has it, upper and lower case count as equal,
    because the server's own comparison may have ignored them.
    """

    def __init__(self) -> None:
        self._points: dict[tuple[Source, str], dict[str, list[RestorePoint]]] = {}

    def add(self, name: str, point: RestorePoint) -> None:
        spellings = self._points.setdefault((point.source, name.casefold()), {})
        spellings.setdefault(name, []).append(point)

    def find(self, source: Source, name: str) -> list[RestorePoint]:
        spellings = self._points.get((source, name.casefold()), {})
        if name in spellings:
            return spellings[name]
        return [point for points in spellings.values() for point in points]


def _machines(points: Iterable[RestorePoint]) -> list[Machine]:
    groups: dict[tuple[str, BackupServerName], list[RestorePoint]] = {}
    for point in points:
        groups.setdefault((point.vm, point.backup_server), []).append(point)
    return [
        Machine(backup_server=backup_server, vm=vm, points=of_machine)
        for (vm, backup_server), of_machine in sorted(groups.items(), key=lambda item: item[0])
    ]
