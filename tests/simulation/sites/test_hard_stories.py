"""Stories that once went wrong, each by itself: deaths in a row, slots that nobody gives back."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestrator.core.exit_codes import ExitCode
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Site
from tests.simulation.sites.judging import judged, results
from tests.simulation.sites.processes import run_processes
from tests.simulation.sites.stage import staged
from tests.simulation.sites.test_first_stories import no_errors

NEVER_GONE = Fault(kind="hollow_204", method="DELETE", path=r"/mounts/\d+$", count=1000)
"""An unmount that is confirmed, and changes nothing."""


def test_workers_that_die_one_after_another_do_not_lock_the_account() -> None:
    """Each logs on for itself; together no more often than one may."""

    async def story() -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [Site("hq", machines=8, limit=1)]) as stage:
                for number in range(9):
                    worker = stage.begin(f"worker{number}", "main")
                    await anyio.sleep(30.0)
                    stage.kill(worker)
                stage.begin("last", "main")
                await stage.over()
                assert len(stage.sites.truth.logon_attempts) > 6
                return judged(stage)

    assert results(run_processes(story)) == {"mounted": 8}


def test_the_slot_of_a_mount_that_nobody_can_reach_is_free_in_the_end() -> None:
    """Without a token its session idles out; until then it counts, and not for ever."""

    async def story() -> tuple[dict[str, Any], float]:
        servers = [Site("hq", machines=2, limit=2), Site("dr", machines=2, limit=2)]
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, servers, extra="limits: {mounts: 1}\n") as stage:
                first = stage.begin("first", "main", sealed=False)
                await stage.until(lambda: stage.sites.truth.open_now["total"] == 1)
                stage.kill(first)
                stage.begin("second", "main", sealed=False)
                await stage.over()
                return judged(stage), stage.loop.now

    report, ended_at = run_processes(story)

    assert results(report) == {"unknown": 1, "mounted": 3}
    assert report["run"]["exit_code"] == ExitCode.IN_DOUBT
    assert ended_at > 900.0


def test_the_slots_of_a_shard_that_is_done_are_free_in_the_end() -> None:
    """What it could not remove counts until its session must be forgotten."""

    async def story() -> dict[str, Any]:
        servers = [Site("hq", machines=1, faults=[NEVER_GONE]), Site("dr", machines=2)]
        extra = "limits: {mounts: 1}\ndefaults: {timeouts: {unmount: 1m}}\n"
        rows = [f"{{vm: {vm}, server: hq, os: {os}}}" for vm, os in servers[0].listed(0)]
        later = [f"{{vm: {vm}, server: dr, os: {os}}}" for vm, os in servers[1].listed(1)]
        plan = (
            "waves:\n  - name: first\n    targets:\n"
            + "".join(f"      - {row}\n" for row in rows)
            + "  - name: second\n    after: [first]\n    targets:\n"
            + "".join(f"      - {row}\n" for row in later)
        )
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, servers, extra=extra, plan=plan) as stage:
                stage.begin("only", "main")
                await stage.over()
                return judged(stage)

    report = run_processes(story)

    assert results(report) == {"mounted": 3, "left": 1}


def test_a_run_ends_whose_slots_are_all_lost() -> None:
    """Two servers have kept the only two slots: nothing is waited for that cannot come."""

    async def story() -> dict[str, Any]:
        servers = [Site(name, machines=3, faults=[NEVER_GONE]) for name in ("hq", "dr")]
        extra = "limits: {mounts: 2}\ndefaults: {timeouts: {unmount: 1m}}\n"
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, servers, extra=extra) as stage:
                stage.begin("only", "main")
                await stage.over(within_s=1800.0)
                return judged(stage)

    report = run_processes(story)

    assert report["totals"]["left"] == 2
    assert report["totals"]["skipped"] == 4
    assert "hold all of the run's slots" in str(report["targets"])


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.003, 0.006])
def test_the_token_of_a_session_that_was_ended_is_not_left_in_the_database(after_s: float) -> None:
    """Although who logged off died before it could delete it."""

    async def story() -> int:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [Site("hq", machines=1, mount_s=5.0)]) as stage:
                worker = stage.begin("first", "main")
                logging_off = anyio.Event()
                stage.witness.on_moment = lambda moment, _: (
                    logging_off.set() if moment == "logging_off" else None
                )
                await logging_off.wait()
                await anyio.sleep(after_s)
                stage.kill(worker)
                stage.begin("second", "main")
                await stage.over()
                assert results(judged(stage)) == {"mounted": 1}
                return len(stage.database.tables.tokens)

    assert run_processes(story) == 0


def test_a_session_that_nobody_can_take_up_is_not_kept_alive() -> None:
    """A frozen worker without a key wakes up late, and asks for nothing before it knows.

    Its session would live on, with a mount that no limit counts any more.
    """

    async def story() -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [Site("hq", machines=2, limit=1)]) as stage:
                first = stage.begin("first", "main", sealed=False)
                await stage.until(lambda: stage.sites.truth.open_now["server:hq"] == 1)
                stage.freeze(first)
                stage.begin("second", "main", sealed=False)
                await anyio.sleep(600.0)
                first.process.thaw()
                await stage.over()
                return judged(stage)

    assert results(run_processes(story)) == {"unknown": 1, "mounted": 1}


def test_a_database_that_is_away_for_too_long_is_told_with_what_is_mounted() -> None:
    """Once each time, by each worker; nothing is unmounted for that."""

    async def story() -> tuple[list[list[str]], int]:
        told: list[list[str]] = []
        extra = "limits: {outage: 3m}\n"
        with pytest.MonkeyPatch.context() as patch:
            async with staged(patch, [Site("hq", machines=2, mount_s=900.0)], extra=extra) as stage:
                worker = stage.begin("only", "main")
                worker.worker._on_long_away = lambda lines: told.append(list(lines))
                await stage.until(lambda: stage.sites.truth.open_now["total"] == 2)
                await anyio.sleep(30.0)
                for _ in "12":
                    stage.database.stop()
                    await anyio.sleep(170.0)
                    before = len(told)
                    await anyio.sleep(60.0)
                    assert (before, len(told)) in {(0, 1), (1, 2)}
                    stage.database.start()
                    await anyio.sleep(30.0)
                mounted = stage.sites.truth.open_now["total"]
                await stage.over()
                return told, mounted

    told, mounted = run_processes(story)

    assert [len(each) for each in told] == [2, 2]
    assert all(line.startswith("hq: ") and ", task " in line for line in told[0])
    assert mounted == 2
