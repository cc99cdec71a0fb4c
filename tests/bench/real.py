"""Real processes over HTTPS: makespan, CPU, memory, requests, and others at the same job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.app.planned_limits import limits_of
from orchestrator.core.model import (
    BackupServerName,
    MountKey,
    MountRequest,
    OsKind,
    RestorePoint,
    RestorePointId,
    ServerName,
    WaveName,
)
from orchestrator.plan.file.loading import load_plan
from orchestrator.simulator.process import ACCOUNT, PASSWORD_VARIABLE, Settings
from orchestrator.simulator.truth import GroundTruth
from tests.bench.drills import Server, Shape, greedy, plan_text
from tests.bench.figures import Figure
from tests.invariants import assert_invariants
from tests.processes import PASSWORD, Servers, served


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one child process took: wall and CPU seconds, peak memory in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One client at one job on fresh servers."""

    cost: Cost
    truth: GroundTruth
    targets: int
    report: dict[str, Any] | None
    greedy_s: float = 0.0

    @property
    def requests(self) -> float:
        """HTTP requests per mount, everything counted."""
        return sum(self.truth.requests.values()) / self.targets

    @property
    def cpu_ms(self) -> float:
        """Client CPU per mount in milliseconds, start of the interpreter included."""
        return 1000 * self.cost.cpu_s / self.targets

    @property
    def bytes_each(self) -> float:
        """Bytes of answers per mount."""
        return self.truth.bytes_sent / self.targets


def cost_of(argv: Sequence[str], *, code: int = 0) -> Cost:
    """Run a process to its end and return what it took; it may say why it ends with `code`.

    Raises:
        subprocess.CalledProcessError: it did not end with `code`.
    """
    with launched(argv, stderr=subprocess.DEVNULL if code else None) as process:
        output = process.communicate()[0]
    if process.returncode != code:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return Cost(**json.loads(output))


