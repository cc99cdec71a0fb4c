"""A whole drill on virtual time: real loader, client, engine, journal and report.

Only the servers are simulated, and the network between is in memory. Every drill ends with
the invariants of `tests.invariants`, whatever the scenario wants to show.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import Struct

from orchestrator.app.outcome import Outcome
from orchestrator.app.planned_limits import limits_of
from orchestrator.app.runner import resume, run_plan
from orchestrator.app.wiring import Choices, Plan, World
from orchestrator.core.model import RunId
from orchestrator.core.policy import WatchPolicy
from orchestrator.core.ports.journal import Observer
from orchestrator.engine.limits import Limits
from orchestrator.engine.run import Run
from orchestrator.journal import State
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault, FaultScript
from orchestrator.simulator.inventory import REPLICAS, Inventory, Point, generated
from orchestrator.simulator.manager import SimulatedManager, User
from orchestrator.simulator.server import HttpFace
from orchestrator.simulator.truth import GroundTruth
from tests.invariants import assert_invariants
from tests.virtual.sites import Sites, host, serving

START = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
ACCOUNT = "LAB\\svc-drill"
PASSWORD = "not-a-real-password"
SPARSE = WatchPolicy(idle_share=0.06, shortest=1.0, crowded=2.0)
"""Fewer looks at tasks than a run makes: else they are most of what a scenario costs."""


class Site(Struct):
    """One simulated server of a scenario."""

    name: str = "hq"
    machines: int = 8
    backup_servers: int = 2
    behaviour: Behaviour = Behaviour()
    faults: Sequence[Fault] = ()
    role: str = "File Restore Operator"
    password: str = PASSWORD
    limit: int = 6
    mount_s: float | None = 60.0
    change: Callable[[Inventory], None] = lambda inventory: None
    families: Sequence[str] = (REPLICAS,)
    stop_tasks: str = "when_needed"

    def listed(self, seed: int) -> Sequence[tuple[str, str]]:
        """Return its machines, and their systems as a plan calls them."""
        machines = self.manager(GroundTruth(), seed).inventory.machines
        return [(machine.name, machine.os.lower()) for machine in machines]

    def manager(self, truth: GroundTruth, seed: int) -> SimulatedManager:
        """Return the server; `mount_s` None means the inventory's own heavy-tailed times."""
        inventory = generated(
            seed,
            machines=self.machines,
            backup_servers=self.backup_servers,
            points=3,
            prefix=f"{self.name}-",
            awkward=False,
            families=self.families,
        )
        self.change(inventory)
        seconds = self.mount_s
        fixed: Callable[[Point, random.Random], float] | None = None
        if seconds is not None:
            steady = seconds

            def fixed(point: Point, rng: random.Random) -> float:
                _ = point
                return steady * rng.uniform(0.8, 1.2)

        return SimulatedManager(
            self.name,
            inventory,
            users={ACCOUNT: User(ACCOUNT, self.password, self.role)},
            behaviour=self.behaviour,
            truth=truth,
            seed=seed,
            duration=fixed,
            epoch=START,
        )


class Drill(Struct):
    """What came of a drill."""

    outcome: Outcome
    report: dict[str, Any]
    truth: GroundTruth
    sites: Sites
    state: State
    took_s: float

    def results(self) -> dict[str, str]:
        """Return result by label."""
        return {target["label"]: target["result"] for target in self.report["targets"]}

    def target(self, label: str) -> dict[str, Any]:
        """Return one target of the report."""
        found: dict[str, Any] = next(
            target for target in self.report["targets"] if target["label"] == label
        )
        return found


def servers_yaml(sites: Sequence[Site]) -> str:
    """Return the `servers` section for these sites."""
    lines = ["version: 1", "name: scenario", "servers:"]
    for site in sites:
        lines += [
            f"  {site.name}:",
            f"    url: https://{host(site.name)}:9398",
            f"    username: {ACCOUNT}",
            "    password: {env: SCENARIO_PASSWORD}",
            f"    limits: {{mounts: {site.limit}}}",
            f"    stop_tasks: {site.stop_tasks}",
        ]
    return "\n".join(lines) + "\n"


def every_machine(sites: Sequence[Site]) -> str:
    """Return a `targets` section that names every machine of these sites."""
    lines = ["targets:"]
    for seed, site in enumerate(sites):
        for name, os in site.listed(seed):
            lines.append(f"  - {{vm: {name}, server: {site.name}, os: {os}}}")
    return "\n".join(lines) + "\n"


