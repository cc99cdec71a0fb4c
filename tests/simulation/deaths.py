"""Deaths at random: a run dies, and `resume` or `unmount` comes after it, and may die as well.

Faults of every kind strike meanwhile. What the last process says is held against the servers,
and again once every request that was held back has had its effect.
"""

from __future__ import annotations

import argparse
import io
import math
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import anyio
import pytest
from aiohttp import web

from orchestrator.app import logs
from orchestrator.app.planned_limits import limits_of
from orchestrator.app.unmount import UnmountOutcome, release_leftovers
from orchestrator.core.errors import RunNotFound
from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import MountState, RunId
from orchestrator.core.policy import SESSION_IDLE_LIMIT, WatchPolicy
from orchestrator.engine.run import Run
from orchestrator.journal import State
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.server import HttpFace
from tests.invariants import assert_calls_are_harmless, assert_limits_held
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage, staged
from tests.simulation.nemesis import scratch
from tests.simulation.people import People
from tests.simulation.steered import Overseer
from tests.simulation.steers import Steers, steers
from tests.simulation.troubles import ALL, PLAYED, one_mood, one_more
from tests.simulation.witness import MOUNTS_OF
from tests.virtual.clock import run_virtual, uncollected

ENDS_S = 6 * 3600.0
CALM = WatchPolicy(idle_share=0.05, shortest=3.0, crowded=5.0)
LATEST_S = 250.0
"""After so long every request that was held back has had its effect."""

SETTINGS = (
    "defaults: {timeouts: {mount: 4m, unmount: 3m}, retries: {attempts: 2, delay: 5s}}\n"
    "limits: {outage: 10m}\n"
)
STEERED = 3
"""Of each four stories, the one in which people may steer the run."""

SAID_OPEN = {MountState.LEFT, MountState.KEPT, MountState.UNKNOWN}


@dataclass(slots=True)
class Death:
    """One story: its servers, and what each process dies of."""

    number: int
    sites: list[Site]
    steps: list[float]
    """At which step each process dies; infinity if it does not."""
    at_s: float
    """When the first process dies, if it has not died of a step."""
    pauses: list[float]
    after: list[str]
    """What comes after each death: "resume" or "unmount"."""
    hits: Counter[str] = field(default_factory=Counter)
    steers: Steers | None = None


def told(number: int, more: frozenset[str] = PLAYED) -> Death:
    """Return a story; the same number always tells the same."""
    dice = random.Random(f"death:{number}")
    names = ["hq", "dr"][: dice.choice([1, 1, 1, 2])]
    sites = [_site(dice, name, more) for name in names]
    if "stopped" in more:
        _stops(random.Random(f"stops:{number}"), sites)
    late = SESSION_IDLE_LIMIT + 300.0
    by_time = dice.random() < 0.3
    death = Death(
        number,
        sites,
        [
            math.inf if by_time else dice.randint(1, 40 * sum(site.machines for site in sites)),
            dice.randint(1, 60) if dice.random() < 0.5 else math.inf,
            math.inf,
        ],
        dice.uniform(0.0, 120.0) if by_time else math.inf,
        [late if dice.random() < 0.15 else dice.choice([1.0, 20.0, 90.0, 400.0]) for _ in "12"],
        [dice.choice(["resume", "unmount"]) for _ in "12"],
    )
    if number % 4 == STEERED:
        _steer(random.Random(f"people:{number}"), death)
    return death


def _steer(dice: random.Random, death: Death) -> None:
    """Let people steer the run, which often dies soon after somebody has asked for something."""
    places = {site.name: site.limit for site in death.sites}
    death.steers = steers(dice, places, has_waves=True, share=1.0)
    for site in death.sites:
        site.machines += dice.choice([0, 2, 4])
    if dice.random() < 0.8:
        death.after = ["resume", "resume"]
    if death.steers is not None and death.steers.requests and dice.random() < 0.6:
        death.steps[0] = math.inf
        death.at_s = dice.choice(death.steers.requests).at + dice.uniform(0.0, 3.0)


def plan_of(death: Death) -> str | None:
    """Return the targets of a plan in two waves, with a gate between them; None: the usual ones."""
    if death.steers is None:
        return None
    rows = [
        f"      - {{vm: {name}, server: {site.name}, os: {os}}}\n"
        for place, site in enumerate(death.sites)
        for name, os in site.listed(place)
    ]
    cut = (len(rows) + 1) // 2
    first, second = "".join(rows[:cut]), "".join(rows[cut:])
    if not second:
        death.steers.gate = None
        return f"waves:\n  - name: first\n    targets:\n{first}"
    return (
        f"waves:\n  - name: first\n    targets:\n{first}"
        f"  - name: second\n    after: [first]\n    targets:\n{second}{death.steers.gates}"
    )


