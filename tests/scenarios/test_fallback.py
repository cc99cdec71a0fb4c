"""Other restore points: tried as the plan allows, kept apart, and never more than it allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.core.events import Event, PointChosen
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import Cause, Order
from orchestrator.engine.run import Run
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from tests.scenarios.asking import CHECK, all_but, judged_by, place, searching, with_points
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, drill, staged
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio

NO_RETRY = "defaults: {retries: {attempts: 1, delay: 5s}}\n"


def one(count: int = 3, **traits: Any) -> Site:
    """Return a server with one machine of so many restore points."""
    return Site(machines=1, backup_servers=1, change=with_points(count), **traits)


def failing(places: set[int]) -> Callable[[Inventory], None]:
    """Return a change that lets the mounts of these places of the first machine fail."""

    def change(inventory: Inventory) -> None:
        for number, point in enumerate(inventory.machines[0].points):
            if number in places:
                point.fails = "Failed to mount restore point."

    return change


def restarting(at_s: float) -> Callable[[Sites, Run], Awaitable[None]]:
    """Return what happens meanwhile: the service restarts once, and forgets its sessions."""

    async def meanwhile(sites: Sites, _run: Run) -> None:
        await anyio.sleep(at_s)
        for manager in sites.managers.values():
            manager.restart()

    return meanwhile


def only_target(done: Drill) -> dict[str, Any]:
    """Return the only target of a report."""
    (target,) = done.report["targets"]
    return dict(target)


def tried(target: dict[str, Any]) -> list[str]:
    """Return the restore points that were tried, in order."""
    return list(dict.fromkeys(attempt["point_id"] for attempt in target["attempts"]))


async def test_a_failed_check_leads_to_the_next_older_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says from which point the target was verified; its RPO counts that one."""
    searching(monkeypatch, checks=(CHECK,))
    judged_by(monkeypatch, all_but(0, 1))

    done = await drill(tmp_path, monkeypatch, [one()], extra="objectives: {rpo: 1d}\n")

    target = only_target(done)
    assert (target["result"], target["mount"]) == ("verified", "released")
    assert target["point"]["fallback_depth"] == 2
    assert target["point"]["id"] == tried(target)[-1]
    assert target["point"]["policy"].endswith("2 newer points tried and not good")
    assert "older restore point" in target["message"]
    assert [attempt["verdict"] for attempt in target["attempts"]] == [
        "failed",
        "failed",
        "verified",
    ]
    (rpo,) = [each for each in done.report["objectives"] if each["kind"] == "rpo"]
    assert rpo["actual_s"] == target["point"]["age_s"]
    assert not rpo["met"]
    assert done.outcome.code == 1, "an older point misses the plan's RPO"


async def test_a_failed_mount_leads_to_the_next_older_point_after_its_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every point has as many attempts as the plan gives; no pause between points is needed."""
    searching(monkeypatch)
    site = Site(machines=1, backup_servers=1, change=failing({0, 1}), mount_s=10.0)

    done = await drill(
        tmp_path, monkeypatch, [site], extra="defaults: {retries: {attempts: 2, delay: 5s}}\n"
    )

    target = only_target(done)
    assert target["result"] == "mounted"
    outcomes = Counter((each["point_id"], each["outcome"]) for each in target["attempts"])
    newest, middle, oldest = tried(target)
    assert outcomes == {(newest, "failed"): 2, (middle, "failed"): 2, (oldest, "success"): 1}
    assert target["point"]["id"] == oldest
    assert done.outcome.code == 0


async def test_a_refused_mount_counts_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is not repeated for the same point, and leads to the next one."""
    searching(monkeypatch)
    fault = Fault(kind="forbidden", method="POST", path="/mounts$", count=1)

    done = await drill(tmp_path, monkeypatch, [one(faults=[fault])])

    target = only_target(done)
    assert [each["outcome"] for each in target["attempts"]] == ["refused", "success"]
    assert (target["result"], target["point"]["fallback_depth"]) == ("mounted", 1)


