"""Plays a story: the whole program on virtual time against servers that misbehave.

Safety while faults are on: `witness` compares every step with what the servers know.
Liveness once they are off: everything must be over by the story's own deadline. At the end
the report is held against the truth.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from anyio.abc import TaskGroup

from orchestrator.app.outcome import Outcome
from orchestrator.app.planned_limits import limits_of
from orchestrator.app.runner import run_plan
from orchestrator.app.wiring import Choices, World
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import RunId
from orchestrator.engine.limits import Limits
from orchestrator.engine.run import Run
from orchestrator.journal import State
from orchestrator.journal.controls import ControlFiles
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.simulator.activity import SimActivity
from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.inventory import Inventory, Point, generated
from orchestrator.simulator.manager import SimMount, SimSession, SimTask, SimulatedManager, User
from orchestrator.simulator.server import HttpFace
from tests.captured import captured_logs
from tests.invariants import assert_invariants
from tests.scenarios import asking
from tests.simulation.people import People
from tests.simulation.steered import Overseer
from tests.simulation.story import ACCOUNT, PASSWORD, Place, Story, plan_of, told
from tests.simulation.troubles import PLAYED
from tests.simulation.witness import Witness
from tests.virtual.clock import VirtualTimeLoop, freeze, run_virtual, uncollected
from tests.virtual.network import MemoryNetwork
from tests.virtual.sites import host, serving

START = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
NEVER = 1e9


class Violation(AssertionError):
    """What must never be, has been."""


class _Network(MemoryNetwork):
    """Counts what goes wrong with connections, and lets none go anywhere else."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self._witness = witness
        self.flapping: set[str] = set()
        self.known: set[str] = set()

    async def connect(self, name: str, port: int, protocol: Any) -> Any:
        self._witness.demand(name in self.known, f"a connection to {name}")
        if name in self.swallowing:
            self._witness.hits["swallowed"] += 1
        elif name in self.refusing:
            self._witness.hits["flapping" if name in self.flapping else "refused"] += 1
        return await super().connect(name, port, protocol)

    def cut(self, host: str) -> None:
        used = any(pipes for place, pipes in self._pipes.items() if place[0] == host)
        if used:
            self._witness.hits["flapping" if host in self.flapping else "cut"] += 1
        super().cut(host)


class _Manager(SimulatedManager):
    """Tells the witness what it forgets of tasks that nobody has read to their end."""

    def forget_old_tasks(self, session: SimSession) -> None:
        before = len(session.tasks)
        super().forget_old_tasks(session)
        if isinstance(self.truth, Witness) and session.id not in self.truth.strangers:
            self.truth.hits["task_purged"] += before - len(session.tasks)

    def appear(self, session: SimSession, mount: SimMount) -> str | None:
        if isinstance(self.truth, Witness) and session.id not in self.truth.strangers:
            is_shown = any(task.mount is mount for task in session.tasks.values())
            self.truth.hits["stop_late_mount"] += not is_shown
        return super().appear(session, mount)

    def unmount_by_task(self, session: SimSession, mount: SimMount, how: str) -> SimTask:
        task = super().unmount_by_task(session, mount, how)
        if isinstance(self.truth, Witness):
            self.truth.unmount_tasks.setdefault(session.id, set()).add(task.id)
        return task


class _Face(HttpFace):
    """Shows the witness every request before anything goes wrong with it."""

    def __init__(
        self, witness: Witness, manager: SimulatedManager, faults: FaultScript | None
    ) -> None:
        super().__init__(manager, faults)
        self._witness = witness

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        token = request.headers.get("X-RestSvcSessionId", "")
        self._witness.hits["requests"] += 1
        self._witness.arrived(self.manager, request.method, request.raw_path, token)
        answer = await super().handle(request)
        reachable = request.transport is not None and not request.transport.is_closing()
        if answer.status == 401 and reachable and "/sessionmngr" in request.raw_path.lower():
            self._witness.logon_refused(self.manager.name)
        session = self.manager.sessions.get(token)
        if session is not None and reachable:
            self._note_tasks(request, answer, session)
        if answer.status == 401 and session is not None:
            self._witness.denials[session.id] += 1
        return answer

    def _note_tasks(
        self, request: web.BaseRequest, answer: web.StreamResponse, session: SimSession
    ) -> None:
        """Tell the witness what a client was told of tasks that it may ask to stop."""
        shown = answer.body if isinstance(answer, web.Response) else None
        if request.method == "GET" and answer.status == 200 and isinstance(shown, bytes):
            self._witness.told(session, DONE_TASK.findall(shown))
        if request.method == "DELETE" and "/tasks/" in request.raw_path:
            self._witness.hits[f"stop_{self.manager.behaviour.task_stop}"] += 1


