"""Plans with a deadline over two workers: by then everything is unmounted, by the servers' truth.

The plans are those of `tests.scenarios.test_deadline`, with their ramps, start intervals, waves and
limits of the whole run. There is no history: a shard expects what all of its mounts may take.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from orchestrator.simulator.inventory import Point
from tests.scenarios.test_deadline import Story, drawn, open_at
from tests.simulation.sites.judging import judged
from tests.simulation.sites.processes import run_processes
from tests.simulation.sites.stage import Stage, staged

SEEDS = 12
IN_ONE_TEST = 4


def played(story: Story) -> tuple[dict[str, Any], Stage, float]:
    """Return the report, the stage, and the deadline on the servers' clocks."""

    async def told() -> tuple[dict[str, Any], Stage, float]:
        with pytest.MonkeyPatch.context() as patch:
            async with staged(patch, story.sites, plan=story.text) as stage:
                for name, manager in stage.sites.managers.items():
                    patch.setattr(manager, "_duration", partial(_seconds, story, name))
                submitted_at = stage.loop.now
                for name in ("anna", "bert"):
                    stage.begin(name, "main")
                await stage.over()
                return judged(stage), stage, submitted_at + story.deadline

    return run_processes(told)


def _seconds(story: Story, name: str, point: Point, _rng: random.Random) -> float:
    return story.seconds(name, point, 1)


@pytest.mark.parametrize("first", range(1, SEEDS + 1, IN_ONE_TEST))
def test_nothing_is_mounted_at_the_deadline(first: int) -> None:
    """And what was not begun is skipped for want of time, or because the run halted."""
    for seed in range(first, first + IN_ONE_TEST):
        report, stage, end = played(drawn(seed))
        mounts = stage.sites.truth.mounts
        assert not open_at(mounts, end), f"seed {seed}: {open_at(mounts, end)}"
        skipped = [each for each in report["targets"] if each["result"] == "skipped"]
        for each in skipped:
            assert each["message"].startswith(("no time: ", "the run halted")), each["message"]
        assert report["run"]["exit_code"] == 5 or not skipped
