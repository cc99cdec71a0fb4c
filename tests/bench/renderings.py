"""What the reports of 5,000 targets weigh, and what it takes to make them from the journal."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from orchestrator.core.events import CheckMade, Event
from orchestrator.core.proof import CheckOutcome
from orchestrator.journal import State
from orchestrator.report import as_html
from orchestrator.report.summary import summarize
from tests.bench.figures import Figure
from tests.bench.real import cost_of
from tests.report.builders import WAVES, Fate, life
from tests.report.history.runs import beginning, keep

TARGETS, SLOTS, CHECKS = 5000, 240, 3
SERVERS = ("hq", "dr", "branch", "lab")
WORDS = "The server says at some length why it could not mount this replica's restore point."
FATES = [Fate.VERIFIED] * 93 + [Fate.TASK_FAILED] * 4 + [Fate.REFUTED, Fate.SKIPPED, Fate.VANISHED]


def _life(number: int) -> Iterator[Event]:
    """Yield what happens to one target, later than to those that had its slot before."""
    begun_at = number // SLOTS * 60.0
    events = life(
        f"machine{number:04}",
        FATES[number % len(FATES)],
        wave=WAVES[number * len(WAVES) // TARGETS],
        server=SERVERS[number % len(SERVERS)],
        words=WORDS,
    )
    for event in events:
        later = replace(event, at=event.at + begun_at) if event.at else event
        for check in range(CHECKS if isinstance(event, CheckMade) else 1):
            yield _another(later, check) if isinstance(later, CheckMade) else later


def _another(made: CheckMade, number: int) -> CheckMade:
    outcome = CheckOutcome(
        name="boot",
        path=f"D:\\Data\\payments-{number}.mdf",
        expected="min_size 5GiB, modified_within 6h",
        observed="5.2 GiB, 2 h 10 min old",
        passed=True,
    )
    return replace(made, outcome=outcome)


def figures() -> Iterator[Figure]:
    """Measure the command that makes every rendering and its evidence, and the page alone."""
    with tempfile.TemporaryDirectory(prefix="bulk-restore-bench-") as temporary:
        state, reports = Path(temporary, "state"), Path(temporary, "reports")
        lives = [list(_life(number)) for number in range(TARGETS)]
        run = keep(state, beginning(1, servers=SERVERS), lives, exit_code=3, seconds=1400.0)
        command = [sys.executable, "-m", "orchestrator", "report", run, "--state", str(state)]
        cost = cost_of([*command, "--report", str(reports)])
        sizes = {each.name: each.stat().st_size / 1e6 for each in reports.iterdir()}
        report = summarize(State(state).replay(run))
    began = time.perf_counter()
    as_html.render(report)
    page_s = time.perf_counter() - began
    yield Figure(
        what=f"reports of {TARGETS:,} targets with {CHECKS} checks each: report.html",
        value=sizes["report.html"],
        limit=2,
        unit="MB",
    )
    yield Figure(what="… rendered in", value=page_s, limit=1, unit="s")
    yield Figure(what="… report.json", value=sizes["report.json"], limit=25, unit="MB")
    yield Figure(
        what="… every rendering and its evidence, from the journal",
        value=cost.wall_s,
        limit=5,
        unit="s",
    )
    yield Figure(what="… peak memory", value=cost.peak_mb, limit=300, unit="MB", digits=0)