def _site(dice: random.Random, name: str, more: frozenset[str]) -> Site:
    behaviour = Behaviour(
        latency_s=dice.choice([0.0, 0.05, 1.0]),
        unmount_s=dice.choice([0.0, 5.0]),
        operation_finished_share=dice.choice([0.0, 0.5, 1.0]),
        purge_finished_after=dice.choice([None, None, 10.0]),
        filters_tasks=dice.random() < 0.7,
        empty_mounts_are_404=dice.random() < 0.5,
        related_answers=dice.random() < 0.5,
    )
    hit, knob, value = one_mood(dice)
    if dice.random() < 0.3 and hit in more:
        behaviour = replace(behaviour, **{knob: value})
    drawn = [one_more(dice) for _ in range(dice.choice([0, 1, 2, 3]))]
    return Site(
        name,
        machines=dice.choice([1, 2, 3, 4]),
        backup_servers=1,
        behaviour=behaviour,
        faults=[fault for hit, fault in drawn if hit in more],
        limit=dice.choice([1, 2, 3]),
        mount_s=dice.choice([5.0, 40.0, 90.0]),
    )


def _stops(dice: random.Random, sites: list[Site]) -> None:
    """Say what a stop does to a task of each server; on some every mount is late."""
    for site in sites:
        site.behaviour = replace(
            site.behaviour,
            task_stop=dice.choice(["ended", "vanished", "refused", "goes_on"]),
            cancel_leaves_mount=dice.random() < 0.5,
            stopped_mount_after_s=dice.choice([None, 5.0, 60.0, 200.0]),
        )
        if dice.random() < 0.3:
            site.mount_s = 330.0


@uncollected()
def died(number: int, more: frozenset[str] = PLAYED) -> Death:
    """Tell a story and hold what was said against the servers.

    Raises:
        AssertionError: an invariant is broken; the message names the command to see it again.
    """
    death = told(number, more)

    async def whole() -> None:
        with scratch() as place, pytest.MonkeyPatch.context() as patch, anyio.fail_after(ENDS_S):
            plan, extra = plan_of(death), SETTINGS
            if death.steers is not None:
                extra = extra.replace("limits: {", f"limits: {{{death.steers.limits}")
            async with staged(
                place, patch, death.sites, plan, extra=extra, watch=CALM, seed=number % 1000
            ) as stage:
                steered = None
                if death.steers is not None:
                    steered = _Steered(death.steers, stage, patch)
                await _play(death, stage, Doom(stage, patch), steered)

    try:
        run_virtual(whole)
    except Exception as exc:
        cause: BaseException = exc
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        command = f"make simulate-deaths DEATHS={number}"
        raise AssertionError(
            f"death {number}: {type(cause).__name__}: {cause}\n  {command}"
        ) from exc
    return death


class _Steered:
    """The people of a story, through all its processes, and who judges what comes of them."""

    def __init__(self, wanted: Steers, stage: Stage, patch: pytest.MonkeyPatch) -> None:
        stage.steered = True
        self._stage, self._wrong = stage, list[str]()
        self.overseer = Overseer(
            wanted, limits_of(stage.loaded.plan), stage.sites.truth, self._demand
        )
        self.overseer.listen(patch)
        stage.highest = lambda: self.overseer.highest
        self.people = People(self.overseer, stage.state, RunId("20261123T060000Z-0001"))
        for face in stage.sites.faces.values():
            _see_posts(face, self.overseer)

    def _demand(self, holds: bool, what: str) -> None:
        if not holds:
            self._wrong.append(f"after {anyio.current_time():g} s: {what}")

    async def steering(self, process: Callable[..., Awaitable[Drill]], doom: Doom) -> Drill:
        """Let people steer a process of the run for as long as it lives."""
        state = self.people.state()
        if state is not None:
            records = {str(key): each for key, each in state.records.items()}
            self.overseer.reborn(state.controls, records)
        self.overseer.hears = lambda: not doom.dead
        done: Drill | None = None
        missing: RunNotFound | None = None
        async with anyio.create_task_group() as tasks:

            def begin(_run: Run) -> None:
                tasks.start_soon(self.people.steer)

            try:
                done = await process(observers=[_Living(self.overseer, doom)], on_run=begin)
            except RunNotFound as exc:  # raised again, outside of the group
                missing = exc
            tasks.cancel_scope.cancel()
        if done is None:
            raise missing or AssertionError("it has neither ended nor died")
        return done

    def judge(self, report: Mapping[str, Any] | None) -> None:
        """Raise what was wrong on the way, or is in the report."""
        assert not self._wrong, self._wrong[0]
        if report is not None:
            self.overseer.judge(report)
            self.people.judge(report)


class _Living:
    """Shows events to the overseer while their process lives."""

    def __init__(self, overseer: Overseer, doom: Doom) -> None:
        self._overseer, self._doom = overseer, doom

    def observe(self, event: Event, record: MountRecord | None) -> None:
        if not self._doom.dead:
            self._overseer.observe(event, record)


