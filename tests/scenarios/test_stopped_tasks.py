"""A task that is late, or of a run that is to end at once, is asked to stop: once, and observed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.app.unmount import release_leftovers
from orchestrator.core.events import Event, TaskStopAsked
from orchestrator.core.lifecycle import MountRecord
from orchestrator.engine.run import Run
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, drill, staged
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio

LIMIT_S = 60.0
SHORT = "defaults: {timeouts: {mount: 60s}}\n"
STUCK_S = 900.0
NAME = "hq-app0000"
ANSWERS = ("ended", "vanished", "refused", "goes_on")


def stuck(**knobs: Any) -> Site:
    """Return a server with one machine whose mount takes longer than anybody waits for it."""
    behaviour = Behaviour(operation_finished_share=0.0, **knobs)
    return Site(machines=1, backup_servers=1, mount_s=STUCK_S, behaviour=behaviour)


def stop_of(done: Drill) -> dict[str, Any]:
    """Return what the report says of the request that the machine's task stops."""
    stop: dict[str, Any] = done.target(NAME)["attempts"][-1]["stop"]
    return stop


async def test_a_late_task_that_ends_and_mounts_nothing_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is open: its own word says so, and so do the point's mounts for as long again."""
    done = await drill(tmp_path, monkeypatch, [stuck(task_stop="ended")], extra=SHORT)

    target = done.target(NAME)
    assert (target["result"], target["mount"]) == ("failed", "none")
    assert (stop_of(done)["answer"], stop_of(done)["seen"]) == ("accepted", "ended")
    assert "asked to stop" in target["message"]
    assert done.outcome.code == 1
    assert len(done.truth.stops) == 1
    assert 2 * LIMIT_S <= done.took_s < 2 * LIMIT_S + 30


@pytest.mark.parametrize("leaves_mount", [True, False])
async def test_a_late_task_that_vanishes_and_mounts_nothing_yet_is_unknown(
    leaves_mount: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has said that it stopped: it may only be missing in the list, and mount something."""
    site = stuck(task_stop="vanished", cancel_leaves_mount=leaves_mount)
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT)

    target = done.target(NAME)
    assert (target["result"], target["mount"]) == ("unknown", "unknown")
    assert (stop_of(done)["answer"], stop_of(done)["seen"]) == ("accepted", "vanished")
    assert "asked to stop and is gone" in target["message"]
    assert done.outcome.code == 3
    assert len(done.truth.stops) == 1
    assert 2 * LIMIT_S <= done.took_s < 2 * LIMIT_S + 30


@pytest.mark.parametrize("answer", ["refused", "goes_on"])
async def test_a_late_task_that_runs_on_is_unknown_as_without_a_stop(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was answered: it still runs, and may yet mount something."""
    done = await drill(tmp_path, monkeypatch, [stuck(task_stop=answer)], extra=SHORT)

    target = done.target(NAME)
    assert (target["result"], target["mount"]) == ("unknown", "unknown")
    said = "refused" if answer == "refused" else "accepted"
    assert (stop_of(done)["answer"], stop_of(done)["seen"]) == (said, "goes_on")
    assert done.outcome.code == 3
    assert len(done.truth.stops) == 1


@pytest.mark.parametrize("answer", ["refused", "goes_on"])
async def test_a_late_task_that_ends_after_all_is_cleaned_up(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read on, and what it has mounted is removed."""
    site = stuck(task_stop=answer)
    site.mount_s = 90.0
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT)

    target = done.target(NAME)
    assert (target["result"], target["mount"]) == ("failed", "released")
    assert stop_of(done)["seen"] == "ended"
    assert not done.truth.still_open()


@pytest.mark.parametrize("answer", ["ended", "vanished"])
@pytest.mark.parametrize("after_s", [1.0, 50.0])
async def test_a_mount_that_appears_after_its_task_is_gone_is_removed(
    answer: str, after_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two documented readings of the request cannot be told apart by its answer."""
    site = stuck(task_stop=answer, stopped_mount_after_s=after_s)
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT)

    target = done.target(NAME)
    assert (target["result"], target["mount"]) == ("failed", "released")
    assert stop_of(done)["seen"] == answer
    assert not done.truth.still_open()
    assert done.truth.mounts[0].closed_by == "unmounted"


async def test_a_mount_that_appears_later_still_is_found_before_the_logoff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looked for as long as the plan allows for a mount; the run goes on for longer."""
    site = stuck(task_stop="vanished", stopped_mount_after_s=90.0)
    other = Site("dr", machines=6, limit=1, mount_s=40.0)
    done = await drill(tmp_path, monkeypatch, [site, other], extra=SHORT)

    assert (done.target(NAME)["result"], done.target(NAME)["mount"]) == ("unknown", "released")
    assert "long after" in done.target(NAME)["message"]
    assert done.truth.mounts[0].closed_by == "unmounted"


@pytest.mark.parametrize("after_s", [None, 50.0])
async def test_the_slot_is_kept_until_no_mount_can_appear(
    after_s: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for it is mounted once the time for a mount of the stopped task is over."""
    site = stuck(task_stop="ended", stopped_mount_after_s=after_s)
    site.machines, site.limit = 2, 1
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT)

    first, second = sorted(done.truth.mounts, key=lambda fate: fate.requested_at)
    waited = second.requested_at - first.requested_at
    assert waited >= (2 * LIMIT_S if after_s is None else LIMIT_S + after_s)
    assert {each["result"] for each in done.report["targets"]} == {"failed"}


