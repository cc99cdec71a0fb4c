"""What a person waits for: --help, and a plan of 50,000 targets validated."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.real import cost_of

REPEATS = 7
COMMAND = (sys.executable, "-m", "orchestrator")
HEAD = """version: 1
name: fifty-thousand
servers:
  hq: {url: 'https://em.example.net:9398', username: u, password: {env: P}}
targets:
"""


def figures() -> Iterator[Figure]:
    """Measure the start of the program, alternating with a bare interpreter."""
    differences = []
    for _ in range(REPEATS):
        bare = cost_of([sys.executable, "-c", "pass"]).wall_s
        differences.append(cost_of([*COMMAND, "--help"]).wall_s - bare)
    yield Figure(
        what="bulk-restore --help, more than a bare Python start (median)",
        value=1000 * sorted(differences)[REPEATS // 2],
        limit=100,
        unit="ms",
        digits=0,
    )
    with tempfile.TemporaryDirectory(prefix="bulk-restore-bench-") as temporary:
        plan = Path(temporary) / "plan.yaml"
        plan.write_text(HEAD + "".join(f"  - vm: vm{n:05}\n" for n in range(50_000)))
        cost = cost_of([*COMMAND, "validate", str(plan)])
    yield Figure(
        what="validate of 50,000 targets in one file: wall time",
        value=cost.wall_s,
        limit=3,
        unit="s",
    )
    yield Figure(what="… peak memory", value=cost.peak_mb, limit=250, unit="MB", digits=0)
