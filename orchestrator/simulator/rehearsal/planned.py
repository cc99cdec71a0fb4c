"""The machines that a plan names, and those that its jobs, globs and queries would find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

from msgspec import Struct, field, to_builtins

from orchestrator.core.model import OsKind, OsSource, ServerName, Source
from orchestrator.core.proof import PathCheck
from orchestrator.plan.file.naming import names_left_out
from orchestrator.plan.file.selectors import SelectorKind
from orchestrator.plan.file.settings import Entry, RestorePlan
from orchestrator.simulator.inventory import AGENTS, BACKUPS, REPLICAS
from orchestrator.simulator.queries import POINT_FIELDS
from orchestrator.simulator.query import BadQuery, Comparison, Condition, Group, holds, parsed
from orchestrator.simulator.rehearsal.ages import point_times
from orchestrator.simulator.rehearsal.contents import add_files, placed
from orchestrator.simulator.rehearsal.examples import names_like
from orchestrator.simulator.rehearsal.stock import (
    Stock,
    StockMachine,
    StockPoint,
    inventory_of,
    stable_id,
)

FAMILIES = {Source.REPLICA: REPLICAS, Source.BACKUP: BACKUPS, Source.AGENT: AGENTS}
MOUNT_S = 120.0
SEVERAL = 2
JOB = "Rehearsed Replication"


class RehearsedServer(Struct, kw_only=True):
    """What one server of the plan gets.

    `invented` are the machines made for a selector, by what the plan says. `checked` are the
    paths of files that checks name, by folded machine. `not_rehearsed` says what could not be made.
    """

    name: ServerName
    stock: Stock = field(default_factory=Stock)
    invented: dict[str, list[str]] = field(default_factory=dict)
    checked: dict[str, list[str]] = field(default_factory=dict)
    not_rehearsed: list[str] = field(default_factory=list)


def rehearsed(
    plan: RestorePlan, now: datetime, *, guests_ahead_s: float = 0.0
) -> list[RehearsedServer]:
    """Return the servers of a plan with all that it names; points are as old as fits at `now`.

    The guests' clocks are `guests_ahead_s` before those of the servers.
    """
    servers = [_Making(plan, name, now).made() for name in plan.servers]
    for server in servers:
        server.stock.guests_ahead_s = guests_ahead_s
    return servers


class _Making:
    """Makes the machines of one server, entry by entry."""

    def __init__(self, plan: RestorePlan, name: ServerName, now: datetime) -> None:
        self._plan, self._now = plan, now
        self._server = RehearsedServer(name=name)
        self._entries = plan.entries(name)
        self._usual = next(
            iter(plan.servers[name].backup_server_mounts), f"vbr-{name.lower()}-rehearsed"
        )
        self._known: dict[tuple[str, str, str], StockMachine] = {}

    def made(self) -> RehearsedServer:
        # Those that say where they are come first: the others may mean the same machine.
        for entry in sorted(self._entries, key=lambda each: each.backup_server is None):
            if entry.kind in {SelectorKind.VM, SelectorKind.ID}:
                for machine in self._named(entry):
                    self._furnish(machine, entry)
        for entry in self._entries:
            if entry.kind not in {SelectorKind.VM, SelectorKind.ID}:
                for machine in self._found(entry):
                    self._furnish(machine, entry)
        self._add_bystanders()
        return self._server

    # --- machines --------------------------------------------------------------------------

    def _named(self, entry: Entry) -> Iterator[StockMachine]:
        name = entry.value
        if entry.kind is SelectorKind.ID:
            name = entry.label or f"by-id-{entry.value[:8]}"
        behind: list[str] = [entry.backup_server] if entry.backup_server else []
        if not behind:
            family, folded = FAMILIES[entry.source], name.casefold()
            behind = [key[2] for key in self._known if key[:2] == (family, folded)][:1]
            behind = behind or [self._usual]
        if entry.all_backup_servers:
            behind = list(dict.fromkeys([*behind, f"{self._usual}-2"]))
        for number, backup_server in enumerate(behind):
            yield self._machine(entry, name, backup_server, JOB, number)

    def _found(self, entry: Entry) -> Iterator[StockMachine]:
        wanted = {"job": JOB, "behind": entry.backup_server or self._usual, "name": "*"}
        if entry.kind is SelectorKind.JOB:
            wanted["job"] = entry.value
            wanted["name"] = f"{_slug(entry.value)}-*"
        elif entry.kind is SelectorKind.MATCH:
            wanted["name"] = entry.value
        else:
            wanted["name"] = "queried-*"
            try:
                wanted |= _wishes(parsed(entry.value), FAMILIES[entry.source])
            except BadQuery as exc:
                self._server.not_rehearsed.append(f"{entry}: {exc}")
                return
        names = self._names(entry, wanted["name"])
        machines = [
            self._machine(entry, name, wanted["behind"], wanted["job"], number)
            for number, name in enumerate(names)
        ]
        if entry.kind is SelectorKind.QUERY and not self._is_found(entry, machines):
            self._server.not_rehearsed.append(f"{entry}: no machine could be made that it returns")
            for machine in machines:
                self._server.stock.machines.remove(machine)
            return
        self._server.invented[f"{entry.kind} {entry.value!r}"] = names
        yield from machines

    def _names(self, entry: Entry, glob: str) -> list[str]:
        """Return names for the machines of a selector that no other selector means."""
        count = _count(entry)
        others = [
            each.value
            for each in self._entries
            if each.kind is SelectorKind.MATCH and each is not entry
        ]
        taken = {key[1] for key in self._known}
        globs = [glob] if entry.kind is SelectorKind.MATCH else [glob, f"rehearsed-{glob}"]
        names = chain.from_iterable(names_like(each) for each in globs)
        free: list[str] = []
        for name in names:
            if len(free) >= count:
                break
            is_left_out = name.casefold() in taken or names_left_out(entry.exclude, {name})
            if not is_left_out and not any(fnmatchcase(name, other) for other in others):
                free.append(name)
        if len(free) < count:
            found = f"{len(free)} of {count} machines could be named"
            self._server.not_rehearsed.append(f"{entry}: {found}")
        return free

    def _machine(
        self, entry: Entry, name: str, backup_server: str, job: str, number: int
    ) -> StockMachine:
        family = FAMILIES[entry.source]
        key = (family, name.casefold(), backup_server)
        machine = self._known.get(key)
        if machine is None:
            machine = self._known[key] = StockMachine(
                name=name,
                backup_server=backup_server,
                job=job,
                os=self._system(entry, number).value,
                mount_s=MOUNT_S,
            )
            self._server.stock.machines.append(machine)
        self._add_points(machine, entry, family)
        return machine

    def _system(self, entry: Entry, number: int) -> OsKind:
        """Return the system of an entry's machine: where the plan leaves it open, of each some."""
        if entry.os_source is OsSource.PLAN:
            return entry.os_kind
        paths = [
            path
            for name in entry.checks
            for check in self._plan.checks.get(name, ())
            if (path := getattr(check, check.kind, None)) and check.kind != "exec"
        ]
        systems = [
            each
            for each in OsKind
            if any(path.startswith("/") == (each is OsKind.LINUX) for path in paths)
        ]
        return systems[number % len(systems)] if systems else entry.os_kind

    def _is_found(self, entry: Entry, machines: Sequence[StockMachine]) -> bool:
        """Return whether the query of an entry returns a point of each machine."""
        family = FAMILIES[entry.source]
        condition = parsed(entry.value)
        inventory = inventory_of(self._server.name, plain(Stock(machines=list(machines))))
        return all(
            any(holds(condition, point, POINT_FIELDS[family]) for point in machine.points)
            for machine in inventory.machines
        )

    def _add_bystanders(self) -> None:
        """Let there be a machine behind each backup server that the plan limits."""
        used = {each.backup_server.casefold() for each in self._server.stock.machines}
        limited = self._plan.servers[self._server.name].backup_server_mounts
        for name in [each for each in limited if each.casefold() not in used]:
            machine = StockMachine(
                name=f"bystander-{name}",
                backup_server=name,
                job="Bystanders",
                os=OsKind.WINDOWS.value,
                mount_s=MOUNT_S,
            )
            machine.points = [
                StockPoint(id=self._id(machine, self._now), created_at=self._now, family=REPLICAS)
            ]
            self._server.stock.machines.append(machine)

    # --- points and files ------------------------------------------------------------------

    def _add_points(self, machine: StockMachine, entry: Entry, family: str) -> None:
        known = {point.created_at: point for point in machine.points}
        times = list(point_times(entry, self._now))
        if entry.kind is SelectorKind.ID:
            times = [each for each in times if each[1]][:1]
        for created_at, fits in times:
            name = f"{machine.name}@{created_at:%Y-%m-%d %H:%M:%S}"
            fits = fits and not any(fnmatchcase(name, x) for x in entry.point.exclude_points)
            point = known.get(created_at)
            if point is not None and entry.kind is not SelectorKind.ID:
                point.fits = point.fits or fits
                continue
            is_named = entry.kind is SelectorKind.ID
            point_id = entry.value if is_named else self._id(machine, created_at)
            if entry.point.point is not None and fits:
                point_id = entry.point.point
            point = StockPoint(id=point_id, created_at=created_at, family=family, fits=fits)
            machine.points.append(point)
            if entry.point.point is not None:
                return  # exactly that one

    def _id(self, machine: StockMachine, created_at: datetime) -> str:
        place = (self._server.name, machine.backup_server, machine.name)
        return stable_id(*place, machine.job, created_at.isoformat())

    def _furnish(self, machine: StockMachine, entry: Entry) -> None:
        checks = [check for name in entry.checks for check in self._plan.checks.get(name, ())]
        notes = add_files(machine, checks, entry.downloads, self._plan.checks)
        known = self._server.not_rehearsed
        known += [note for note in dict.fromkeys(notes) if note not in known]
        looked_at = self._server.checked.setdefault(machine.name.casefold(), [])
        looked_at += [
            place
            for check in checks
            if isinstance(check, PathCheck) and (place := placed(check.path)) in machine.files
        ]


