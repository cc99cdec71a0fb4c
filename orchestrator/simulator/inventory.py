"""Generated machines: backup servers, replication jobs, restore points, guest file trees.

Deterministic by seed. Mount durations are heavy-tailed (lognormal around 150 s, at most
half an hour) and mostly a property of the machine, so that a history of earlier runs helps.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

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


@dataclass(slots=True, eq=False)
class Point:
    """One restore point. `fails` is the server's message if mounting it fails."""

    id: str
    machine: Machine
    created_at: datetime
    family: str = "vmReplicaPoints"
    fails: str | None = None
    gone: bool = False
    """Removed by retention: still listed until the next collection."""

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
) -> Inventory:
    """Return an inventory of `machines` with `points` restore points each.

    Points go back from `now`, about one a day. With `awkward`, a few machines have names
    that need quoting and escaping.
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
            Point(_guid(rng), machine, (start - timedelta(days=day)).replace(microsecond=0))
            for day in range(points)
        ]
        made.append(machine)
    return Inventory(made)


TIERS = ("Tier 1", "Tier 2", "Branch")


def _guid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


# --- guest file systems ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GuestEntry:
    """A file or directory of a guest; `size` None for a directory."""

    path: str
    name: str
    size: int | None
    modified_at: datetime


def roots(machine: Machine) -> tuple[str, ...]:
    """Return the volume roots of a mounted guest. [INFERRED] for Linux: no example is public."""
    return ("Volume$0:", "C:", "E:") if machine.os == "Windows" else ("root",)


def listing(point: Point, path: str) -> list[GuestEntry] | None:
    """Return a directory's entries, or None if there is no such directory.

    Made on the spot and the same every time; Windows paths are matched in any case.
    """
    tree = WINDOWS if point.machine.os == "Windows" else LINUX
    wanted = path.strip("/")
    key = wanted.casefold() if point.machine.os == "Windows" else wanted
    children = tree.get(key)
    if children is None:
        return None
    at = point.created_at - timedelta(hours=1)
    return [
        GuestEntry(f"{wanted}/{name}", name, size, at - timedelta(minutes=place))
        for place, (name, size) in enumerate(children)
    ]


def entry_at(point: Point, path: str) -> GuestEntry | None:
    """Return one file or directory below a volume root, or None."""
    above, _, name = path.strip("/").rpartition("/")
    same = str.casefold if point.machine.os == "Windows" else str
    entries = listing(point, above) or []
    return next((entry for entry in entries if same(entry.name) == same(name)), None)


WINDOWS: dict[str, list[tuple[str, int | None]]] = {
    "volume$0:": [("Boot", None), ("bootmgr", 413_738)],
    "volume$0:/boot": [("BCD", 32_768)],
    "c:": [("Program Files", None), ("Users", None), ("Windows", None), ("pagefile.sys", 2**33)],
    "c:/program files": [],
    "c:/users": [("Public", None)],
    "c:/users/public": [],
    "c:/windows": [("System32", None), ("notepad.exe", 201_216)],
    "c:/windows/system32": [("config", None), ("ntdll.dll", 2_031_888)],
    "c:/windows/system32/config": [("SYSTEM", 15_728_640), ("SAM", 65_536), ("SOFTWARE", 2**26)],
    "e:": [("Data", None), ("Finance 2026", None), ("100% real", None)],
    "e:/data": [(f"table-{number:04}.mdf", 1_048_576 * (number + 1)) for number in range(250)],
    "e:/finance 2026": [("ledger & notes.xlsx", 48_213), ("desktop.ini", 174), ("Archive", None)],
    "e:/finance 2026/archive": [],
    "e:/100% real": [("a#b?.txt", 12)],
}
LINUX: dict[str, list[tuple[str, int | None]]] = {
    "root": [("etc", None), ("srv", None), ("var", None)],
    "root/etc": [("nginx", None), ("hostname", 9), ("fstab", 412)],
    "root/etc/nginx": [("nginx.conf", 2_412)],
    "root/srv": [("www", None)],
    "root/srv/www": [("BUILD_ID", 40), ("index.html", 9_120)],
    "root/var": [("log", None)],
    "root/var/log": [(f"syslog.{number}", 1_000_000 + number) for number in range(120)],
}