async def test_the_slot_of_a_task_that_vanished_is_never_given_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes on unseen may be open, and counts in every limit."""
    site = stuck(task_stop="vanished")
    site.machines, site.limit = 2, 1
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT)

    assert len(done.truth.mounts) == 1
    assert sorted(done.results().values()) == ["skipped", "unknown"]


async def test_a_mount_in_time_is_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a task that still runs past its time limit is asked to stop."""
    done = await drill(tmp_path, monkeypatch, [Site(machines=4, mount_s=40.0)], extra=SHORT)

    assert set(done.results().values()) == {"mounted"}
    assert not done.truth.stops


async def test_the_plan_may_say_that_no_task_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `stop_tasks: never` the task is only watched on, and at the second signal, too."""
    site = stuck()
    site.stop_tasks = "never"
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT, meanwhile=stopped_twice(90.0))

    assert done.results() == {NAME: "unknown"}
    assert not done.truth.stops
    assert "stop" not in done.target(NAME)["attempts"][-1]


def stopped_twice(at_s: float) -> Callable[[Sites, Run], Coroutine[Any, Any, None]]:
    """Return what stops a run twice then."""

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(at_s)
        run.stop("SIGINT")
        run.stop("SIGINT")

    return stop


async def test_a_mount_that_another_task_may_have_made_is_not_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One POST, two tasks: the stopped one is gone, and what is listed is the other one's."""
    seconds = iter([50.0, 5000.0])
    site = stuck(task_stop="vanished", cancel_leaves_mount=False, stopped_mount_after_s=55.0)
    site.faults = [
        Fault(kind="twice", method="POST", path="/mounts$", count=1),
        Fault(kind="forbidden", method="DELETE", path="/mounts/1$", until_s=900.0),
    ]
    async with staged(tmp_path, monkeypatch, [site], extra=SHORT) as stage:
        stage.sites.managers["hq"]._duration = lambda _point, _rng: next(seconds)
        done = await stage.run()

    assert done.target(NAME)["mount"] == "unknown"
    assert done.outcome.code == 3