class Stage(Struct):
    """Servers and a plan, for one run or the several processes of one."""

    loaded: Plan
    sites: Sites
    state: Path
    report: Path
    watch: WatchPolicy
    seed: int
    history: int
    began: float
    max_mounts: int | None = None
    steered: bool = False
    """Whether its processes look for what `ctl` asks, once a second."""
    highest: Callable[[], Limits] | None = None
    """Gives the highest limits that were ever in force, where people have changed them."""
    processes: int = 0
    """How many processes worked on the run so far."""

    @property
    def limits(self) -> Limits:
        """How many mounts may be open at most."""
        planned = limits_of(self.loaded.plan, self.max_mounts)
        return planned if self.highest is None else self.highest()

    @property
    def now(self) -> float:
        """Virtual seconds since the curtain rose; the run's clock, if it was started at once."""
        return anyio.current_time() - self.began

    def world(self, on_run: Callable[[Run], None] = lambda run: None) -> World:
        """Return what the next process finds: its own dice, the same network and clocks."""
        self.processes += 1
        run = RunId(f"20261123T060000Z-{self.history:04x}")
        return World(
            connector=self.sites.network.connector,
            wall_clock=lambda: START + timedelta(seconds=self.now),
            rng=random.Random(self.seed + 7919 * (self.processes - 1)),
            inline=True,
            signals=False,
            watch=self.watch,
            run_id=run,
            controls=State(self.state).controls(run) if self.steered else None,
            on_run=on_run,
        )

    async def run(
        self,
        *,
        observers: Sequence[Observer] = (),
        on_run: Callable[[Run], None] = lambda run: None,
        **choices: Any,
    ) -> Drill:
        """Conduct the run, and check the invariants at its end."""
        self.max_mounts = choices.get("max_mounts")
        chosen = Choices(state=self.state, report=self.report, **choices)
        outcome = await run_plan(self.loaded, chosen, observers=observers, world=self.world(on_run))
        return self.checked(outcome)

    async def resume(
        self,
        *,
        observers: Sequence[Observer] = (),
        on_run: Callable[[Run], None] = lambda run: None,
        **choices: Any,
    ) -> Drill:
        """Go on with the run in a new process, and check the invariants at its end."""
        outcome = await resume(
            "last",
            lambda begun: self.loaded,
            Choices(state=self.state, **choices),
            observers=observers,
            world=self.world(on_run),
        )
        return self.checked(outcome)

    def checked(self, outcome: Outcome) -> Drill:
        """Compare what was reported with what the servers know."""
        place = outcome.directory if outcome.written else self.report
        report = json.loads((place / "report.json").read_text())
        assert_invariants(self.sites.truth, report, self.limits)
        assert report["run"]["exit_code"] == outcome.code
        return Drill(outcome, report, self.sites.truth, self.sites, State(self.state), self.now)


@asynccontextmanager
async def staged(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    sites: Sequence[Site] = (Site(),),
    plan: str | None = None,
    *,
    extra: str = "",
    watch: WatchPolicy = SPARSE,
    seed: int = 0,
    history: int = 1,
    face: Callable[[SimulatedManager, FaultScript | None], HttpFace] = HttpFace,
) -> AsyncIterator[Stage]:
    """Serve `sites` and load the plan (all their machines by default).

    `extra` is added between servers and targets; `face` makes the servers' REST faces.
    """
    monkeypatch.setenv("SCENARIO_PASSWORD", PASSWORD)
    text = servers_yaml(sites) + extra + (plan if plan is not None else every_machine(sites))
    loaded = load_plan_text(text.encode(), directory / "plan.yaml")
    truth = GroundTruth()
    managers = {site.name: site.manager(truth, place) for place, site in enumerate(sites)}
    faults = {site.name: FaultScript(site.faults, seed=seed) for site in sites}
    async with serving(managers, faults=faults, face=face) as serving_sites:
        yield Stage(
            loaded,
            serving_sites,
            directory / "state",
            directory / "report",
            watch,
            seed,
            history,
            anyio.current_time(),
        )


async def drill(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    sites: Sequence[Site] = (Site(),),
    plan: str | None = None,
    *,
    choices: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
    meanwhile: Callable[[Sites, Run], Any] | None = None,
    **staging: Any,
) -> Drill:
    """Run a plan (all machines of `sites` by default) and check the invariants.

    `meanwhile(sites, run)` runs beside it; `staging` goes to `staged`.
    """
    async with (
        staged(directory, monkeypatch, sites, plan, **staging) as stage,
        anyio.create_task_group() as tasks,
    ):

        def begin(run: Run) -> None:
            if meanwhile is not None:
                tasks.start_soon(meanwhile, stage.sites, run)

        done = await stage.run(observers=observers, on_run=begin, **(choices or {}))
        tasks.cancel_scope.cancel()
    return done
