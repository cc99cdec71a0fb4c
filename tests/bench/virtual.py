"""Whole drills on virtual time: the shape of the schedule and the cost of watching."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from orchestrator.app.planned_limits import limits_of
from orchestrator.app.runner import run_plan
from orchestrator.app.wiring import Choices, World
from orchestrator.core.events import Event, RunStarted, TaskFailed, TaskSucceeded
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import MountKey, MountRequest
from orchestrator.engine.limits import Limits
from orchestrator.plan.file.loading import LoadedPlan, load_plan_text
from orchestrator.report.values import Report
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault, FaultScript
from orchestrator.simulator.inventory import generated
from orchestrator.simulator.manager import SimulatedManager, User
from orchestrator.simulator.process import ACCOUNT, PASSWORD_VARIABLE
from orchestrator.simulator.truth import GroundTruth
from tests.bench.drills import Server, Shape, greedy, plan_text
from tests.bench.figures import Figure, percentile
from tests.invariants import assert_limits_held
from tests.processes import PASSWORD
from tests.virtual.clock import run_virtual
from tests.virtual.network import MemoryNetwork
from tests.virtual.sites import host, serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How servers answer: after so many seconds, and which share with 503.

    `seed` makes the machines, `run` how long their mounts take in one of several runs.
    """

    latency_s: float = 0.02
    refused: float = 0.0
    seed: int = 0
    run: int = 0

    @property
    def faults(self) -> list[Fault]:
        """What goes wrong at each server."""
        return [Fault(kind="xml_503", probability=self.refused)] if self.refused else []


