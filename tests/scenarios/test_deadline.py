"""Plans with a deadline: by then everything is unmounted, by the servers' truth.

Each plan is drawn from a seed: servers, limits, waves, times of mounts, checks' time limits, holds,
and whether earlier runs have shown how long each machine takes. The same plan is carried out once
more as if there was always time, which shows how much could have been done.
"""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from orchestrator.core.model import MountKey, MountRequest
from orchestrator.engine.run_deadline import SHARE, RunDeadline
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.inventory import Point
from orchestrator.simulator.truth import MountFate
from tests.scenarios.drill import Drill, Site, drill, staged

pytestmark = pytest.mark.anyio

SEEDS = int(os.environ.get("DEADLINE_SEEDS", "60"))
"""Each is a plan of its own; `DEADLINE_SEEDS=200` tries more."""
IN_ONE_TEST = 10

UNMOUNT_S = 60.0
"""The time limit of unmounts."""


class Story(Struct):
    """A plan, its servers, and how long their machines take to be mounted."""

    sites: Sequence[Site]
    text: str
    deadline: float
    has_history: bool
    median: float
    longest: float
    spread: float
    choices: dict[str, Any]

    @property
    def reserve(self) -> float:
        """How many seconds are left for the unmount, by the rule."""
        return min(UNMOUNT_S, SHARE * self.deadline)

    def seconds(self, site: str, point: Point, run: int) -> float:
        """Return how long a mount of the point takes in a run, never longer than its time limit."""
        of_machine = random.Random(f"{site}/{point.machine.name}")
        typical = self.median * of_machine.lognormvariate(0.0, 0.7)
        this_time = random.Random(f"{site}/{point.name}/{run}").uniform(
            1 / self.spread, self.spread
        )
        return min(typical * this_time, self.longest)


def drawn(seed: int) -> Story:
    """Return the story of a seed."""
    rng = random.Random(seed)
    median = rng.choice([20.0, 60.0, 200.0])
    longest = rng.choice([3, 8]) * median
    sites = [
        Site(
            name,
            machines=rng.randint(6, 16),
            backup_servers=rng.randint(1, 4),
            limit=rng.randint(1, 6),
            behaviour=Behaviour(unmount_s=rng.choice([0.0, 2.0, 8.0]), task_stop="ended"),
        )
        for name in ("hq", "dr")[: rng.randint(1, 2)]
    ]
    machines = sum(site.machines for site in sites)
    whole = median * machines / sum(site.limit for site in sites)
    limits = rng.choice(
        ["", ", mounts: 4", ", ramp: {from: 1, every: 30s}", ", start_interval: 3s"]
    )
    deadline = round(rng.uniform(0.3, 1.5) * whole + 2 * median)
    times = f"{{mount: {longest:g}s, checks: {2 * median:g}s, unmount: {UNMOUNT_S:g}s}}"
    entries = [
        f"      - {{vm: {name}, server: {site.name}, os: {os}}}\n"
        for place, site in enumerate(sites)
        for name, os in site.listed(place)
    ]
    rng.shuffle(entries)
    cut = rng.randint(1, len(entries) - 1)
    after = rng.choice(["", "    after: [first]\n"])
    text = (
        f"limits: {{deadline: {deadline}s{limits}}}\ndefaults: {{timeouts: {times}}}\nwaves:\n"
        f"  - name: first\n    targets:\n{''.join(entries[:cut])}"
        f"  - name: second\n{after}"
        f"    targets:\n{''.join(entries[cut:])}"
    )
    choices: dict[str, Any] = rng.choice([{}, {}, {"hold": median}, {"hold": 10 * deadline}])
    return Story(
        sites, text, deadline, rng.random() < 0.5, median, longest, rng.choice([1.1, 1.4]), choices
    )


async def carried_out(
    story: Story, directory: Path, monkeypatch: pytest.MonkeyPatch, run: int, **choices: Any
) -> tuple[Drill, float]:
    """Carry the story's plan out as its run of this number; return also when its deadline is."""
    async with staged(
        directory, monkeypatch, story.sites, story.text, history=run, seed=run
    ) as stage:
        for site in story.sites:
            manager = stage.sites.managers[site.name]

            def seconds(point: Point, _rng: random.Random, name: str = site.name) -> float:
                return story.seconds(name, point, run)

            monkeypatch.setattr(manager, "_duration", seconds)
        return await stage.run(**choices), stage.began + story.deadline


def open_at(mounts: Sequence[MountFate], at: float) -> Sequence[MountFate]:
    """Return the mounts that are open at a second of the servers' clocks."""
    return [
        each
        for each in mounts
        if each.requested_at <= at and (each.closed_at is None or each.closed_at > at)
    ]


