"""What must be asked of a server before its targets can be expanded, and what it answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.model import BackupServerName, RestorePoint, RestorePointId, ServerName, Source
from orchestrator.plan.settings import RestorePlan, SelectorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryNeeds:
    """The questions to one server, per family of restore points; no name stands twice."""

    points: tuple[tuple[Source, RestorePointId], ...]
    machines: Mapping[Source, tuple[str, ...]]
    jobs: Mapping[Source, tuple[str, ...]]

    @property
    def sources(self) -> frozenset[Source]:
        """The families of restore points that the plan uses on this server."""
        named = frozenset(source for source, _ in self.points)
        return named | frozenset(self.machines) | frozenset(self.jobs)


def inventory_needs(plan: RestorePlan, server: ServerName) -> InventoryNeeds:
    """Return what `plan` must know of `server`, in the order of the plan."""
    found: dict[SelectorKind, dict[Source, dict[str, None]]] = {kind: {} for kind in SelectorKind}
    for entry in plan.entries(server):
        found[entry.kind].setdefault(entry.source, {})[entry.value] = None
    points = found[SelectorKind.ID]
    return InventoryNeeds(
        points=tuple((s, RestorePointId(value)) for s, ids in points.items() for value in ids),
        machines={s: tuple(names) for s, names in found[SelectorKind.VM].items()},
        jobs={s: tuple(names) for s, names in found[SelectorKind.JOB].items()},
    )


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

    def __init__(self, points: Iterable[RestorePoint] = ()) -> None:
        """Take everything that was found, by id, by machine and by job."""
        self._by_id: dict[tuple[Source, RestorePointId], RestorePoint] = {}
        self._by_vm = _Names()
        self._by_job = _Names()
        for point in points:
            if (point.source, point.id) not in self._by_id:
                self._by_id[point.source, point.id] = point
                self._by_vm.add(point.vm, point)
                self._by_job.add(point.job, point)

    def point(self, source: Source, point: RestorePointId) -> RestorePoint | None:
        """Return one point by its id, or None if the server does not list it."""
        return self._by_id.get((source, point))

    def machines(self, source: Source, name: str) -> list[Machine]:
        """Return the machines called `name`, one for each backup server, in a stable order."""
        return _machines(self._by_vm.find(source, name))

    def machines_of_job(self, source: Source, job: str) -> list[Machine]:
        """Return the machines for which `job` made points, in a stable order."""
        return _machines(self._by_job.find(source, job))


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
