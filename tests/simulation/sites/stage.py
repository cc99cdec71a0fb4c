"""A stage for a run over several machines: servers, a plan, a database, and workers that come."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.app.sites.commit_stream import CommitStream
from orchestrator.app.sites.serving import Serving
from orchestrator.app.sites.worker import Terms, Worker
from orchestrator.app.wiring import Choices, Plan, World, beginning
from orchestrator.core.model import RunId
from orchestrator.core.policy import WatchPolicy
from orchestrator.core.records import server_address
from orchestrator.core.sites import ShardFacts, Submission, WorkerFacts, WorkerId
from orchestrator.database.sealing import Sealer
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import PASSWORD, SPARSE, Site, every_machine, servers_yaml
from tests.simulation.sites.database import START, Connections, SimulatedDatabase
from tests.simulation.sites.link import Link, Trouble
from tests.simulation.sites.processes import (
    Freeze,
    Process,
    ProcessLoop,
    current,
    of_nobody,
    process_in,
)
from tests.simulation.sites.renewals import BesideLoop
from tests.simulation.sites.witness import Witness
from tests.virtual.network import MemoryNetwork
from tests.virtual.sites import Sites, serving

KEY = b"k" * 32
RUN = RunId("20261123T060000Z-0001")


class Network(MemoryNetwork):
    """The network between all workers and all servers; each worker may be cut off by itself."""

    def __init__(self) -> None:
        """All is well."""
        super().__init__()
        self.cut_off: set[tuple[Process | None, str]] = set()

    def drop(self, process: Process) -> None:
        """Close the sockets of a process that is no more."""
        self.cut_of(lambda host, context: process_in(context) is process)

    def cut_worker(self, process: Process, host: str) -> None:
        """Break the connections of a process to a host, and refuse it others."""
        self.cut_off.add((process, host))

        def is_meant(other: str, context: Context) -> bool:
            return other == host and process_in(context) is process

        self.cut_of(is_meant)

    def mend_worker(self, process: Process) -> None:
        """Let a process reach every host again."""
        self.cut_off = {each for each in self.cut_off if each[0] is not process}

    async def connect(self, host: str, port: int, protocol: Any) -> Any:
        """Join a client to a server, unless they are cut off from one another."""
        if (current(), host) in self.cut_off:
            self.attempts[host] += 1
            raise ConnectionRefusedError(111, "Connection refused")
        return await super().connect(host, port, protocol)


@dataclass(slots=True)
class StagedWorker:
    """A worker, its process and its ways to the database."""

    process: Process
    worker: Worker
    serving: Serving
    links: tuple[Link, Link]
    """Of its loop, and of what renews its leases."""
    task: asyncio.Task[None]
    crew: Any = None
    """What a story calls it one of."""

    @property
    def id(self) -> WorkerId:
        """Its name."""
        return self.serving.worker.worker

    def leave(self) -> None:
        """Hand everything over, as on SIGTERM."""
        self.process.context().run(self.worker.leave)

    def cut_from_database(self) -> None:
        """Let nothing pass between it and the database."""
        for link in self.links:
            link.cut()

    def mend_database(self) -> None:
        """Let everything pass again."""
        for link in self.links:
            link.mend()


@dataclass(slots=True)
class Stage:
    """Servers, a plan that was submitted, a database, and workers."""

    loaded: Plan
    submission: Submission
    sites: Sites
    network: Network
    database: SimulatedDatabase
    watch: WatchPolicy
    seed: int
    witness: Witness
    max_mounts: int | None = None
    hits: Counter[str] = field(default_factory=Counter)
    workers: list[StagedWorker] = field(default_factory=list)
    expected: int = 0
    """Workers that are still to come."""

    @property
    def loop(self) -> ProcessLoop:
        """The loop of all processes."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ProcessLoop)
        return loop

    @property
    def visitor(self) -> Connections:
        """A way to the database on which nothing goes wrong."""
        return Connections(self.database)

    def of_nobody(self) -> Context:
        """Return a context in which what happens is no process's doing."""
        return of_nobody()

    def begin(
        self,
        name: str,
        *sites: str,
        trouble: Trouble | None = None,
        sealed: bool = True,
        room: int = 50,
    ) -> StagedWorker:
        """Start a worker for some sites; it ends by itself once nothing is left to serve."""
        number = len(self.workers) + 1
        process, rng = Process(name), random.Random(f"{self.seed}:{number}")
        links = tuple(
            Link(self.database, random.Random(rng.random()), trouble or Trouble(), self.hits)
            for _ in "12"
        )
        database = Connections(self.database, links[0])
        facts = WorkerFacts(
            worker=WorkerId(name), host=f"host-{name}", pid=number, version="1", sites=sites
        )
        serving_with = Serving(
            worker=facts,
            database=database,
            stream=CommitStream(database, facts.worker, process.boot_clock),
            world=World(
                connector=self.network.connector,
                wall_clock=lambda: START + timedelta(seconds=self.loop.now),
                boot_clock=process.boot_clock,
                rng=rng,
                inline=True,
                signals=False,
                watch=self.watch,
            ),
            clock=process.boot_clock,
            sealer=Sealer(AESGCM(KEY)) if sealed else None,
        )
        beside = BesideLoop(Connections(self.database, links[1]), facts.worker, process)
        worker = Worker(serving_with, beside, Terms(sites=sites, room=room, until_idle=True))
        task = self.loop.start(process, worker.serve())
        staged = StagedWorker(process, worker, serving_with, (links[0], links[1]), task)
        self.workers.append(staged)
        return staged

    def freeze(self, worker: StagedWorker, how: Freeze = Freeze.STOPPED) -> None:
        """Let a worker stand still until its process is thawed."""
        if how is Freeze.PAUSED:
            self.witness.paused.add(worker.process)
        worker.process.freeze(how)

    def kill(self, worker: StagedWorker) -> None:
        """End a worker as `kill -9` does: nothing of it is cleaned up, its sockets close."""
        worker.process.kill()
        self.network.drop(worker.process)

    async def until(self, is_so: Callable[[], bool], within_s: float = 3600.0) -> None:
        """Return as soon as something is so, looking ten times a second."""
        with anyio.fail_after(within_s):
            while not is_so():  # noqa: ASYNC110 - nothing tells when it becomes so
                await anyio.sleep(0.1)

    async def over(self, within_s: float = 7200.0) -> None:
        """Return once every worker that lives has ended; a worker's own error is raised."""
        is_over, loop = asyncio.Event(), self.loop

        def look() -> None:
            if self.witness.violations or self._has_ended():
                is_over.set()
            else:
                loop.call_later(0.5, look)

        loop.call_later(0.5, look)
        with anyio.fail_after(within_s):
            await is_over.wait()
        self.witness.require_none()
        for each in self.workers:
            if each.task.done() and not each.process.is_dead:
                each.task.result()

    def _has_ended(self) -> bool:
        """Return whether every worker that lives has ended, or one of them with an error."""
        is_over = not self.expected
        for each in self.workers:
            if each.process.is_dead:
                continue
            if not each.task.done():
                is_over = False
            elif each.task.cancelled() or each.task.exception() is not None:
                return True
        return is_over


