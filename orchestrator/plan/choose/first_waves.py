"""The waves of a first plan: one for each job that a server's restore points name.

    machines and their jobs ▶ those wanted ▶ each in one wave ▶ `job`, `match` or `vm`

A machine belongs to the job that made its newest point. A wave selects by the job itself where
that means exactly its machines, so that a machine that the job gains tomorrow is selected too.
"""

from __future__ import annotations

import glob
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct, field

from orchestrator.core.model import BackupServerName, RestorePoint, ServerName, Source
from orchestrator.plan.file.naming import names_like
from orchestrator.plan.file.quoting import can_be_written
from orchestrator.plan.file.selectors import SelectorKind

MachineName = tuple[BackupServerName, str]
"""A machine's backup server and its name."""

NO_JOB = ""
"""What stands for the job of a machine whose points name none."""

Askable = Callable[[Source, SelectorKind, str], bool]
"""Whether a server can be asked by a selector with this value."""


class ListedMachines(Struct, frozen=True, kw_only=True):
    """What one server lists of one family: each machine, and each job's newest point of it."""

    server: ServerName
    source: Source
    machines: Mapping[MachineName, Mapping[str, datetime]]

    @property
    def jobs(self) -> frozenset[str]:
        """The names of all jobs."""
        return frozenset(job for jobs in self.machines.values() for job in jobs if job != NO_JOB)

    @property
    def names(self) -> frozenset[str]:
        """The names of all machines."""
        return frozenset(name for _, name in self.machines)


class FirstTarget(Struct, frozen=True, kw_only=True):
    """One entry of a first plan; `machines` is how many it matches."""

    kind: SelectorKind
    value: str
    machines: int
    backup_server: BackupServerName | None = None
    exclude: tuple[str, ...] = ()


class FirstWave(Struct, frozen=True, kw_only=True):
    """One wave of a first plan, named after its `job`."""

    name: str
    server: ServerName
    source: Source
    job: str
    targets: tuple[FirstTarget, ...]

    @property
    def machines(self) -> int:
        """How many machines it has."""
        return sum(target.machines for target in self.targets)


class FirstWaves(Struct, frozen=True, kw_only=True):
    """The waves in the order of the servers and the jobs' names.

    `backup_servers` are those behind which a wave has machines, `left_out` says for every
    machine that no plan can name why.
    """

    waves: tuple[FirstWave, ...]
    backup_servers: Mapping[ServerName, Sequence[BackupServerName]]
    left_out: tuple[str, ...]


class Wanted(Struct, frozen=True, kw_only=True):
    """Globs over the names of jobs and machines; none takes all."""

    jobs: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()


def listed_machines(
    server: ServerName, source: Source, points: Iterable[RestorePoint]
) -> ListedMachines:
    """Return the machines of restore points of one family."""
    machines: dict[MachineName, dict[str, datetime]] = {}
    for point in points:
        jobs = machines.setdefault((point.backup_server, point.vm), {})
        jobs[point.job] = max(point.created_at, jobs.get(point.job, point.created_at))
    return ListedMachines(server=server, source=source, machines=machines)


def first_waves(listings: Sequence[ListedMachines], wanted: Wanted, askable: Askable) -> FirstWaves:
    """Return the waves for what was listed; the same listings give the same waves.

    Globs judge the names of each server on their own, as those of a plan do.
    """
    drafts: list[_Draft] = []
    left_out: list[str] = []
    for listing in listings:
        drafts += _Drafting(listing, wanted, askable, left_out).drafts()
    names = _wave_names(drafts)
    waves = tuple(
        FirstWave(
            name=name,
            server=draft.listing.server,
            source=draft.listing.source,
            job=draft.job,
            targets=draft.targets,
        )
        for name, draft in zip(names, drafts, strict=True)
    )
    behind: dict[ServerName, dict[str, BackupServerName]] = {}
    for draft in drafts:
        known = behind.setdefault(draft.listing.server, {})
        for backup_server, _name in sorted(draft.machines):
            if can_be_written(backup_server):
                known.setdefault(backup_server.casefold(), backup_server)
    return FirstWaves(
        waves=waves,
        backup_servers={server: sorted(known.values()) for server, known in behind.items()},
        left_out=tuple(left_out),
    )


class _Draft(Struct, kw_only=True):
    """A wave to be."""

    listing: ListedMachines
    job: str
    machines: Sequence[MachineName]
    """Those it takes."""
    title: str
    targets: tuple[FirstTarget, ...] = ()


