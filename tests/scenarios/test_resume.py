"""Resuming: the session found again, doubts settled, and nothing mounted twice."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.core.errors import CannotResume, RunLocked, RunNotFound
from orchestrator.core.lifecycle import Phase
from orchestrator.engine.run import Run
from orchestrator.journal import RunJournal, State
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.report.as_json import render
from orchestrator.report.evidence.verifying import verify
from orchestrator.report.summary import summarize
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage, staged
from tests.virtual.sites import host

pytestmark = pytest.mark.anyio

MINUTE = 60.0


def posts(stage: Stage) -> Counter[str]:
    """Return how many mounts of each point were asked for."""
    return Counter(fate.point for fate in stage.sites.truth.mounts)


def counted(done: Drill) -> Counter[str]:
    """Return how many targets have each result."""
    return Counter(done.results().values())


async def died(stage: Stage, doom: Doom, at_s: float) -> None:
    """Kill the first process at that second."""
    assert await doom.lives(stage.run, at_s=at_s) is None


@pytest.mark.parametrize("at_s", [30.0, 70.0, 200.0])
async def test_within_ten_minutes_the_run_goes_on_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_s: float
) -> None:
    """The session is taken up; at most 2 % end as unknown, and nothing is mounted twice."""
    async with staged(tmp_path, monkeypatch, [Site(machines=60, limit=10)]) as stage:
        await died(stage, Doom(stage, monkeypatch), at_s)
        await anyio.sleep(10 * MINUTE - 5)

        done = await stage.resume()

        assert counted(done)["mounted"] >= 0.98 * 60
        assert max(posts(stage).values()) == 1
        assert stage.sites.truth.logons == 2  # new mounts are asked for in a session of one's own
        assert done.report["run"]["resumed_from"] == done.report["run"]["id"]
        assert done.outcome.code == 0
        assert not done.truth.still_open()
        assert done.truth.sessions_closed == 2


async def test_after_twenty_minutes_nobody_says_that_it_was_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was under way is unknown and named; only what was never submitted is mounted."""
    async with staged(tmp_path, monkeypatch, [Site(machines=20, limit=4)]) as stage:
        await died(stage, Doom(stage, monkeypatch), 30.0)
        begun = set(posts(stage))
        await anyio.sleep(20 * MINUTE)

        done = await stage.resume()

        by_point = {t["attempts"][0]["point_id"]: t for t in done.report["targets"]}
        assert len(begun) == 4
        assert {by_point[point]["result"] for point in begun} == {"unknown"}
        assert {by_point[point]["mount"] for point in begun} == {"unknown"}
        assert all("session is gone" in by_point[point]["message"] for point in begun)
        assert counted(done) == {"unknown": 4, "mounted": 16}
        assert max(posts(stage).values()) == 1
        assert done.outcome.code == 3
        assert stage.sites.truth.logons == 2