class Ear:
    """Remembers every target's request, and when the end of its task was noticed."""

    def __init__(self) -> None:
        """Heard nothing yet."""
        self.began = 0.0
        self.requests: dict[MountKey, MountRequest] = {}
        self.noticed: dict[tuple[str, str], float] = {}

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note."""
        if isinstance(event, RunStarted):
            self.began = anyio.current_time() - event.at
        if record is None or record.planned.point is None:
            return
        planned = record.planned
        self.requests[planned.key] = MountRequest(
            key=planned.key,
            wave=planned.wave,
            server=planned.server,
            label=planned.label,
            point=record.planned.point,
            os_kind=planned.os_kind,
        )
        if isinstance(event, TaskSucceeded | TaskFailed):
            self.noticed[planned.server, planned.vm] = self.began + event.at


@dataclass(slots=True, kw_only=True)
class Ran:
    """What a drill did."""

    took_s: float
    truth: GroundTruth
    ear: Ear
    limits: Limits
    loaded: LoadedPlan
    report: Report

    def over_greedy(self, answer_s: float = 0.0) -> float:
        """Return the makespan over that of a perfect schedule with the true durations.

        With `answer_s` it waits for the answers that every mount needs.
        """
        requests = list(self.ear.requests.values())
        return self.took_s / greedy(requests, self.limits, self.truth.mounts, answer_s)

    @property
    def delays(self) -> list[float]:
        """Seconds from the end of each task to its being noticed, while every slot was taken."""
        full_until = max(fate.requested_at for fate in self.truth.mounts)
        return [
            self.ear.noticed[fate.server, fate.vm] - fate.finished_at
            for fate in self.truth.mounts
            if fate.finished_at is not None and fate.finished_at <= full_until
        ]


async def _drill(shape: Shape, answers: Answers, directory: Path) -> Ran:
    os.environ[PASSWORD_VARIABLE] = PASSWORD
    truth = GroundTruth()
    managers = {}
    servers = {}
    for seed, name in enumerate(shape.names, start=10 * answers.seed):
        inventory = generated(
            seed,
            machines=shape.machines,
            backup_servers=shape.backup_servers,
            prefix=f"{name}-",
            awkward=False,
        )
        machines = [(machine.name, machine.os) for machine in inventory.machines]
        servers[name] = Server(url=f"https://{host(name)}:9398", machines=machines)
        managers[name] = SimulatedManager(
            name,
            inventory,
            users={ACCOUNT: User(ACCOUNT, PASSWORD)},
            behaviour=Behaviour(latency_s=answers.latency_s),
            truth=truth,
            seed=seed + 1000 * answers.run,
            duration=shape.duration,
        )
    loaded = load_plan_text(plan_text(shape, servers).encode(), directory / "plan.yaml")
    network, ear = MemoryNetwork(), Ear()
    rng = random.Random(1 + answers.seed)
    world = World(connector=network.connector, rng=rng, inline=True, signals=False)
    scripts = {name: FaultScript(answers.faults, seed=answers.seed) for name in managers}
    choices = Choices(state=directory / "state", report=directory / "report")
    began = anyio.current_time()
    async with serving(managers, network=network, faults=scripts):
        outcome = await run_plan(loaded, choices, observers=[ear], world=world)
    assert outcome.code == 0, outcome.report.totals
    limits = limits_of(loaded.plan, None)
    assert_limits_held(truth, limits)
    return Ran(
        took_s=anyio.current_time() - began,
        truth=truth,
        ear=ear,
        limits=limits,
        loaded=loaded,
        report=outcome.report,
    )


def drill(shape: Shape, answers: Answers = Answers()) -> Ran:
    """Carry out a drill on virtual time; its limits held, and it ended well."""
    with tempfile.TemporaryDirectory(prefix="bulk-restore-bench-") as temporary:
        return run_virtual(_drill, shape, answers, Path(temporary))


def drills(shape: Shape, each: Sequence[Answers], directory: Path) -> list[Ran]:
    """Carry out drills of one plan, one after another, with one state directory."""
    return [run_virtual(_drill, shape, answers, directory) for answers in each]


SHORT = Shape(servers=1, machines=100, server=50, backup_server=16, seconds=(2.0, 3.0))


def slow() -> Iterator[Figure]:
    """Measure what slow answers cost, and how much of it nobody could save."""
    for answer_s, limit in ((0.02, 1.01), (1.0, 1.02), (3.0, 1.05)):
        answers = [Answers(latency_s=answer_s, seed=seed) for seed in range(4)]
        ran = [drill(Shape(run=30), each) for each in answers]
        yield Figure(
            what=f"makespan / perfect greedy at answers of {answer_s:g} s, virtual time, realistic "
            "durations, 3 × 200 targets: mean of 4",
            value=statistics.mean(each.over_greedy() for each in ran),
            limit=limit,
            digits=3,
        )
        yield Figure(
            what="… / greedy with one POST at a time per session and the 4 answers of each mount",
            value=statistics.mean(each.over_greedy(answer_s) for each in ran),
            limit=1.02,
            digits=3,
        )


def troubled() -> Iterator[Figure]:
    """Measure what servers cost that refuse now and then."""
    ideal = drill(SHORT).took_s
    each = [drill(SHORT, Answers(refused=0.05, seed=seed)).took_s / ideal for seed in range(5)]
    yield Figure(
        what="makespan with 5 % of all answers 503 / without, virtual time, 100 mounts of 2 to "
        "3 s, 50 at once: median of 5",
        value=statistics.median(each),
        limit=1.5,
    )
    yield Figure(what="… worst of 5", value=max(each))


WATCHING = ("GET /api/query", "GET /api/tasks", "GET /api/tasks/{task}")


def figures() -> Iterator[Figure]:
    """Measure the schedule with realistic durations, and watching at 200 tasks in flight."""
    ran = drill(Shape(run=30))
    yield Figure(
        what="makespan / perfect greedy, virtual time, realistic durations, 3 × 200 targets",
        value=ran.over_greedy(),
        limit=1.02,
        digits=3,
    )
    watching = sum(ran.truth.requests[name] for name in WATCHING)
    yield Figure(
        what="… requests of inventory and watching per server and second",
        value=watching / 3 / ran.took_s,
        limit=1.0,
    )
    crowd = drill(Shape(servers=2, machines=600, server=200, backup_server=60))
    yield Figure(
        what="detection delay, 200 tasks in flight per server: median",
        value=percentile(crowd.delays, 0.5),
        limit=0.6,
        unit="s",
    )
    yield Figure(
        what="… 99th percentile", value=percentile(crowd.delays, 0.99), limit=1.2, unit="s"
    )
    large = drill(Shape(servers=4, machines=500, server=50, backup_server=16, run=200))
    yield Figure(
        what="HTTP requests per mount, logon to logoff, 2,000 targets over 4 servers, 200 in "
        "flight, realistic durations",
        value=sum(large.truth.requests.values()) / 2000,
        limit=5.0,
    )