class _Drafting(Struct):
    """How the machines of one server become waves."""

    listing: ListedMachines
    wanted: Wanted
    askable: Askable
    left_out: list[str]
    same_name: Counter[str] = field(default_factory=Counter)

    def drafts(self) -> list[_Draft]:
        self.same_name = Counter(name for _, name in self.listing.machines)
        if self.listing.source is not Source.REPLICA and not self.listing.jobs:
            drafts = self._by_backup_server()
        else:
            drafts = self._by_job()
        for draft in drafts:
            draft.targets = self._targets(draft)
        return [draft for draft in drafts if draft.targets]

    def _by_job(self) -> list[_Draft]:
        """Return a draft for each job that takes a machine; those without a job come last."""
        jobs = _like(self.wanted.jobs, self.listing.jobs)
        names = _like(self.wanted.machines, self.listing.names)
        taken: dict[str, list[MachineName]] = {}
        for machine, points in self.listing.machines.items():
            may_be = [job for job in points if job in jobs]
            if not may_be and not self.wanted.jobs and NO_JOB in points:
                may_be = [NO_JOB]
            if may_be and machine[1] in names:
                taken.setdefault(max(may_be, key=lambda job: (points[job], job)), []).append(
                    machine
                )
        in_order = sorted(taken, key=lambda job: (job == NO_JOB, job.casefold(), job))
        return [
            _Draft(
                listing=self.listing,
                job=job,
                machines=sorted(taken[job]),
                title=job if job != NO_JOB else "no-job",
            )
            for job in in_order
        ]

    def _by_backup_server(self) -> list[_Draft]:
        """Return a draft for each backup server: the points of this family name no job."""
        names = _like(self.wanted.machines, self.listing.names)
        behind: dict[BackupServerName, list[MachineName]] = {}
        for machine in sorted(self.listing.machines) if not self.wanted.jobs else ():
            if machine[1] in names:
                behind.setdefault(machine[0], []).append(machine)
        return [
            _Draft(listing=self.listing, job=NO_JOB, machines=machines, title=backup_server)
            for backup_server, machines in behind.items()
        ]

    def _targets(self, draft: _Draft) -> tuple[FirstTarget, ...]:
        """Return entries that match exactly the machines of a draft, the widest that do."""
        if draft.job != NO_JOB:
            by_job = self._job_targets(draft)
        elif self.listing.jobs or self.listing.source is Source.REPLICA:
            by_job = None
        else:
            by_job = self._match_target(draft)
        return by_job if by_job is not None else tuple(self._vm_targets(draft))

    def _job_targets(self, draft: _Draft) -> tuple[FirstTarget, ...] | None:
        """Return a `job` entry for each backup server, or None where machines must be named.

        What another job has made a newer point of is excluded.
        """
        listing, job, source = self.listing, draft.job, self.listing.source
        is_usable = source is Source.REPLICA and can_be_written(job)
        if not is_usable or not self.askable(source, SelectorKind.JOB, job):
            return None
        if self.wanted.machines:
            names = _like(self.wanted.machines, listing.names)
            if any(
                job in jobs and name not in names for (_, name), jobs in listing.machines.items()
            ):
                return None
        taken = frozenset(draft.machines)
        of_job: dict[BackupServerName, list[MachineName]] = {}
        for machine, jobs in listing.machines.items():
            if job in jobs:
                of_job.setdefault(machine[0], []).append(machine)
        targets = []
        for backup_server in sorted(of_job):
            machines = of_job[backup_server]
            rest = sorted(name for behind, name in machines if (behind, name) not in taken)
            needed = backup_server if len(of_job) > 1 else None
            if not all(map(can_be_written, [*rest, *([needed] if needed is not None else [])])):
                return None
            if len(rest) < len(machines):
                targets.append(
                    FirstTarget(
                        kind=SelectorKind.JOB,
                        value=job,
                        machines=len(machines) - len(rest),
                        backup_server=needed,
                        exclude=tuple(map(glob.escape, rest)),
                    )
                )
        return tuple(targets)

    def _match_target(self, draft: _Draft) -> tuple[FirstTarget, ...] | None:
        """Return the entry for all machines behind one backup server, or None."""
        backup_server = draft.machines[0][0]
        all_of_it = sum(behind == backup_server for behind, _ in self.listing.machines)
        if len(draft.machines) < all_of_it or not can_be_written(backup_server):
            return None
        target = FirstTarget(
            kind=SelectorKind.MATCH,
            value="*",
            machines=all_of_it,
            backup_server=backup_server,
        )
        return (target,)

    def _vm_targets(self, draft: _Draft) -> Iterable[FirstTarget]:
        """Yield an entry for each machine; one that no plan can name is noted as left out."""
        for backup_server, name in draft.machines:
            needed = backup_server if self.same_name[name] > 1 else None
            if not can_be_written(name) or (needed is not None and not can_be_written(needed)):
                why = "a plan cannot hold its name"
            elif not self.askable(self.listing.source, SelectorKind.VM, name):
                why = "its name cannot be asked for"
            else:
                yield FirstTarget(
                    kind=SelectorKind.VM, value=name, machines=1, backup_server=needed
                )
                continue
            self.left_out.append(f"{self.listing.server}: {name!r}: {why}")


def _like(globs: Iterable[str], names: frozenset[str]) -> frozenset[str]:
    """Return the names that one of the globs matches, and all where there is no glob."""
    globs = tuple(globs)
    return frozenset().union(*(names_like(each, names) for each in globs)) if globs else names


# --- names -------------------------------------------------------------------------------------

LONGEST = 64


def plan_name(text: str, otherwise: str) -> str:
    """Return `text` as a plan's names are made: letters, digits, `.`, `_` and `-`, at most 64."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-._")
    return words[:LONGEST].rstrip("-._") or otherwise


def _wave_names(drafts: Sequence[_Draft]) -> list[str]:
    """Return a name for each wave; where several servers have one, the server's is added."""
    bases = [plan_name(draft.title, "job") for draft in drafts]
    servers: dict[str, set[ServerName]] = {}
    for base, draft in zip(bases, drafts, strict=True):
        servers.setdefault(base.casefold(), set()).add(draft.listing.server)
    wished = [
        base if len(servers[base.casefold()]) == 1 else with_end(base, f"-{draft.listing.server}")
        for base, draft in zip(bases, drafts, strict=True)
    ]
    return unique(wished)


def unique(wished: Sequence[str]) -> list[str]:
    """Return the names in their order; one that is there already gets the next free number."""
    taken: set[str] = set()
    names = []
    for wish in wished:
        name, number = wish, 2
        while name.casefold() in taken:
            name, number = with_end(wish, f"-{number}"), number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def with_end(name: str, end: str) -> str:
    """Return a name that ends with `end`, cut before it where it would be too long."""
    return name[: LONGEST - len(end)] + end[:LONGEST]
