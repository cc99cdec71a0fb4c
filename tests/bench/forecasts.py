"""How good forecasts are: after five drills in virtual time, the sixth was forecast."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from orchestrator.app.forecasting.asking import Targets, Wanted, answer
from orchestrator.core.model import ServerName, WaveFacts
from orchestrator.engine.forecast.outlook import Forecast, Job, Range, forecast
from orchestrator.engine.limits import Limits
from orchestrator.journal import State
from orchestrator.report.values import ForecastReport
from tests.app.forecasting.recorded import first, life, locked
from tests.bench.drills import Shape
from tests.bench.figures import Figure
from tests.bench.schedule import heavy_tailed, request
from tests.bench.virtual import Answers, drills
from tests.engine.forecast.past import Past
from tests.journal.sample import written
from tests.plan.builders import point

HISTORY = 5
SEEDS = range(5)

ARRANGEMENTS = {
    "one server": Shape(servers=1, machines=60),
    "three servers": Shape(machines=30, run=None),
    "the run's limit": Shape(machines=30, run=10),
    "the server's limit": Shape(servers=2, machines=40, server=6, backup_server=6),
    "the backup server's limit": Shape(servers=2, machines=40, backup_servers=2, backup_server=3),
    "one at a time": Shape(servers=1, machines=15, run=1),
    "more room than targets": Shape(servers=2, machines=20, server=50, backup_server=50),
    "three waves": Shape(servers=2, machines=45, waves=3),
    "mounts of one length": Shape(servers=2, machines=40, seconds=(55.0, 65.0)),
    "mounts of any length": Shape(servers=2, machines=40, seconds=(10.0, 600.0)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was forecast, and the seconds that the run took."""

    expected: Range
    took_s: float
    recorded: ForecastReport | None
    """What the run itself expected when it began."""

    @property
    def error(self) -> float:
        """How far the forecast was off, as a fraction of what the run took."""
        return abs(self.expected.about_s - self.took_s) / self.took_s

    @property
    def is_in_range(self) -> bool:
        """Whether the run ended within the range."""
        return self.expected.low_s <= self.took_s <= self.expected.high_s


def compared(shape: Shape, seed: int, latency_s: float = 0.02) -> Compared:
    """Drill five times, forecast, and drill once more; each time the mounts take another time."""
    runs = [Answers(latency_s=latency_s, seed=seed, run=number) for number in range(HISTORY + 1)]
    with tempfile.TemporaryDirectory(prefix="bulk-restore-bench-") as temporary:
        directory = Path(temporary)
        before = drills(shape, runs[:HISTORY], directory)[-1]
        targets = Targets(requests=list(before.ear.requests.values()), unresolved=())
        found = answer(before.loaded, targets, State(directory / "state"), Wanted())
        (after,) = drills(shape, runs[HISTORY:], directory)
    assert found.forecast.without_history == 0
    recorded = after.report.run.forecast
    return Compared(expected=found.forecast.makespan, took_s=after.took_s, recorded=recorded)


def large(targets: int = 5000) -> tuple[float, Forecast]:
    """Return the CPU seconds of a forecast with five runs of history, and the forecast."""
    rng = random.Random(1)
    requests = [request(n, f"em{n % 4}", f"em{n % 4}-{n // 4 % 5}") for n in range(targets)]
    past = Past({each.vm: heavy_tailed(rng, HISTORY) for each in requests})
    servers = {ServerName(f"em{n}"): 50 for n in range(4)}
    job = Job(
        requests=requests,
        waves=[WaveFacts(name=requests[0].wave)],
        limits=Limits(run=150, servers=servers, backup_server_default=16),
    )
    began = time.process_time()
    found = forecast(job, past)
    return time.process_time() - began, found


def planned_and_recorded(directory: Path, targets: int = 5000) -> list[str | Path]:
    """Write a locked plan over 20 backup servers and five runs of it; return the arguments."""
    names = [f"vm{number:04}" for number in range(targets)]
    body = "".join(f"  - {{vm: {name}, server: hq}}\n" for name in names)
    points = [point(name, behind=f"vbr-{number % 20:02}") for number, name in enumerate(names)]
    plan = locked(directory, f"limits: {{mounts: 150}}\ntargets:\n{body}", points)
    state, rng = State(directory / "state"), random.Random(1)
    for number in range(HISTORY):
        seconds = heavy_tailed(rng, targets)
        lives = [life(name, each) for name, each in zip(names, seconds, strict=True)]
        events = sorted((event for each in lives for event in each), key=lambda event: event.at)
        anyio.run(written, state, events, first(number))
    return ["forecast", plan, "--state", state.directory]


def commanded(arguments: Sequence[str | Path]) -> float:
    """Return the seconds that the command takes, with its start: the best of three."""

    def once() -> float:
        began = time.perf_counter()
        command = [sys.executable, "-m", "orchestrator", *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    return min(once() for _ in range(3))


def figures() -> Iterator[Figure]:
    """Measure the errors over all arrangements and seeds, and the time that a large one takes."""
    all_of_them = [compared(shape, seed) for shape in ARRANGEMENTS.values() for seed in SEEDS]
    errors = [each.error for each in all_of_them]
    yield Figure(
        what="forecast beside the run that it forecast, virtual time, 5 runs of history, 10 "
        "arrangements × 5 seeds: error, median",
        value=100 * statistics.median(errors),
        limit=10,
        unit="%",
    )
    yield Figure(what="… worst", value=100 * max(errors), limit=25, unit="%")
    yield Figure(
        what="… runs that ended outside the range",
        value=100 * statistics.mean(not each.is_in_range for each in all_of_them),
        unit="%",
    )
    yield Figure(
        what="forecast of 5,000 targets over 4 servers, 5 runs of history, CPU",
        value=large()[0],
        limit=3,
        unit="s",
    )
    with tempfile.TemporaryDirectory(prefix="bulk-restore-bench-") as temporary:
        arguments = planned_and_recorded(Path(temporary))
        yield Figure(
            what="`forecast` of a locked plan of 5,000 targets, 5 runs of history, with its start, "
            "best of three",
            value=commanded(arguments),
            limit=3,
            unit="s",
        )
        yield Figure(
            what="… with `--limit run.mounts=70`: two forecasts",
            value=commanded([*arguments, "--limit", "run.mounts=70"]),
            limit=3,
            unit="s",
        )