DONE_TASK = re.compile(
    rb"<TaskId>([^<]+)</TaskId><State>Finished</State>(?:<Operation>[^<]*</Operation>)?"
    rb'<Result Success="true"'
)


@dataclass(slots=True)
class Played:
    """What came of a story."""

    story: Story
    outcome: Outcome
    report: dict[str, Any]
    hits: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory for one story, in memory where the system has such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="story-", dir=memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    ) as name:
        yield Path(name)


@uncollected()
def played(seed: int, directory: Path, more: frozenset[str] = PLAYED) -> Played:
    """Play the story of a seed to its end; `more` are the kinds of `troubles` that it may play.

    Raises:
        Violation: an invariant was broken; the text says which, when, and how to play it again.
    """
    story = told(seed, more)
    try:
        with captured_logs(), pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORY_PASSWORD", PASSWORD)
            patch.setattr(logging.getLogger("aiohttp.server"), "disabled", True)  # clients leave
            _ask(story, patch)

            async def play() -> Played:
                return await _Play(story, directory, patch).play()

            return run_virtual(play)
    except Exception as exc:
        cause: BaseException = exc
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        what = str(cause) or repr(cause)
        again = f"play it again: make simulate-seeds SEEDS={seed}"
        raise Violation(f"seed {seed}: {what[:1500]}\n  {again}") from exc


def _ask(story: Story, patch: pytest.MonkeyPatch) -> None:
    """Let the plan ask for what the story says beyond its file."""
    asks = story.asks
    if asks is None:
        return
    checks = (asking.CHECK,) if asks.checks else ()
    asking.searching(patch, asks.order, on=asks.on, checks=checks)
    asking.judged_by(patch, lambda request: asks.good(request.vm, asking.place(request)))
    asking.beginning_with(
        patch, hold_s=asks.hold_s, keep_failed_s=asks.keep_failed_s, unmount=asks.unmount
    )