async def test_a_mount_that_takes_too_long_leads_to_the_next_older_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own mount is waited for and removed first: the machine has one mount at a time."""
    searching(monkeypatch, most=2)
    extra = "defaults: {timeouts: {mount: 30s}}\n"

    done = await drill(tmp_path, monkeypatch, [one(mount_s=50.0)], extra=extra)

    target = only_target(done)
    assert (target["result"], len(tried(target))) == ("failed", 2)
    assert "2 restore points were tried" in target["message"]
    assert not done.truth.still_open()


@pytest.mark.parametrize(
    ("on", "bad", "failed"),
    [(Cause.MOUNT_FAILED, (0,), set[int]()), (Cause.CHECK_FAILED, (), {0})],
)
async def test_only_the_causes_that_the_plan_names_lead_to_another_point(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on: Cause,
    bad: tuple[int, ...],
    failed: set[int],
) -> None:
    """The target has failed with its first choice."""
    searching(monkeypatch, on=(on,), checks=(CHECK,))
    judged_by(monkeypatch, all_but(*bad))
    site = Site(machines=1, backup_servers=1, change=failing(failed))

    done = await drill(tmp_path, monkeypatch, [site], extra=NO_RETRY)

    target = only_target(done)
    assert (target["result"], len(tried(target))) == ("failed", 1)


async def test_when_every_point_is_bad_the_target_fails_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts once against the failure budget, whatever the number of its points."""
    searching(monkeypatch, checks=(CHECK,))
    judged_by(monkeypatch, lambda request: "app0000" not in request.vm)

    done = await drill(tmp_path, monkeypatch, [Site(machines=4)], extra="limits: {failures: 1}\n")

    target = done.target("hq-app0000")
    assert (target["result"], len(tried(target))) == ("failed", 3)
    assert target["message"].endswith("3 restore points were tried, none was good")
    assert done.report["run"]["halted"] is None
    assert done.outcome.code == 1


@pytest.mark.parametrize("bad", [0, 1, 31, 32, 45, 63, 64])
async def test_bisect_finds_the_newest_good_point_of_64_in_7_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """And the report says what was assumed."""
    searching(monkeypatch, Order.BISECT, checks=(CHECK,))
    judged_by(monkeypatch, lambda request: place(request) >= bad)

    done = await drill(tmp_path, monkeypatch, [one(64)])

    target = only_target(done)
    assert len(done.truth.mounts) == len(tried(target)) <= 7
    if bad == 64:
        assert (target["result"], len(done.truth.mounts)) == ("failed", 7)
        return
    assert (target["result"], target["point"]["fallback_depth"]) == ("verified", bad)
    if bad:
        assert "assuming that every point before a good one is good" in target["point"]["policy"]
    assert target["checks"][0]["observed"] == "clean", "those of the point that was proven"


async def test_bisect_passes_over_points_that_cannot_be_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They count as bad; the good one that was found before is the answer."""
    searching(monkeypatch, Order.BISECT, checks=(CHECK,))
    judged_by(monkeypatch, lambda request: True)

    def change(inventory: Inventory) -> None:
        with_points(8)(inventory)
        failing({0, 1, 2, 3})(inventory)

    site = Site(machines=1, backup_servers=1, change=change)
    done = await drill(tmp_path, monkeypatch, [site], extra=NO_RETRY)

    target = only_target(done)
    assert (target["result"], target["point"]["fallback_depth"]) == ("verified", 4)
    assert "another restore point was tried after it" in target["message"]


async def test_a_session_lost_while_a_newer_point_is_tried_leaves_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proven stands; the mount of the other point is unknown, and the run in doubt."""
    searching(monkeypatch, Order.BISECT, checks=(CHECK,))
    judged_by(monkeypatch, all_but(0))

    done = await drill(tmp_path, monkeypatch, [one(8)], meanwhile=restarting(160.0))

    target = only_target(done)
    assert (target["result"], target["mount"]) == ("verified", "unknown")
    assert "not finished" in target["point"]["policy"]
    assert target["point"]["id"] == target["attempts"][1]["point_id"]
    assert target["attempts"][-1]["outcome"] == "unknown"
    assert done.outcome.code == 3