# --- the second signal ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ANSWERS)
async def test_the_second_signal_asks_a_running_task_to_stop_and_names_it(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount may yet appear, and nobody waits for it: the target is unknown, the session stays."""
    site = stuck(task_stop=answer, cancel_leaves_mount=False)
    done = await drill(tmp_path, monkeypatch, [site], meanwhile=stopped_twice(30.0))

    target = done.target(NAME)
    assert (target["result"], target["mount"]) == ("unknown", "unknown")
    assert stop_of(done)["answer"] == ("refused" if answer == "refused" else "accepted")
    assert stop_of(done)["seen"] == ("goes_on" if answer == "refused" else answer)
    assert done.outcome.code == 3
    assert done.took_s < 30 + 8
    assert done.state.load_sessions(done.state.find("last"))


async def test_a_server_that_does_not_answer_the_stop_delays_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests are bounded, and mounts that are there are removed beside them."""
    silent = Fault(kind="black_hole", method="DELETE", path="/tasks/")
    slow = Fault(kind="delay", method="DELETE", path="/mounts/", seconds=1.0)
    change = taking({NAME: 5.0}, STUCK_S)
    site = Site(machines=3, mount_s=None, faults=[silent, slow], change=change)
    done = await drill(tmp_path, monkeypatch, [site], meanwhile=stopped_twice(5.9))

    assert done.took_s < 5.9 + 8
    assert done.results()[NAME] == "mounted"
    assert sorted(done.results().values()) == ["mounted", "unknown", "unknown"]
    stops = [each["attempts"][-1].get("stop") for each in done.report["targets"]]
    assert [stop["answer"] for stop in stops if stop] == ["lost", "lost"]


def taking(seconds: Mapping[str, float], else_s: float) -> Callable[[Inventory], None]:
    """Return what lets the mounts of machines take so long."""

    def change(inventory: Inventory) -> None:
        for machine in inventory.machines:
            machine.mount_s = seconds.get(machine.name, else_s)

    return change


@pytest.mark.parametrize("after_s", [None, 100.0])
async def test_unmount_after_it_waits_until_no_mount_can_appear(
    after_s: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it can say that nothing is left, and has removed what appeared meanwhile."""
    site = stuck(task_stop="ended", stopped_mount_after_s=after_s)
    extra = "defaults: {timeouts: {mount: 3m}}\n"
    async with staged(tmp_path, monkeypatch, [site], extra=extra) as stage:
        async with anyio.create_task_group() as tasks:

            def begin(run: Run) -> None:
                tasks.start_soon(stopped_twice(30.0), stage.sites, run)

            await stage.run(on_run=begin)
        done = await release_leftovers(
            stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
        )

    assert done.code == 0, done.lines
    assert not stage.sites.truth.still_open()
    assert stage.now >= 30 + (180 if after_s is None else after_s)
    assert len(stage.sites.truth.stops) == 1


async def test_unmount_says_of_a_task_that_vanished_that_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked for as long as a mount may take, and none is listed; that proves nothing."""
    async with staged(tmp_path, monkeypatch, [stuck()], extra=SHORT) as stage:
        async with anyio.create_task_group() as tasks:

            def begin(run: Run) -> None:
                tasks.start_soon(stopped_twice(30.0), stage.sites, run)

            await stage.run(on_run=begin)
        done = await release_leftovers(
            stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
        )

    assert done.code == 3, done.lines
    assert "asked to stop" in str(done.lines)


# --- at most once --------------------------------------------------------------------------------


async def test_the_intent_is_on_disk_before_the_request_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies just before it, or just after it, is followed by one that asks no more.

    At every step around the request: what the journal holds then decides.
    """
    arrived: set[bool] = set()
    for before in range(5):
        site = stuck(task_stop="goes_on")
        place = tmp_path / str(before)
        place.mkdir()
        async with staged(place, monkeypatch, [site], extra=SHORT) as stage:
            doom = Doom(stage, monkeypatch)
            died = partial(stage.run, observers=[Steps(doom, before)])
            assert await doom.lives(died) is None
            arrived.add(bool(stage.sites.truth.stops))
            await stage.resume()

        assert len(stage.sites.truth.stops) <= 1, f"asked again after dying at step {before}"
    assert arrived == {True, False}, "the process died only before, or only after the request"


class Steps:
    """Lets a process die so many steps after its intent to stop a task."""

    def __init__(self, doom: Doom, steps: int) -> None:
        """Nothing is intended yet."""
        self._doom, self._steps = doom, steps

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Count from the intent on."""
        _ = record
        if isinstance(event, TaskStopAsked):
            self._doom.dies_after(self._steps)


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "close_after", "proxy_page"])
async def test_a_request_without_an_answer_is_not_repeated(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by this program nor by its HTTP library, which repeats a DELETE of its own accord."""
    site = stuck(cancel_leaves_mount=False)
    site.faults = [Fault(kind=kind, method="DELETE", path="/tasks/", count=1)]
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT)

    carried_out = kind != "drop_before"
    assert stop_of(done)["answer"] == "lost"
    assert stop_of(done)["seen"] == ("vanished" if carried_out else "goes_on")
    assert len(done.truth.stops) == int(carried_out)
    assert done.results() == {NAME: "unknown"}


async def test_a_task_that_was_found_after_a_lost_answer_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs it names no restore point: it may be another target's, or somebody else's."""
    site = stuck()
    site.faults = [Fault(kind="drop_after", method="POST", path="/mounts$", count=1)]
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT)

    assert done.target(NAME)["attempts"][-1]["adopted"]
    assert not done.truth.stops


async def test_a_task_whose_state_is_no_longer_running_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OperationFinished: the mount is made, and only the server's data is not collected yet."""
    site = Site(
        machines=1,
        mount_s=50.0,
        behaviour=Behaviour(operation_finished_share=1.0, operation_finished_s=40.0),
    )
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT)

    assert done.target(NAME)["mount"] == "released"
    assert "took longer" in done.target(NAME)["message"]
    assert not done.truth.stops


async def test_a_read_that_took_long_says_nothing_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it shows as running may have ended meanwhile, so it is read again before the request."""
    site = stuck()
    site.mount_s = 80.0
    late = Fault(kind="late", method="GET", path=r"/tasks/task-1$", seconds=30.0, count=1)
    site.faults = [late]
    done = await drill(tmp_path, monkeypatch, [site], extra=SHORT)

    assert all(stop[3] == 0.0 for stop in done.truth.stops)
    assert done.target(NAME)["mount"] == "released"


async def test_the_mount_of_an_earlier_request_is_not_that_of_a_task_that_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused request has mounted all the same: its mount is removed, and the task's may come."""
    lie = Fault(kind="answer_after", method="POST", path="/mounts$", count=1, status=503)
    lie = replace(lie, body="service")
    site = Site(
        machines=1,
        backup_servers=1,
        behaviour=Behaviour(task_stop="goes_on", purge_finished_after=0.0),
        faults=[lie],
    )

    async def stop(run: Run) -> None:
        await anyio.sleep(120.0)
        run.stop("SIGTERM")
        run.stop("SIGTERM")

    def begin(run: Run) -> None:
        tasks.start_soon(stop, run)

    async with staged(tmp_path, monkeypatch, [site]) as stage:
        seconds = iter([5.0, STUCK_S])
        manager = stage.sites.managers["hq"]
        monkeypatch.setattr(manager, "_duration", lambda _point, _rng: next(seconds))
        async with anyio.create_task_group() as tasks:
            done = await stage.run(on_run=begin)

    assert [each.closed_by for each in done.truth.mounts] == ["unmounted", None]
    assert done.target(NAME)["mount"] == "unknown"
    assert done.outcome.code == 3