def _see_posts(face: HttpFace, overseer: Overseer) -> None:
    """Show the overseer each mount POST that reaches a server."""
    handle = face.handle

    async def seeing(request: web.BaseRequest) -> web.StreamResponse:
        place = MOUNTS_OF.search(request.raw_path.partition("?")[0])
        if request.method == "POST" and place is not None:
            overseer.posted(face.manager.name, place[1].lower())
        return await handle(request)

    face.handle = seeing  # type: ignore[method-assign]  # as a proxy in front of it would


async def _play(death: Death, stage: Stage, doom: Doom, steered: _Steered | None) -> None:
    """Let processes come and die until one has said how it ended."""
    run: Callable[[], Awaitable[object]] = stage.run
    resume: Callable[[], Awaitable[object]] = stage.resume
    if steered is not None:
        run = partial(steered.steering, stage.run, doom)
        resume = partial(steered.steering, stage.resume, doom)
    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "resume": resume,
        "unmount": partial(_unmounted, stage),
    }
    processes = [run, *(kinds[kind] for kind in death.after)]
    done: object | None = None
    for place, process in enumerate(processes):
        if place:
            await anyio.sleep(death.pauses[place - 1])
        at_s = death.at_s if place == 0 else math.inf
        try:
            done = await doom.lives(process, at_step=death.steps[place], at_s=at_s)  # type: ignore[arg-type]  # whatever it says
        except RunNotFound:
            assert not stage.sites.truth.mounts, "mounts of a run that was never recorded"
            return
        name = death.after[place - 1] if place else "run"
        death.hits[name if done is None else f"ended_{name}"] += 1
        if done is not None:
            break
        if name == "unmount":
            _forgive(stage)
    assert done is not None
    if steered is not None:
        steered.judge(done.report if isinstance(done, Drill) else None)
        death.hits.update(steered.overseer.hits)
    await anyio.sleep(LATEST_S)
    if isinstance(done, Drill):
        stage.checked(done.outcome)
    else:
        assert isinstance(done, UnmountOutcome)
        _judged(stage, done)


def _forgive(stage: Stage) -> None:
    """Let what an `unmount` removed right before it died count for no intent.

    It could not record any more that the request in doubt had made a mount, and that it is gone.
    """
    for fate in stage.sites.truth.mounts:
        if fate.closed_by == "unmounted" and fate.closed_at is not None:
            fate.unforeseen |= anyio.current_time() - fate.closed_at < 60.0


async def _unmounted(stage: Stage) -> UnmountOutcome:
    """Do what `unmount last` does, and check at once what it says."""
    released = await release_leftovers(
        stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
    )
    _judged(stage, released)
    return released


def _judged(stage: Stage, released: UnmountOutcome) -> None:
    """Hold the lines and the exit code of `unmount`, and its records, against the servers."""
    truth = stage.sites.truth
    state = State(stage.state)
    run = state.replay(state.summary("last").run)
    named = {
        (record.planned.server, record.planned.vm)
        for record in run.records.values()
        if record.mount_state in SAID_OPEN
    }
    said = "\n".join(released.lines)
    for fate in truth.still_open():
        if fate.is_beyond_knowledge and not fate.went_with_its_session:
            continue
        assert released.code != 0, f"unmount ended with 0, and open is {fate}\n{said}"
        known = (fate.server, fate.vm) in named or fate.is_excused
        assert known, f"silent leftover of unmount: {fate}\n{said}"
    if released.code == 0:
        assert not named, f"unmount ended with 0, and not known is {named}\n{said}"
    assert_limits_held(truth, stage.limits)
    assert_calls_are_harmless(truth)


# --- by hand -----------------------------------------------------------------------------------


def _tried(number: int, more: frozenset[str]) -> tuple[str, Counter[str]]:
    logs.configure(verbosity=-1, stream=io.StringIO())
    try:
        return "", died(number, more).hits
    except AssertionError as exc:
        return str(exc), Counter()


def main() -> int:
    """Tell the stories of a range of numbers; return 1 if one of them shows a lie."""
    parser = argparse.ArgumentParser(prog="make simulate-deaths")
    parser.add_argument("numbers", nargs="?", default="1-2000", help="FIRST-LAST, or one")
    parser.add_argument(
        "--more", help="kinds of hits of `troubles`, or all; by default those played"
    )
    chosen = parser.parse_args()
    more = PLAYED if chosen.more is None else frozenset(chosen.more.split(","))
    more = ALL if chosen.more == "all" else more
    first, _, last = chosen.numbers.partition("-")
    numbers = range(int(first), int(last or first) + 1)
    wrong, hits = 0, Counter[str]()
    with ProcessPoolExecutor() as pool:
        for why, struck in pool.map(partial(_tried, more=more), numbers, chunksize=4):
            hits += struck
            if why:
                wrong += 1
                print(why, flush=True)
    print(", ".join(f"{count} {kind}" for kind, count in sorted(hits.items())))
    print(f"{len(numbers)} stories, {wrong} with a lie")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