def plain(stock: Stock) -> dict[str, Any]:
    """Return a stock as plain values, which another process reads."""
    values: dict[str, Any] = to_builtins(stock)
    return values


def _slug(text: str) -> str:
    words = "".join(char if char.isalnum() else "-" for char in text.lower())
    return "-".join(part for part in words.split("-") if part) or "job"


def _count(entry: Entry) -> int:
    """Return how many machines a selector shall find."""
    expect, least = entry.expect, SEVERAL
    if entry.sample is not None:
        least = entry.sample.count + 1
    if expect is not None and expect.min is not None:
        least = max(least, expect.min)
    if expect is not None and expect.max is not None:
        least = min(least, expect.max)
    return least


_FIELDS = {
    "backupservername": "behind",
    "vmdisplayname": "name",
    "computername": "name",
    "replicaname": "job",
    "backupname": "job",
}


def _wishes(condition: Condition | None, family: str) -> dict[str, str]:
    """Return what a machine must be so that a query returns it, as far as that can be read.

    Raises:
        BadQuery: it asks for what no rehearsed machine has.
    """
    if condition is None:
        return {}
    if isinstance(condition, Group):
        members = condition.members if condition.all_of else condition.members[:1]
        wishes: dict[str, str] = {}
        for member in members:
            wishes |= _wishes(member, family)
        return wishes
    assert isinstance(condition, Comparison)  # noqa: S101 - there is nothing else
    if condition.field not in POINT_FIELDS[family]:
        raise BadQuery(f"there is no field {condition.field}")
    if condition.operator == "==" and condition.field in _FIELDS:
        return {_FIELDS[condition.field]: condition.value}
    return {}  # whether it holds all the same is looked at later
