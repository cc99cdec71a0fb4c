"""A task is asked to stop once, whoever serves its server afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core.sites import Ask
from orchestrator.simulator.behaviour import Behaviour
from tests.scenarios.drill import Site
from tests.simulation.sites.judging import judged, results
from tests.simulation.sites.processes import Freeze, run_processes
from tests.simulation.sites.stage import RUN, Stage, StagedWorker, staged
from tests.simulation.sites.test_first_stories import HQ, no_errors, serving

SHORT = "defaults: {timeouts: {mount: 60s}}\n"


def stuck(**knobs: Any) -> Site:
    """Return a server whose mounts take longer than anybody waits for them."""
    behaviour = Behaviour(operation_finished_share=0.0, **knobs)
    return Site("hq", machines=2, backup_servers=1, mount_s=900.0, behaviour=behaviour)


def told(site: Site, strike: Callable[[Stage, StagedWorker], None]) -> tuple[dict[str, Any], Stage]:
    """Return the report of a run in which something strikes its worker at its first stop."""

    async def story() -> tuple[dict[str, Any], Stage]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [site], extra=SHORT) as stage:
                stage.begin("anna", "main")
                stage.begin("bert", "main")
                await stage.until(lambda: bool(stage.sites.truth.stops))
                strike(stage, serving(stage, HQ))
                await stage.over()
                return judged(stage), stage

    return run_processes(story)


def kill(stage: Stage, worker: StagedWorker) -> None:
    """End a worker at once."""
    stage.kill(worker)


def freeze(stage: Stage, worker: StagedWorker) -> None:
    """Let a worker stand still until another one has its server, and for a while longer."""
    stage.freeze(worker, Freeze.STOPPED)
    stage.loop.call_later(30.0, worker.process.thaw)


@pytest.mark.parametrize("strike", [kill, freeze])
@pytest.mark.parametrize("after_s", [None, 50.0])
def test_who_takes_a_server_over_asks_no_task_to_stop_again(
    strike: Callable[[Stage, StagedWorker], None], after_s: float | None
) -> None:
    """It looks for what the stopped tasks may yet mount, removes that, and knows the end."""
    report, stage = told(stuck(task_stop="ended", stopped_mount_after_s=after_s), strike)

    truth = stage.sites.truth
    assert results(report) == {"failed": 2}
    assert len({stop[:3] for stop in truth.stops}) == len(truth.stops) == 2
    assert not truth.still_open()
    mounts = {target["mount"] for target in report["targets"]}
    assert mounts == ({"none"} if after_s is None else {"released"})


@pytest.mark.parametrize("answer", ["ended", "vanished", "refused", "goes_on"])
def test_stop_now_asks_every_running_task_to_stop(answer: str) -> None:
    """`stop RUN --now` is the second stop: the tasks are asked once, and named."""

    async def story() -> tuple[dict[str, Any], Stage]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [stuck(task_stop=answer)]) as stage:
                stage.begin("anna", "main")
                await stage.until(lambda: len(stage.sites.truth.mounts) == 2)
                await stage.visitor.ask(RUN, Ask.STOP_NOW, {})
                await stage.over(within_s=60.0)
                return judged(stage), stage

    report, stage = run_processes(story)

    assert results(report) == {"unknown": 2}
    assert len(stage.sites.truth.stops) == 2
    seen = {target["attempts"][-1]["stop"]["seen"] for target in report["targets"]}
    assert seen == {"goes_on" if answer == "refused" else answer}


def test_a_slot_of_the_run_is_free_once_nothing_can_appear() -> None:
    """And not before: a run with one slot mounts the next target then."""

    async def story() -> tuple[dict[str, Any], float, float]:
        extra = f"{SHORT}limits: {{mounts: 1}}\n"
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [stuck(task_stop="ended")], extra=extra) as stage:
                stage.begin("anna", "main")
                await stage.over()
                first, second = (fate.requested_at for fate in stage.sites.truth.mounts)
                return judged(stage), first, second

    report, first, second = run_processes(story)

    assert results(report) == {"failed": 2}
    assert second - first >= 120
