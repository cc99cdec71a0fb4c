"""Generated machines: backup servers, jobs, restore points. Their files are in `guests`.

Deterministic by seed. Mount durations are heavy-tailed (lognormal around 150 s, at most
half an hour) and mostly a property of the machine, so that a history of earlier runs helps.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.simulator.files import GuestFile

REPLICAS = "vmReplicaPoints"
BACKUPS = "vmRestorePoints"
AGENTS = "agents/agentRestorePoints"
"""Families of restore points, as paths below /api/."""

MEDIAN_S = 150.0
LONGEST_S = 1800.0

ROLES = ("app", "sql", "web", "file", "dc", "mail", "cache", "build", "erp", "print")
AWKWARD = (
    "Finance & Payroll",
    'the "old" server',
    "mail@branch",
    "büro-süd",
    "it's-legacy",
    "web 01 (test)",
)


@dataclass(slots=True, eq=False)
class BackupServer:
    """A Veeam backup server behind the Enterprise Manager.

    Without a `helper_host` no Linux guest can be mounted; an `exclusive` repository locks
    a machine's files, so that a second mount of it fails while one is open.
    """

    id: str
    name: str
    helper_host: bool = True
    exclusive: bool = False


@dataclass(slots=True, eq=False)
class Machine:
    """A replicated machine. `mount_s` is how long its mounts usually take.

    While the replica is `running` (failed over) or its `job_active`, no mount of it succeeds.
    `files` change the usual tree of its system (None removes a path), `roots` its volumes: for
    Linux names of any kind, `/` included. A `letterless` Windows machine is mounted by a Linux
    server: its volumes have random ids, which `files` need not know. Without `guest_credentials`
    the job knows none for the guest, so that nothing can be written into it unless the request
    brings them. The next `mounts_to_fail` mounts fail, whatever their point. Its job is at work
    for `busy_s` seconds from the first logon to its server on.
    """

    name: str
    backup_server: BackupServer
    job: str
    job_id: str
    os: str
    mount_s: float
    points: list[Point] = field(default_factory=list)
    running: bool = False
    job_active: bool = False
    files: dict[str, GuestFile | None] = field(default_factory=dict)
    roots: tuple[str, ...] | None = None
    guest_credentials: bool = True
    letterless: bool = False
    mounts_to_fail: int = 0
    busy_s: float = 0.0


@dataclass(slots=True, eq=False)
class Point:
    """One restore point. `fails` is the server's message if mounting it fails."""

    id: str
    machine: Machine
    created_at: datetime
    family: str = REPLICAS
    fails: str | None = None
    gone: bool = False
    """Removed by retention: still listed until the next collection."""
    changes: dict[str, GuestFile | None] = field(default_factory=dict)
    """What this point has otherwise than its machine: damaged, missing and added files."""
    built: tuple[Any, Any] | None = field(default=None, repr=False)
    """The point's files as `guests` has put them together, and from what."""

    @property
    def name(self) -> str:
        """`<vm>@<time>`, as the server names points."""
        return f"{self.machine.name}@{self.created_at:%Y-%m-%d %H:%M:%S}"


class Inventory:
    """What one Enterprise Manager knows."""

    def __init__(self, machines: list[Machine]) -> None:
        """Index the machines' points."""
        self.machines = machines
        self.by_id: dict[str, Point] = {}
        self.by_machine: dict[tuple[str, str], list[Point]] = {}
        self.by_job: dict[tuple[str, str], list[Point]] = {}
        for machine in machines:
            for point in machine.points:
                self.add(point)

    def add(self, point: Point) -> None:
        """List one more point."""
        self.by_id[point.id] = point
        machine = point.machine
        self.by_machine.setdefault((point.family, machine.name.casefold()), []).append(point)
        self.by_job.setdefault((point.family, machine.job.casefold()), []).append(point)

    def points(self, family: str) -> Iterator[Point]:
        """Yield every point of a family."""
        return (point for point in self.by_id.values() if point.family == family)

    def machine(self, name: str) -> Machine:
        """Return a machine by name."""
        return next(machine for machine in self.machines if machine.name == name)


def generated(
    seed: int,
    *,
    machines: int = 1000,
    backup_servers: int = 4,
    points: int = 7,
    now: datetime = datetime(2026, 11, 23, 6, 0, tzinfo=UTC),
    prefix: str = "",
    awkward: bool = True,
    families: Sequence[str] = (REPLICAS,),
) -> Inventory:
    """Return an inventory of `machines` with `points` restore points each.

    Points go back from `now`, about one a day. With `awkward`, a few machines have names
    that need quoting and escaping. The machines are of the `families` in turn.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    servers = [
        BackupServer(_guid(rng), f"vbr-{prefix}{number:02}")
        for number in range(1, backup_servers + 1)
    ]
    jobs = [
        (f"{tier} Replication {server.name}", _guid(rng)) for server in servers for tier in TIERS
    ]
    made: list[Machine] = []
    for number in range(machines):
        place = number % backup_servers
        job, job_id = jobs[place * len(TIERS) + (number // backup_servers) % len(TIERS)]
        name = f"{prefix}{ROLES[number % len(ROLES)]}{number:04}"
        if awkward and number >= machines - len(AWKWARD):
            name = f"{prefix}{AWKWARD[number - machines + len(AWKWARD)]}"
        machine = Machine(
            name=name,
            backup_server=servers[place],
            job=job,
            job_id=job_id,
            os="Linux" if number % 4 == 3 else "Windows",
            mount_s=min(LONGEST_S, MEDIAN_S * rng.lognormvariate(0.0, 0.8)),
        )
        start = now - timedelta(minutes=rng.uniform(10, 1400))
        machine.points = [
            Point(
                _guid(rng),
                machine,
                (start - timedelta(days=day)).replace(microsecond=0),
                families[number % len(families)],
            )
            for day in range(points)
        ]
        made.append(machine)
    return Inventory(made)


TIERS = ("Tier 1", "Tier 2", "Branch")


def _guid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