def as_if_always(patched: pytest.MonkeyPatch) -> set[MountKey]:
    """Let there always be time, as before; return the targets that the rule would have begun."""
    rule, in_time = RunDeadline.has_time, set[MountKey]()

    def always(deadline: RunDeadline, request: MountRequest) -> bool:
        if rule(deadline, request):
            in_time.add(request.key)
        return True

    patched.setattr(RunDeadline, "has_time", always)
    patched.setattr(RunDeadline, "left_for", lambda *_: math.inf)
    patched.setattr(RunDeadline, "last_moment", lambda *_: math.inf)
    return in_time


async def played(seed: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a story with its deadline, and as if there was always time; compare the two."""
    story = drawn(seed)
    if story.has_history:
        await carried_out(story, directory / "earlier", monkeypatch, 1, deadline=1e6)
    now, end = await again(story, directory, "now", monkeypatch)
    late = [(each.vm, each.closed_at) for each in open_at(now.truth.mounts, end)]
    assert not late, f"seed {seed}: open at {end}: {late}"
    with monkeypatch.context() as patched:
        in_time = as_if_always(patched)
        before, old_end = await again(story, directory, "before", patched)
    ended = {
        (each.server, each.vm)
        for each in before.truth.mounts
        if each.finished_at is not None and each.finished_at <= old_end - story.reserve
    }
    could = {key for key, where in good(before).items() if key in in_time and where in ended}
    assert len(good(now)) >= len(could), f"seed {seed}: {sorted(could - good(now).keys())}"
    skipped = [each for each in now.report["targets"] if each["result"] == "skipped"]
    assert all(each["message"].startswith(("no time: ", "the run halted")) for each in skipped)
    assert now.outcome.code == 5 or not skipped


async def again(
    story: Story, directory: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Drill, float]:
    """Carry a story out beside its other ending, with what earlier runs have shown."""
    if story.has_history:
        shutil.copytree(directory / "earlier" / "state", directory / kind / "state")
    return await carried_out(story, directory / kind, monkeypatch, 2, **story.choices)


def good(done: Drill) -> dict[str, tuple[str, str]]:
    """Return server and machine of the targets that were mounted, by key."""
    return {
        each["key"]: (each["server"], each["vm"])
        for each in done.report["targets"]
        if each["result"] == "mounted"
    }


@pytest.mark.parametrize("first", range(1, SEEDS + 1, IN_ONE_TEST))
async def test_nothing_is_mounted_at_the_deadline(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is left out that could have ended by then.

    Neither where earlier runs know the machines, nor where nothing is known.
    """
    for seed in range(first, first + IN_ONE_TEST):
        await played(seed, tmp_path / str(seed), monkeypatch)


async def test_a_mount_that_runs_into_the_reserve_is_asked_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has failed, and says why. Its mount is looked for after the deadline, too: none comes."""
    site = Site(machines=1, mount_s=500.0, behaviour=Behaviour(task_stop="ended"))

    done = await drill(tmp_path, monkeypatch, [site], extra="limits: {deadline: 200s}\n")

    (mount,) = done.truth.mounts
    (target,) = done.report["targets"]
    assert mount.closed_at is not None
    assert 160.0 <= mount.closed_at < 200.0
    assert (target["result"], target["mount"]) == ("failed", "none")
    assert "longer than the 2 min 40 s that the deadline of the run left" in target["message"]
    assert done.outcome.code == 5


async def test_a_critical_target_without_time_halts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not gone wrong. What can still end goes ahead of it."""
    site = Site(machines=3, limit=1, backup_servers=1)
    names = [name for name, _ in site.listed(0)]
    entries = [f"{{vm: {name}, critical: {str(name == names[0]).lower()}}}" for name in names]
    plan = f"targets: [{', '.join(entries)}]\n"
    seconds = dict(zip(names, (300.0, 30.0, 40.0), strict=True))

    async def run(number: int, deadline: float) -> Drill:
        async with staged(tmp_path, monkeypatch, [site], plan, history=number) as stage:
            manager = stage.sites.managers["hq"]
            monkeypatch.setattr(manager, "_duration", lambda point, _: seconds[point.machine.name])
            return await stage.run(deadline=deadline)

    await run(1, 1e6)
    done = await run(2, 200.0)

    assert done.results() == {names[0]: "skipped", names[1]: "mounted", names[2]: "mounted"}
    assert done.outcome.code == 5
    assert done.report["run"]["halted"] == "deadline: no time was left for 1 target"