class _Play:
    """One story being played."""

    def __init__(self, story: Story, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.story = story
        self.directory = directory
        self._patch = patch
        self._people: People | None = None
        self.scope = anyio.CancelScope()
        self.managers: dict[str, SimulatedManager] = {}
        self._run = RunId(f"20261123T060000Z-{story.seed % 65536:04x}")

    async def play(self) -> Played:
        story = self.story
        inventories = {place.name: _inventory(place, story) for place in story.places}
        listed = {
            name: [
                (machine.name, self._os_of(machine.os, place))
                for place, machine in enumerate(inventory.machines)
            ]
            for name, inventory in inventories.items()
        }
        plan = load_plan_text(plan_of(story, listed).encode(), self.directory / "plan.yaml")
        limits = limits_of(plan.plan)
        self.witness = witness = Witness(limits, self.managers, self.scope.cancel)
        witness.asks = story.asks
        self._people_of(limits)
        for place in story.places:
            self.managers[place.name] = self._manager(place, inventories[place.name])
        self.network = _Network(witness)
        self.network.known = {host(place.name) for place in story.places}
        faults = {place.name: FaultScript(place.rules, seed=place.seed) for place in story.places}
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.call_later(10 * story.ends_s, loop.stop)  # even if something shields itself for ever
        outcome: Outcome | None = None
        async with serving(
            self.managers, faults=faults, network=self.network, face=partial(_Face, witness)
        ):
            with self.scope, anyio.move_on_after(story.ends_s) as deadline:
                async with anyio.create_task_group() as tasks:
                    world = World(
                        connector=self.network.connector,
                        wall_clock=lambda: START + timedelta(seconds=anyio.current_time()),
                        rng=random.Random(story.seed),
                        inline=True,
                        signals=False,
                        watch=story.watch,
                        run_id=self._run,
                        controls=self._controls,
                        on_run=partial(self._begin, tasks),
                    )
                    outcome = await run_plan(
                        plan,
                        Choices(state=self.directory / "state", report=self.directory / "report"),
                        observers=[witness],
                        world=world,
                    )
                    tasks.cancel_scope.cancel()
        now = anyio.current_time()
        if witness.violation is not None:
            raise Violation(f"after {now:g} s: {witness.violation}")
        if loop.errors:
            raise Violation(f"errors in callbacks: {loop.errors[:2]}")
        if deadline.cancelled_caught or outcome is None:
            raise Violation(f"not over after {story.ends_s:g} s")
        return self._judged(outcome, now)

    def _people_of(self, limits: Limits) -> None:
        """Let there be people who steer the run, if the story has any."""
        steers, state = self.story.steers, self.directory / "state"
        if steers is not None:
            overseer = Overseer(steers, limits, self.witness, self.witness.demand)
            overseer.listen(self._patch)
            self.witness.overseer = overseer
            self._people = People(overseer, state, self._run)

    @property
    def _controls(self) -> ControlFiles | None:
        steered = self.story.steers is not None
        return State(self.directory / "state").controls(self._run) if steered else None

    def _os_of(self, os: str, place: int) -> str:
        wrong = self.story.wrong_os and place == 0
        if wrong:
            return {"windows": "linux", "linux": "windows"}[os.lower()]
        return "auto" if self.story.open_os else os.lower()

    def _judged(self, outcome: Outcome, now: float) -> Played:
        report = json.loads((self.directory / "report" / "report.json").read_text())
        overseer = self.witness.overseer
        limits = overseer.highest if overseer is not None else self.witness.limits
        assert_invariants(self.witness.ours(), report, limits)
        if overseer is not None and self._people is not None:
            overseer.judge(report)
            self._people.judge(report)
            self._judge_deadline()
            self.witness.hits.update(overseer.hits)
        assert report["run"]["exit_code"] == outcome.code
        assert outcome.code not in {ExitCode.INTERNAL, ExitCode.LOCAL_IO}, outcome.trouble
        if self.story.is_calm:
            assert outcome.code == ExitCode.GOOD, "nothing went wrong, and it was not good"
            assert {each["result"] for each in report["targets"]} <= {"verified", "mounted"}
        hits = self.witness.hits
        hits["seeds"] += 1
        for place in self.story.places:
            hits.update(place.moods)
            for number, fault in enumerate(place.rules):
                hits[place.faults[number]] += fault.struck
        for target in report["targets"]:
            hits["targets"] += 1
            hits[f"result_{target['result']}"] += 1
        return Played(self.story, outcome, report, hits, now)

    def _judge_deadline(self) -> None:
        """Check that nothing was open at the deadline, where nothing speaks against that.

        A task that is past Running cannot be stopped: its mount comes when the server has done.
        """
        steers = self.story.steers
        if steers is None or steers.deadline_s is None or not self.story.punctual:
            return
        at, mounts = steers.deadline_s, self.witness.ours().mounts
        late = [
            each
            for each in mounts
            if each.requested_at <= at
            and (each.closed_at is None or each.closed_at > at)
            and (each.session, each.task) not in self.witness.unstoppable
        ]
        assert not late, f"open at the deadline, {at:g} s: {late}"
        self.witness.hits["deadline_kept"] += bool(mounts)

    # --- the servers -------------------------------------------------------------------------

    def _manager(self, place: Place, inventory: Inventory) -> SimulatedManager:
        manager = _Manager(
            place.name,
            inventory,
            users={ACCOUNT: User(ACCOUNT, PASSWORD)},
            behaviour=place.behaviour,
            truth=self.witness,
            seed=place.seed,
            epoch=START,
            duration=self._duration(place),
        )
        manager.activities += [
            SimActivity(
                kind=each.kind,
                machine=inventory.machines[each.machine],
                from_s=each.from_s,
                until_s=each.until_s,
                id=str(uuid.UUID(int=place.seed + number)),
            )
            for number, each in enumerate(place.neighbours)
        ]
        return manager

    def _duration(self, place: Place) -> Callable[[Point, random.Random], float]:
        def seconds(point: Point, rng: random.Random) -> float:
            point.fails = "Failed to mount restore point." if rng.random() < place.failing else None
            if rng.random() < place.stuck:
                self.witness.hits["task_stuck"] += 1
                return rng.choice([300.0, 700.0])
            return place.mount_s * rng.uniform(0.8, 1.2)

        return seconds

    # --- what happens ------------------------------------------------------------------------

    def _begin(self, tasks: TaskGroup, run: Run) -> None:
        tasks.start_soon(self._happen, run)
        if self._people is not None:
            tasks.start_soon(self._people.steer)

    async def _happen(self, run: Run) -> None:
        """Let what the story foresees happen, each at its time."""
        story = self.story
        events = [(at, what, name) for at, what, name in story.network]
        events += [(at, "stop", name) for at, name in story.signals]
        events += [(at, "stranger", name) for at, name in story.strangers]
        events += [(at, "console", name) for at, name in story.consoles]
        events += [(at, "frozen", str(seconds)) for at, seconds in story.freezes]
        if story.asks is not None:
            events += [(at, "request", "") for at in story.asks.requests]
        for at, what, name in sorted(events):
            await anyio.sleep(max(0.0, at - anyio.current_time()))
            if what == "stop":
                again = self.witness.hits["stop_once"] > 0
                self.witness.hits["stop_early"] += at == 0.0
                self.witness.hits["stop_twice" if again else "stop_once"] += 1
                run.stop(name)
            elif what == "request":
                State(self.directory / "state").ask_to_end_holds(self._run)
            elif what == "frozen":
                freeze(float(name))
                self.witness.hits["frozen"] += 1
            elif what == "stranger":
                self._visit(self.managers[name])
            elif what == "console":
                self._end_orphans(self.managers[name])
            else:
                self._link(what, host(name))

    def _end_orphans(self, manager: SimulatedManager) -> None:
        """Let a person end, at the backup server, the mounts that no session can reach."""
        for fate in self.witness.mounts:
            if fate.session in self.witness.strangers:
                continue
            if fate.server == manager.name and fate.is_open and fate.orphaned and fate.succeeded:
                self.witness.closed(fate, manager.clock(), "console")

    def _visit(self, manager: SimulatedManager) -> None:
        """Let somebody else, of the same account, mount what the run mounts too."""
        session = manager.logon(ACCOUNT, PASSWORD)
        assert session is not None
        self.witness.strangers.add(session.id)
        session.last_used = NEVER
        for machine in manager.inventory.machines[:2]:
            point = machine.points[0]
            manager.start_mount(session, point.family, point, machine.os)
            self.witness.hits["stranger"] += 1

    def _link(self, what: str, name: str) -> None:
        network = self.network
        network.refusing.discard(name)
        network.swallowing.discard(name)
        network.flapping.discard(name)
        if what == "swallowed":
            network.swallowing.add(name)
        elif what in {"refused", "flapping"}:
            network.refusing.add(name)
        if what == "flapping":
            network.flapping.add(name)
        if what != "well":
            network.cut(name)


def _inventory(place: Place, story: Story) -> Inventory:
    inventory = generated(
        place.seed,
        machines=place.machines,
        backup_servers=place.backup_servers,
        points=2 if story.asks is None else story.asks.points,
        prefix=f"{place.name}-",
        awkward=False,
    )
    for machine in inventory.machines:
        machine.backup_server.exclusive = place.exclusive
    return inventory