async def test_without_a_session_file_their_slots_wait_until_the_server_has_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token is kept, so nobody can look; the lost mounts still count against the limit."""
    async with staged(tmp_path, monkeypatch, [Site(machines=8, limit=4)]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(lambda: stage.run(session_file=False), at_s=30.0) is None
        assert not list(stage.state.glob("sessions-*"))
        await anyio.sleep(MINUTE)

        done = await stage.resume(session_file=False)

        assert counted(done) == {"unknown": 4, "mounted": 4}
        assert (
            min(fate.requested_at for fate in done.truth.mounts if fate.requested_at > 40)
            >= 15 * MINUTE
        )
        assert done.truth.peaks["server:hq"] == 4


async def test_an_unsubmitted_rest_does_not_wait_for_slots_that_nobody_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is left to mount, the report comes at once."""
    async with staged(tmp_path, monkeypatch, [Site(machines=4, limit=4)]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(lambda: stage.run(session_file=False), at_s=30.0) is None

        done = await stage.resume()

        assert counted(done) == {"unknown": 4}
        assert done.took_s < 5 * MINUTE


@pytest.mark.parametrize(
    ("answer_s", "at_s", "accepted"),
    [(20.0, 15.0, 1), (0.0, 0.2, 3)],
    ids=["an answer on its way", "answers that no commit had kept"],
)
async def test_lost_answers_are_told_apart_by_their_restore_points(
    answer_s: float,
    at_s: float,
    accepted: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """POSTs that were accepted while the process died are found, and none is repeated."""
    slow = [Fault(kind="drip", path="/mounts$", method="POST", seconds=answer_s)]
    async with staged(tmp_path, monkeypatch, [Site(machines=3, faults=slow)]) as stage:
        await died(stage, Doom(stage, monkeypatch), at_s)
        left = State(stage.state).replay(State(stage.state).summary("last").run)
        assert sum(posts(stage).values()) == accepted
        doubtful = [each for each in left.records.values() if each.phase is Phase.SUBMITTING]
        assert len(doubtful) <= 1  # the intent is recorded while nobody else may post
        await anyio.sleep(30.0)
        stage.sites.faces["hq"].faults.faults.clear()

        done = await stage.resume()

        assert counted(done) == {"mounted": 3}
        assert posts(stage) == {fate.point: 1 for fate in done.truth.mounts}
        assert len(done.truth.mounts) == 3


@pytest.mark.parametrize("held_s", [38.0, 100.0, 170.0])
async def test_a_request_that_a_proxy_held_back_past_a_death_is_not_repeated(
    held_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its slot, others are asked for within 15 s, and no point is mounted twice."""
    held = Fault(kind="held", path="/mounts$", method="POST", seconds=held_s, count=1)
    site = Site(machines=4, limit=2, mount_s=30.0, faults=[held])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        await died(stage, Doom(stage, monkeypatch), 5.0)
        resumed_at = stage.now

        done = await stage.resume()

        others = [fate for fate in done.truth.mounts if fate.requested_at != pytest.approx(held_s)]
        assert counted(done) == {"mounted": 4}
        assert len(done.truth.mounts) == 4
        assert min(fate.requested_at for fate in others) - resumed_at < 15.0
        assert not done.truth.still_open()


async def test_a_second_death_does_not_forget_what_the_first_resume_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks of mounts that were found again are nobody's doubt in a later process."""
    dripping = Fault(kind="drip", path="/mounts$", method="POST", skip=3, seconds=20.0)
    site = Site(machines=6, limit=3, mount_s=30.0, faults=[dripping])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        doom = Doom(stage, monkeypatch)
        await died(stage, doom, 0.2)
        assert await doom.lives(stage.resume, at_s=60.0) is None
        assert sum(posts(stage).values()) > 3
        await anyio.sleep(30.0)
        stage.sites.faces["hq"].faults.faults.clear()

        done = await stage.resume()

        assert counted(done) == {"mounted": 6}
        assert len(done.truth.mounts) == 6


async def test_a_stopped_run_goes_on_and_removes_what_it_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled targets are mounted; unknown ones stay unknown, but nothing of them stays open."""
    async with staged(tmp_path, monkeypatch, [Site(machines=12, limit=4)]) as stage:

        def stop_twice(run: Run) -> None:
            async def soon() -> None:
                await anyio.sleep(30)
                run.stop("SIGTERM")
                await anyio.sleep(1)
                run.stop("SIGTERM")

            tasks.start_soon(soon)

        async with anyio.create_task_group() as tasks:
            first = await stage.run(on_run=stop_twice)
        assert counted(first) == {"unknown": 4, "cancelled": 8}
        assert first.truth.still_open()

        done = await stage.resume()

        assert counted(done) == {"unknown": 4, "mounted": 8}
        assert not done.truth.still_open()
        assert {target["mount"] for target in done.report["targets"]} == {"released"}
        assert max(posts(stage).values()) == 1

        again = await stage.resume(retry_failed=True)

        assert counted(again) == {"mounted": 12}
        assert again.outcome.code == 0


async def test_only_retry_failed_mounts_again_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it nothing is sent at all; with it just the failed one is tried once more."""
    broken = "the backup file cannot be read"

    def let_one(inventory: Inventory, fails: str | None) -> None:
        for point in inventory.machines[0].points:
            point.fails = fails

    retries = "defaults: {retries: {attempts: 1}}\n"
    site = Site(machines=4, change=lambda inventory: let_one(inventory, broken))
    async with staged(tmp_path, monkeypatch, [site], extra=retries) as stage:
        first = await stage.run()
        assert counted(first) == {"mounted": 3, "failed": 1}
        asked = sum(stage.sites.truth.requests.values())

        idle = await stage.resume()

        assert idle.outcome.nothing_left
        assert idle.outcome.code == first.outcome.code == 1
        assert sum(stage.sites.truth.requests.values()) == asked
        assert idle.report == first.report

        let_one(stage.sites.managers["hq"].inventory, None)
        again = await stage.resume(retry_failed=True)

        assert counted(again) == {"mounted": 4}
        assert sorted(posts(stage).values()) == [1, 1, 1, 2]
        assert again.outcome.code == 0


async def test_a_report_that_is_the_only_record_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run did after its journal broke is in its report only: a resume reports beside it."""
    append = RunJournal._write

    def failing(journal: RunJournal, *rows: Any) -> None:
        if anyio.current_time() > 30.0:
            raise sqlite3.OperationalError("database or disk is full")
        append(journal, *rows)

    async with staged(tmp_path, monkeypatch, [Site(machines=4, limit=2)]) as stage:
        monkeypatch.setattr(RunJournal, "_write", failing)
        broken = await stage.run()
        assert broken.outcome.code == 74
        assert counted(broken)["mounted"] > 0
        kept = {path: path.read_bytes() for path in broken.outcome.written}
        assert kept
        monkeypatch.setattr(RunJournal, "_write", append)

        again = await stage.resume()
        idle = await stage.resume()

    beside = broken.outcome.directory.with_name(f"{broken.outcome.directory.name}.2")
    for done in (again, idle):
        assert done.outcome.directory == beside
        assert f"the report in {broken.outcome.directory} has what" in str(done.outcome.trouble)
        assert done.outcome.code == 3
    assert verify(beside).is_good
    assert {path: path.read_bytes() for path in kept} == kept


async def test_an_internal_error_leaves_a_report_that_the_journal_can_give_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is in it but what was recorded: it has its evidence, and is no only record."""

    execute = Run.execute

    async def fails(run: Run) -> int:
        await execute(run)
        raise RuntimeError("no such luck")

    monkeypatch.setattr(Run, "execute", fails)
    async with staged(tmp_path, monkeypatch, [Site(machines=1)]) as stage:
        done = await stage.run()

    assert done.outcome.code == 70
    assert done.report["run"]["journal_head"] == done.state.chain_head(done.state.find("last"))
    assert verify(done.outcome.directory).is_good


async def test_targets_of_a_server_that_was_silent_are_found_by_the_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood for unlisted machines gives way to the machines; the others are left alone."""
    extra = "limits: {outage: 5m}\n"
    sites = [Site("hq", machines=3), Site("dr", machines=3)]
    async with staged(tmp_path, monkeypatch, sites, extra=extra) as stage:
        stage.sites.network.refusing.add(host("dr"))
        first = await stage.run()
        assert counted(first) == {"mounted": 3, "skipped": 3}
        stage.sites.network.refusing.discard(host("dr"))

        done = await stage.resume()

        assert counted(done) == {"mounted": 6}
        assert done.report["totals"]["targets"] == 6
        assert done.outcome.code == 0


async def test_targets_that_had_no_point_keep_what_the_plan_asks_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks and objectives hold for a target whose server was silent when it was planned."""
    plan = (
        "checks: {system: [{path: 'C:\\Windows'}]}\n"
        "limits: {outage: 5m}\nobjectives: {rpo: 1d}\n"
        "targets:\n  - {vm: hq-app0000, checks: [system]}\n  - {vm: hq-web0002}\n"
    )
    async with staged(tmp_path, monkeypatch, [Site("hq")], plan) as stage:
        stage.sites.network.refusing.add(host("hq"))
        first = await stage.run()
        assert counted(first) == {"skipped": 2}
        stage.sites.network.refusing.discard(host("hq"))

        done = await stage.resume()

        assert done.results() == {"hq-app0000": "verified", "hq-web0002": "mounted"}
        assert [list(each["objectives"]) for each in done.report["targets"]] == [["rpo"], ["rpo"]]
        assert done.outcome.code == 0


async def test_a_guard_counts_what_an_earlier_process_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One over several servers is judged over all of them, whichever was silent at first."""
    plan = "limits: {outage: 5m}\ntargets:\n  - {from_file: machines.csv, expect: {max: 3}}\n"
    rows = "".join(f"{s}-{m},{s}\n" for s in ("hq", "dr") for m in ("app0000", "sql0001"))
    (tmp_path / "machines.csv").write_text(f"vm,server\n{rows}")
    async with staged(tmp_path, monkeypatch, [Site("hq"), Site("dr")], plan) as stage:
        stage.sites.network.refusing.add(host("dr"))
        assert counted(await stage.run()) == {"mounted": 2, "skipped": 2}
        stage.sites.network.refusing.clear()

        done = await stage.resume()

        assert counted(done) == {"mounted": 2, "skipped": 2}
        assert "matches 4 machines" in done.report["run"]["halted"]
        assert done.outcome.code == 5


async def test_a_broken_guard_holds_for_every_later_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stopped the run before anything was mounted is not forgotten by a resume."""
    plan = "targets:\n  - {vm: hq-app0000}\n  - {match: 'hq-s*', expect: {max: 0}}\n"
    async with staged(tmp_path, monkeypatch, [Site("hq")], plan) as stage:
        first = await stage.run()
        assert first.outcome.code == 4

        for done in [await stage.resume(), await stage.resume(retry_failed=True)]:
            assert not stage.sites.truth.mounts
            assert set(done.results().values()) == {"skipped"}
            assert done.report["run"]["halted"] == first.report["run"]["halted"]
            assert done.outcome.code == 4


async def test_a_resume_may_die_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three deaths in a row change nothing: every mount is made once, proven and removed."""
    async with staged(tmp_path, monkeypatch, [Site(machines=20, limit=4)]) as stage:
        doom = Doom(stage, monkeypatch)
        await died(stage, doom, 40.0)
        for minutes in (5, 10):
            await anyio.sleep(minutes * MINUTE - stage.now)
            assert await doom.lives(stage.resume, at_s=stage.now + 40.0) is None
        await anyio.sleep(MINUTE)

        done = await stage.resume()

        assert counted(done) == {"mounted": 20}
        assert max(posts(stage).values()) == 1
        assert stage.sites.truth.logons == 4  # one for each process
        assert done.truth.sessions_closed == 4
        assert not done.truth.still_open()


async def test_the_report_of_a_resumed_run_can_be_rebuilt_from_the_journal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fold over all processes gives the very bytes that the last one wrote."""
    async with staged(tmp_path, monkeypatch, [Site(machines=6, limit=2)]) as stage:
        await died(stage, Doom(stage, monkeypatch), 100.0)
        done = await stage.resume()

        run = done.state.find("last")
        rebuilt = render(summarize(done.state.replay(run), chain_head=done.state.chain_head(run)))

        assert rebuilt == (tmp_path / "report" / "report.json").read_text()


async def test_the_wall_clock_may_jump_back_between_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own clock never does: no phase is negative."""
    async with staged(tmp_path, monkeypatch, [Site(machines=6, limit=2)]) as stage:
        await died(stage, Doom(stage, monkeypatch), 100.0)
        stage.began += 3600.0

        done = await stage.resume()

        seconds = [s for target in done.report["targets"] for s in target["phases_s"].values()]
        assert min(seconds) >= 0
        assert counted(done) == {"mounted": 6}


async def test_a_plan_that_was_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is finished with the plan it was begun with, or not at all; nothing is sent."""
    async with staged(tmp_path, monkeypatch, [Site(machines=2)]) as stage:
        await died(stage, Doom(stage, monkeypatch), 30.0)
        asked = sum(stage.sites.truth.requests.values())
        old = stage.loaded
        stage.loaded = replace(old, sha256="0" * 64)

        with pytest.raises(CannotResume, match="--plan"):
            await stage.resume()

        assert sum(stage.sites.truth.requests.values()) == asked
        stage.loaded = old
        assert counted(await stage.resume()) == {"mounted": 2}


async def test_an_inventory_file_that_was_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are the plan's targets: others would be mounted, or some never again named."""
    plan = "targets:\n  - {from_file: machines.csv}\n"
    (tmp_path / "machines.csv").write_text("vm\nhq-app0000\nhq-sql0001\n")
    async with staged(tmp_path, monkeypatch, [Site("hq")], plan) as stage:
        stage.sites.network.refusing.add(host("hq"))
        assert counted(await stage.run()) == {"skipped": 2}
        stage.sites.network.refusing.clear()
        old = stage.loaded
        assert isinstance(old, LoadedPlan)
        stage.loaded = replace(old, inventory_sha256={"machines.csv": "0" * 64})

        with pytest.raises(CannotResume, match="inventory files"):
            await stage.resume()

        assert not stage.sites.truth.mounts
        stage.loaded = old
        assert counted(await stage.resume()) == {"mounted": 2}


async def test_what_nobody_confirmed_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that died while it asked mounted nothing, and a resume does not take the answer."""
    slow = [Fault(kind="delay", seconds=60.0, count=1, skip=1)]
    async with staged(tmp_path, monkeypatch, [Site(machines=2, faults=slow)]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(lambda: stage.run(confirm=lambda *_: True), at_s=5.0) is None

        with pytest.raises(CannotResume, match="confirmed"):
            await stage.resume()

        assert not stage.sites.truth.mounts


async def test_an_error_before_the_crash_still_skips_what_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a wave's `on_error` says holds for the resumed run, until the failed one is retried."""

    def fails(inventory: Inventory) -> None:
        for point in inventory.machine("hq-sql0001").points:
            point.fails = "Failed."

    plan = (
        "waves:\n  - {name: first, on_error: skip_dependents, targets: [{vm: hq-sql0001}]}\n"
        "  - {name: slow, targets: [{vm: hq-app0000}]}\n"
        "  - {name: last, after: [first, slow], targets: [{vm: hq-web0002}]}\n"
    )
    async with staged(tmp_path, monkeypatch, [Site(change=fails, mount_s=60.0)], plan) as stage:
        await died(stage, Doom(stage, monkeypatch), 30.0)
        done = await stage.resume()

        assert done.results() == {
            "hq-sql0001": "failed", "hq-app0000": "mounted", "hq-web0002": "skipped",
        }  # fmt: skip
        for point in stage.sites.managers["hq"].inventory.machine("hq-sql0001").points:
            point.fails = None
        done = await stage.resume(retry_failed=True)
        assert set(done.results().values()) == {"mounted"}


async def test_a_run_that_still_goes_on_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of the plan is held by the living process."""
    async with staged(tmp_path, monkeypatch, [Site(machines=2)]) as stage:

        async def meddle() -> None:
            await anyio.sleep(30.0)
            with pytest.raises(RunLocked, match="being run already"):
                await stage.resume()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(meddle)
            done = await stage.run()

        assert counted(done) == {"mounted": 2}


async def test_there_must_be_a_run_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that died before its first record was durable left no run behind."""
    async with staged(tmp_path, monkeypatch, [Site(machines=2)]) as stage:
        assert await Doom(stage, monkeypatch).lives(stage.run, at_step=1) is None

        with pytest.raises(RunNotFound):
            await stage.resume()
