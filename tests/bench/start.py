"""What a person waits for: --help, and a plan of 50,000 targets validated, right or wrong."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orchestrator.core.exit_codes import ExitCode
from tests.bench.figures import Figure
from tests.bench.real import Cost, cost_of

REPEATS = 7
COMMAND = (sys.executable, "-m", "orchestrator")
ROWS = 50_000
PAIRS = {
    "a misspelt selector": ("{vm: vm%05d}", "{vmm: vm%05d}"),
    "a wrong value in a section": (
        "{vm: vm%05d, timeouts: {mount: 5m}}",
        "{vm: vm%05d, timeouts: {mount: 5x}}",
    ),
}
"""A right and a wrong target of each kind."""
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
        cost = _validated(Path(temporary), "{vm: vm%05d}", 0)
        ratios = {
            kind: _validated(Path(temporary), wrong, ExitCode.USAGE).cpu_s
            / _validated(Path(temporary), right, 0).cpu_s
            for kind, (right, wrong) in PAIRS.items()
        }
    yield Figure(
        what="validate of 50,000 targets in one file: wall time",
        value=cost.wall_s,
        limit=3,
        unit="s",
    )
    yield Figure(what="… peak memory", value=cost.peak_mb, limit=250, unit="MB", digits=0)
    for kind, ratio in ratios.items():
        yield Figure(what=f"… all with {kind} / right ones, CPU", value=ratio, limit=2)


def _validated(directory: Path, target: str, code: int) -> Cost:
    """Return what it takes to validate a plan of many such targets."""
    plan = directory / "plan.yaml"
    plan.write_text(HEAD + "".join(f"  - {target % number}\n" for number in range(ROWS)))
    return cost_of([*COMMAND, "validate", str(plan)], code=code)