def launched(argv: Sequence[str], *, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Start a process, as on a machine where it is installed; it prints its cost at its end."""
    environment = {**os.environ, PASSWORD_VARIABLE: PASSWORD}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles all modules anew
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.launcher", *argv],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


def ours(shape: Shape, *extra: str) -> Run:
    """Let the product do the job; the invariants hold."""
    with job(shape) as (running, servers, directory):
        plan = directory / "plan.yaml"
        plan.write_text(plan_text(shape, servers))
        argv = [sys.executable, "-m", "tests.bench.client", str(plan), str(directory), *extra]
        cost = cost_of(argv)
        truth = running.truth()
        limits = limits_of(load_plan(plan).plan, None)
        report = json.loads((directory / "report" / "report.json").read_text())
        assert_invariants(truth, report, limits)
        best = greedy([_request(target) for target in report["targets"]], limits, truth.mounts)
        return Run(
            cost=cost,
            truth=truth,
            targets=len(report["targets"]),
            report=report,
            greedy_s=best,
        )


def theirs(kind: str, shape: Shape) -> Run:
    """Let one of the naive programs do the job."""
    with job(shape) as (running, servers, directory):
        asked = directory / "job.json"
        work = [
            {
                "url": server.url,
                "username": ACCOUNT,
                "password": PASSWORD,
                "limit": shape.server,
                "machines": list(server.machines),
            }
            for server in servers.values()
        ]
        asked.write_text(json.dumps(work))
        cost = cost_of([sys.executable, "-m", "tests.bench.naive", kind, str(asked)])
        truth = running.truth()
        assert not truth.still_open()
        return Run(cost=cost, truth=truth, targets=len(truth.mounts), report=None)


@contextmanager
def job(shape: Shape, *, apart: bool = True) -> Iterator[tuple[Servers, dict[str, Server], Path]]:
    """Serve what a drill is about, each server `apart` in a process; and give a directory."""
    settings = [
        Settings(
            name=name,
            seed=seed,
            machines=shape.machines,
            backup_servers=shape.backup_servers,
            password=PASSWORD,
            duration_range=shape.seconds,
            awkward=False,
        )
        for seed, name in enumerate(shape.names)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="bulk-restore-bench-") as temporary,
        served(settings, apart=apart) as running,
    ):
        pin = running.simulation.certificate.fingerprint_sha256
        servers = {
            each.name: Server(
                url=running.simulation.urls[each.name],
                tls=f"{{fingerprint_sha256: ['{pin}']}}",
                machines=[(machine.name, machine.os) for machine in each.inventory().machines],
            )
            for each in settings
        }
        yield running, servers, Path(temporary)


def _request(target: dict[str, Any]) -> MountRequest:
    return MountRequest(
        key=MountKey(target["key"]),
        wave=WaveName(target["wave"]),
        server=ServerName(target["server"]),
        label=target["label"],
        point=RestorePoint(
            id=RestorePointId(target["point"]["id"]),
            name=target["point"]["name"],
            vm=target["vm"],
            created_at=datetime.now(UTC),
            backup_server=BackupServerName(target["backup_server"]),
        ),
        os_kind=OsKind.WINDOWS,
    )


TIGHT = Shape(run=30, seconds=(1.0, 6.0))
LARGE = Shape(servers=4, machines=500, server=50, backup_server=16, run=200, seconds=(1.0, 6.0))
LASTING = Shape(servers=4, machines=500, server=50, backup_server=16, run=200, seconds=(9.0, 14.0))
ALL_OPEN = Shape(
    servers=4, machines=500, server=500, backup_server=500, run=2000, seconds=(30.0, 60.0)
)
SMALL = Shape(machines=100, backup_server=12, seconds=(1.0, 6.0))
SMALL_LASTING = replace(SMALL, seconds=(9.0, 14.0))


def figures() -> Iterator[Figure]:
    """Measure the product in real time."""
    tight = ours(TIGHT)
    assert tight.report is not None
    yield Figure(
        what="makespan / perfect greedy, real time, mounts of 1 to 6 s, 3 × 200 targets",
        value=tight.report["run"]["duration_s"] / tight.greedy_s,
        limit=1.05,
        digits=3,
    )
    large = ours(LARGE)
    yield Figure(
        what="HTTP requests per mount, 2,000 targets over 4 servers, 200 in flight, mounts of "
        "1 to 6 s",
        value=large.requests,
        limit=5.0,
    )
    yield Figure(what="… client CPU per target", value=large.cpu_ms, limit=4.0, unit="ms")
    yield Figure(
        what="… peak memory of the client", value=large.cost.peak_mb, limit=100, unit="MB", digits=0
    )
    bare = ours(LARGE, "--no-journal")
    yield Figure(
        what="… wall time with / without the journal",
        value=large.cost.wall_s / bare.cost.wall_s,
        limit=1.02,
    )
    yield Figure(
        what="… CPU with / without the journal",
        value=large.cost.cpu_s / bare.cost.cpu_s,
        limit=1.25,
    )


def pages() -> Iterator[Figure]:
    """Measure what 200 open pages cost a run; half of them never read."""
    alone, watched = ours(LARGE), ours(LARGE, "--pages")
    yield Figure(
        what="wall time with / without 200 pages open, half of them never read, 2,000 targets",
        value=watched.cost.wall_s / alone.cost.wall_s,
        limit=1.02,
        digits=3,
    )
    yield Figure(
        what="… CPU with / without them",
        value=watched.cost.cpu_s / alone.cost.cpu_s,
    )
    yield Figure(
        what="… memory more with them",
        value=watched.cost.peak_mb - alone.cost.peak_mb,
        limit=40,
        unit="MB",
        digits=0,
    )


def growth() -> Iterator[Figure]:
    """Measure whether a mount of a long run costs more than one of a short run."""
    seconds = (2.0, 4.0)
    few = ours(Shape(servers=4, machines=250, server=100, backup_server=30, seconds=seconds))
    many = ours(Shape(servers=4, machines=2500, server=100, backup_server=30, seconds=seconds))
    yield Figure(
        what="client CPU per mount, 10,000 targets / 1,000 targets",
        value=many.cpu_ms / few.cpu_ms,
        limit=1.2,
    )
    yield Figure(
        what="bytes of answers per mount, 10,000 targets / 1,000 targets",
        value=many.bytes_each / few.bytes_each,
        limit=1.2,
    )


def beside_naive() -> Iterator[Figure]:
    """Measure the product and the asyncio script of `naive` at the same job, one after another."""
    for shape, what, limit in (
        (LASTING, "2,000 mounts of 9 to 14 s, 50 slots", 1.1),
        (LARGE, "2,000 mounts of 1 to 6 s, 50 slots", 1.1),
        (SMALL_LASTING, "300 mounts of 9 to 14 s, 12 slots", 1.3),
        (SMALL, "300 mounts of 1 to 6 s, 12 slots", 1.3),
    ):
        run, script = ours(shape), theirs("asyncio", shape)
        yield Figure(
            what=f"client CPU / that of a naive asyncio script, {what}",
            value=run.cost.cpu_s / script.cost.cpu_s,
            limit=limit,
        )
        yield Figure(what="… HTTP requests / its requests", value=run.requests / script.requests)
    run, script = ours(ALL_OPEN), theirs("asyncio", ALL_OPEN)
    yield Figure(
        what="peak memory of the client / that of the script, 2,000 mounts open at once",
        value=run.cost.peak_mb / script.cost.peak_mb,
        limit=0.6,
    )


def comparison() -> str:
    """Return a table of three programs at the same job: 300 mounts, 12 at once per server."""
    shape = SMALL
    lines = [
        "| program | wall | CPU | requests per mount |",
        "| --- | --- | --- | --- |",
    ]
    for name, run in (
        ("bulk-restore", ours(shape)),
        ("asyncio script, semaphore, one poll per task and second", theirs("asyncio", shape)),
        ("requests in a thread pool, the same polls", theirs("threads", shape)),
    ):
        cost = run.cost
        lines.append(f"| {name} | {cost.wall_s:.1f} s | {cost.cpu_s:.1f} s | {run.requests:.1f} |")
    return "\n".join(lines)