@asynccontextmanager
async def staged(
    monkeypatch: pytest.MonkeyPatch,
    servers: Sequence[Site],
    *,
    of_sites: Sequence[str] = (),
    extra: str = "",
    plan: str | None = None,
    watch: WatchPolicy = SPARSE,
    seed: int = 0,
    kept: int = 0,
    max_mounts: int | None = None,
    deadline: float | None = None,
) -> AsyncIterator[Stage]:
    """Serve `servers`, and submit a plan (all their machines by default).

    `of_sites` are the sites of the servers, by place; all are of site `main` by default. `kept` is
    how many commits a failover may lose. To be used in a loop for processes.
    """
    monkeypatch.setenv("SCENARIO_PASSWORD", PASSWORD)
    text = servers_yaml(servers) + extra + (plan if plan is not None else every_machine(servers))
    loaded = load_plan_text(text.encode(), Path("/nowhere/plan.yaml"))
    truth = GroundTruth()
    managers = {server.name: server.manager(truth, place) for place, server in enumerate(servers)}
    faults = {server.name: FaultScript(server.faults, seed=seed) for server in servers}
    network = Network()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ProcessLoop)
    world = World(wall_clock=lambda: START + timedelta(seconds=loop.now), run_id=RUN)
    choices = Choices(state=Path("/nowhere"), max_mounts=max_mounts, deadline=deadline)
    started = beginning(loaded, choices, world)
    shards = tuple(
        ShardFacts(server=each.name, site=site, address=server_address(each.url))
        for each, site in zip(started.servers, of_sites or ["main"] * len(servers), strict=True)
    )
    submission = Submission(started=started, plan=text.encode(), documents={}, shards=shards)
    database = SimulatedDatabase(lambda: loop.now, kept=kept)
    witness = Witness(RUN, database)
    async with serving(managers, faults=faults, network=network, face=witness.face) as served:
        stage = Stage(
            loaded, submission, served, network, database, watch, seed, witness, max_mounts
        )
        await stage.visitor.submit(submission)
        database.replicate()
        try:
            yield stage
        finally:
            for each in stage.workers:
                each.process.bury()