async def test_an_unknown_fate_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say whether the first one is mounted: no other one is mounted beside it."""
    searching(monkeypatch, checks=(CHECK,))
    judged_by(monkeypatch, all_but(0))

    done = await drill(tmp_path, monkeypatch, [one()], meanwhile=restarting(20.0))

    target = only_target(done)
    assert (target["result"], target["mount"], len(tried(target))) == ("unknown", "unknown", 1)


async def test_a_stopped_run_tries_no_further_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target has failed with the point it had, and says that the others were not tried."""
    searching(monkeypatch, checks=(CHECK,))
    judged_by(monkeypatch, lambda request: False)

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(30)
        run.stop("SIGINT")

    done = await drill(tmp_path, monkeypatch, [one()], meanwhile=stop)

    target = only_target(done)
    assert (target["result"], len(tried(target))) == ("failed", 1)
    assert "the others were not tried: the run was stopped first (SIGINT)" in target["message"]
    assert done.outcome.code == 130


async def test_the_next_point_that_has_no_time_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is about the point that was tried, not the one that was only chosen."""
    searching(monkeypatch, checks=(CHECK,))
    judged_by(monkeypatch, lambda request: False)
    plan = "limits: {deadline: 100s}\n"

    done = await drill(
        tmp_path, monkeypatch, [Site(machines=3, backup_servers=1, limit=1)], extra=plan
    )

    failed = [each for each in done.report["targets"] if each["result"] == "failed"]
    assert failed
    for target in failed:
        assert target["point"]["id"] == target["attempts"][-1]["point_id"]
        if len(tried(target)) < 3:
            assert "the others were not tried: no time" in target["message"]
    assert done.outcome.code == 5


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("late", [10.0, 1800.0])
async def test_a_killed_run_goes_on_with_the_search_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Order, late: float
) -> None:
    """Between two points nothing is mounted, so it does not matter how long nobody was there."""
    searching(monkeypatch, order, checks=(CHECK,))
    judged_by(monkeypatch, lambda request: "app0000" not in request.vm or place(request) > 1)
    site = Site(machines=2, backup_servers=1, change=with_points(8), limit=1)
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        doom = Doom(stage, monkeypatch)
        waiting = anyio.Event()

        class Watching:
            def observe(self, event: Event, record: MountRecord | None) -> None:
                if isinstance(event, PointChosen):
                    waiting.set()

        async def die_later() -> None:
            await waiting.wait()
            await anyio.sleep(5.0)  # the other machine has the only slot
            doom.die()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(die_later)
            assert await doom.lives(lambda: stage.run(observers=[Watching()])) is None
        before = len(stage.sites.truth.mounts)
        await anyio.sleep(late)
        done = await stage.resume()

    target = done.target("hq-app0000")
    assert before == 2
    assert (target["result"], target["point"]["fallback_depth"]) == ("verified", 2)
    assert len(tried(target)) == len(target["attempts"]) <= 4


async def test_retry_failed_starts_the_search_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first choice on, with all its attempts; the earlier ones stay in the report."""
    searching(monkeypatch, checks=(CHECK,))
    mended: list[bool] = []
    judged_by(monkeypatch, lambda request: bool(mended))
    async with staged(tmp_path, monkeypatch, [one()]) as stage:
        first = await stage.run()
        mended.append(True)
        again = await stage.resume(retry_failed=True)

    assert only_target(first)["result"] == "failed"
    target = only_target(again)
    assert (target["result"], target["point"]["fallback_depth"]) == ("verified", 0)
    assert len(target["attempts"]) == 4
    assert target["attempts"][-1]["point_id"] == target["attempts"][0]["point_id"]
