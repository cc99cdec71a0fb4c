"""A first plan over thousands of machines: how long it takes, and how much memory."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.simulator.process import ACCOUNT, PASSWORD_VARIABLE
from tests.bench.drills import Shape
from tests.bench.figures import Figure
from tests.bench.real import cost_of, job
from tests.bench.start import COMMAND


def figures() -> Iterator[Figure]:
    """Measure `init` over three servers, each in a process of its own."""
    with job(Shape(servers=3, machines=2000)) as (running, servers, directory):
        argv = [*COMMAND, "init", *(server.url for server in servers.values())]
        argv += ["--username", ACCOUNT, "--password-from", f"env:{PASSWORD_VARIABLE}"]
        argv += ["--fingerprint", running.simulation.certificate.fingerprint_sha256]
        cost = cost_of([*argv, "-o", str(directory / "plan.yaml")])
    yield Figure(
        what="init over 3 servers with 6,000 machines: wall time",
        value=cost.wall_s,
        limit=30,
        unit="s",
        digits=1,
    )
    yield Figure(what="… peak memory", value=cost.peak_mb, limit=200, unit="MB", digits=0)
