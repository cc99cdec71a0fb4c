"""Deaths at every step: before and after each commit of the journal and each request.

A shape is a small run. Its process dies at a step, another one resumes it after a while and in
half of the stories dies as well, and the last one ends it. Then the invariants must hold.
"""

from __future__ import annotations

import argparse
import io
import math
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import anyio
import pytest

from orchestrator.app import logs
from orchestrator.core.errors import RunNotFound
from orchestrator.core.model import Order
from orchestrator.core.policy import SESSION_IDLE_LIMIT, WatchPolicy
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from tests.scenarios import asking
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage, staged
from tests.simulation.nemesis import scratch
from tests.virtual.clock import run_virtual, uncollected

T = TypeVar("T")

ENDS_S = 4 * 3600.0
CALM = WatchPolicy(idle_share=0.05, shortest=3.0, crowded=5.0)
"""Few reads, for they are the dullest steps to die at."""

SOON, LATE = (1.0, 60.0, 400.0), SESSION_IDLE_LIMIT + 300.0
"""Seconds between two processes: two of the short ones are less than a session lives."""

RETRIES = "defaults: {retries: {attempts: 2, delay: 5s}}\n"
WAVES = """waves:
  - {name: first, targets: [{vm: hq-app0000}]}
  - {name: second, after: [first], targets: [{vm: hq-sql0001}, {vm: hq-web0002}]}
"""
LOSSES = (
    Fault(kind="drop_after", method="POST", path="/mounts$", count=1),
    Fault(kind="error_500", method="POST", path="/mounts$", skip=1, count=1),
    Fault(kind="xml_503", path="/tasks", skip=2, count=2, retry_after="7"),
    Fault(kind="drop_after", method="DELETE", path="/mounts/", count=1),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A small run: its servers and its plan, all machines by default."""

    sites: tuple[Site, ...]
    plan: str | None = None
    ask: Callable[[pytest.MonkeyPatch], None] = lambda patch: None
    """What the plan asks for beyond its file."""


def _site(name: str = "hq", **traits: Any) -> Site:
    return Site(name, **({"machines": 3, "limit": 2, "mount_s": 40.0} | traits))


def _first_fails(inventory: Inventory) -> None:
    for point in inventory.machines[0].points:
        point.fails = "the replica is running"


def _search_by_halves(patch: pytest.MonkeyPatch) -> None:
    asking.searching(patch, Order.BISECT, checks=(asking.CHECK,))
    asking.judged_by(patch, asking.all_but(0, 1))


def _hold(patch: pytest.MonkeyPatch) -> None:
    asking.searching(patch, checks=(asking.CHECK,))
    asking.judged_by(patch, lambda request: "sql" not in request.vm)
    asking.beginning_with(patch, hold_s=60.0, keep_failed_s=90.0)


def _moody(**moods: Any) -> Shape:
    return Shape((_site(behaviour=Behaviour(**moods)),))


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "quiet": Shape((_site(),)),
        "slow": _moody(latency_s=1.5, unmount_s=4.0, backup_server_slots=1),
        "purged": _moody(purge_finished_after=5.0, filters_tasks=False),
        "half_done": _moody(operation_finished_share=1.0, operation_finished_s=9.0),
        "lossy": Shape((_site(faults=LOSSES),)),
        "failing": Shape((_site(change=_first_fails),)),
        "waves": Shape((_site(),), plan=WAVES),
        "two": Shape((_site("hq", machines=2), _site("dr", machines=2, limit=1))),
        "searching": Shape(
            (_site(machines=2, change=asking.with_points(4)),), ask=_search_by_halves
        ),
        "held": Shape((_site(machines=2, mount_s=15.0),), ask=_hold),
        "at_once": Shape((_site(machines=4, limit=4, mount_s=15.0),)),
    }
)


@dataclass(slots=True)
class Story:
    """What came of deaths: how many there were, with which pauses, and how it ended."""

    done: Drill | None = None
    """None if the first process died before it had begun a run."""
    deaths: int = 0
    pauses: list[float] = field(default_factory=list)

    @property
    def targets(self) -> int:
        """How many targets the report names."""
        return 0 if self.done is None else len(self.done.report["targets"])

    @property
    def unknown(self) -> int:
        """Of how many targets nobody can say how they ended."""
        return 0 if self.done is None else list(self.done.results().values()).count("unknown")

    @property
    def unaccounted(self) -> int:
        """Of how many of them the mount is there, and its task was forgotten before anybody looked.

        Such a mount may as well be a stranger's, so it is named and never taken.
        """
        targets = [] if self.done is None else self.done.report["targets"]
        return sum("no task of the session accounts for" in str(t["message"]) for t in targets)

    @property
    def session_lived(self) -> bool:
        """Whether no pause was as long as a session lives."""
        return LATE not in self.pauses


def steps_of(shape: str) -> int:
    """Return how many steps the run of a shape has if nobody dies."""

    async def play(stage: Stage, doom: Doom) -> int:
        assert await doom.lives(stage.run) is not None
        return doom.steps

    return _staged(shape, play)


def died_at(shape: str, step: int) -> Story:
    """Tell the story of a first process that dies at `step`; the same every time.

    Raises:
        AssertionError: an invariant is broken; the message names the command to see it again.
    """
    dice = random.Random(f"{shape}:{step}")
    pauses = [LATE if dice.random() < 0.2 else dice.choice(SOON) for _process in range(2)]
    again = dice.randint(1, 60) if dice.random() < 0.5 else math.inf

    async def play(stage: Stage, doom: Doom) -> Story:
        story = Story(await doom.lives(stage.run, at_step=step))
        for pause, at_step in zip(pauses, (again, math.inf), strict=True):
            if story.done is not None:
                break
            story.deaths += 1
            story.pauses.append(pause)
            await anyio.sleep(pause)
            try:
                story.done = await doom.lives(stage.resume, at_step=at_step)
            except RunNotFound:
                assert not stage.sites.truth.mounts
                break
        return story

    try:
        return _staged(shape, play)
    except Exception as exc:
        command = f"make simulate-crashes AT={shape}:{step}"
        raise AssertionError(f"{type(exc).__name__}: {exc}\n  {command}") from exc


@uncollected()
def _staged(shape: str, play: Callable[[Stage, Doom], Awaitable[T]]) -> T:
    found = SHAPES[shape]

    async def whole() -> T:
        with (
            scratch() as place,
            pytest.MonkeyPatch.context() as patch,
            anyio.fail_after(ENDS_S),
        ):
            found.ask(patch)
            async with staged(
                place, patch, found.sites, found.plan, extra=RETRIES, watch=CALM
            ) as stage:
                return await play(stage, Doom(stage, patch))

    return run_virtual(whole)


# --- by hand --------------------------------------------------------------------------------


def _tried(point: tuple[str, int]) -> tuple[int, str]:
    """Return how many deaths a story had, and what was wrong with it."""
    logs.configure(verbosity=-1, stream=io.StringIO())
    try:
        return died_at(*point).deaths, ""
    except AssertionError as exc:
        return 0, str(exc)


def main() -> int:
    """Die at every step of every shape, or at one; return 1 if something was wrong."""
    parser = argparse.ArgumentParser(prog="make simulate-crashes")
    parser.add_argument("at", nargs="?", help="SHAPE:STEP; all of them by default")
    chosen = parser.parse_args()
    if chosen.at:
        shape, _, step = chosen.at.partition(":")
        points = [(shape, int(step))]
    else:
        points = [(shape, step + 1) for shape in SHAPES for step in range(steps_of(shape))]
    deaths, wrong = 0, 0
    with ProcessPoolExecutor() as pool:
        for died, why in pool.map(_tried, points, chunksize=4):
            deaths += died
            if why:
                wrong += 1
                print(why, flush=True)
    print(f"{len(points)} stories, {deaths} deaths, {wrong} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
