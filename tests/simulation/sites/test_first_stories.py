"""Two workers, one plan: calm, and with each fault by itself; the servers are the witness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import ServerName
from orchestrator.core.sites import Ask
from orchestrator.simulator.inventory import REPLICAS
from tests.captured import captured_logs
from tests.scenarios.drill import Site
from tests.simulation.sites.judging import judged, results, takeover_s
from tests.simulation.sites.processes import Freeze, run_processes
from tests.simulation.sites.stage import RUN, Stage, StagedWorker, staged

HQ, DR = ServerName("hq"), ServerName("dr")
SERVERS = (Site("hq", machines=6, limit=3), Site("dr", machines=4, limit=3))
LIMITED = "limits: {mounts: 4}\n"
TAKEN_WITHIN_S, NEXT_WITHIN_S = 10.0, 15.0

Fault = Callable[[Stage, StagedWorker], Awaitable[None]]


def in_waves() -> str:
    """Return targets in two waves: those of hq, and then those of dr."""
    rows = [
        "".join(
            f"      - {{vm: {name}, server: {server.name}, os: {os}}}\n" for name, os in machines
        )
        for server, machines in ((each, each.listed(at)) for at, each in enumerate(SERVERS))
    ]
    return (
        f"waves:\n  - name: first\n    targets:\n{rows[0]}"
        f"  - name: second\n    after: [first]\n    targets:\n{rows[1]}"
    )


def told(
    fault: Fault | None = None, *, workers: int = 2, **staging: Any
) -> tuple[dict[str, Any], Stage, float]:
    """Return the report of a run over some workers, its stage, and when the fault struck.

    It strikes the worker that serves hq, while mounts are open there.
    """

    async def story() -> tuple[dict[str, Any], Stage, float]:
        struck_at = 0.0
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, SERVERS, **{"extra": LIMITED, **staging}) as stage:
                for name in ("anna", "bert")[:workers]:
                    stage.begin(name, "main")
                if fault is not None:
                    await stage.until(lambda: stage.sites.truth.open_now["server:hq"] >= 2)
                    struck_at = stage.loop.now
                    await fault(stage, serving(stage, HQ))
                await stage.over()
                return judged(stage), stage, struck_at

    return run_processes(story)


@contextmanager
def no_errors() -> Iterator[None]:
    """Check that nothing is logged as an error: to be taken over is none."""
    with captured_logs() as logs:
        yield
    errors = [each for each in logs if each["log_level"] == "error"]
    assert not errors, errors[0]


def serving(stage: Stage, server: ServerName) -> StagedWorker:
    """Return the worker that has the lease of a server."""
    holder = stage.database.tables.shards[RUN, server].worker
    return next(each for each in stage.workers if each.id == holder)


def epochs(stage: Stage, server: ServerName = HQ) -> list[int]:
    """Return the epochs in which the chain of a server was written."""
    return sorted({epoch for _, epoch in stage.database.tables.events[RUN, server]})


def test_two_workers_carry_out_a_run() -> None:
    """Its limit over both is kept, every target is mounted, and nothing is left."""
    report, stage, _ = told()

    assert results(report) == {"mounted": 10}
    assert report["run"]["exit_code"] == 0
    assert stage.sites.truth.peaks["total"] == 4
    assert stage.sites.truth.logons == 2


def test_a_wave_waits_for_one_on_another_server() -> None:
    """No target of the second is asked for before all of the first have their results."""
    report, stage, _ = told(plan=in_waves(), extra="")

    assert results(report) == {"mounted": 10}
    mounts = stage.sites.truth.mounts
    last = max(fate.closed_at or 0.0 for fate in mounts if fate.server == "hq")
    assert min(fate.requested_at for fate in mounts if fate.server == "dr") >= last


def test_a_worker_that_is_killed_is_taken_over() -> None:
    """Its sessions are taken up, its mounts proven and removed; nothing is asked for twice."""

    async def kill(stage: Stage, worker: StagedWorker) -> None:
        stage.kill(worker)

    report, stage, at = told(kill)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1, 2]
    taken, taken_up, _ = takeover_s(stage, "hq", at)
    assert 0 < taken <= taken_up <= TAKEN_WITHIN_S


@pytest.mark.parametrize("moment", ["granted", "posted", "answered", "accepted"])
def test_the_next_mount_comes_soon_after_a_death(moment: str) -> None:
    """In a session of its own, whatever became of the request of who died."""

    async def story() -> tuple[dict[str, Any], float]:
        died: list[float] = []
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [Site("hq", machines=6, limit=3)]) as stage:

                def kill(came_to: str, name: str) -> None:
                    if came_to == moment and not died:
                        died.append(stage.loop.now)
                        stage.kill(next(each for each in stage.workers if each.id == name))

                stage.witness.on_moment = kill
                stage.begin("anna", "main")
                stage.begin("bert", "main")
                await stage.over()
                return judged(stage), takeover_s(stage, "hq", died[0])[2]

    report, asked_after = run_processes(story)

    assert results(report) == {"mounted": 6}
    assert asked_after <= NEXT_WITHIN_S


@pytest.mark.parametrize("how", Freeze)
def test_a_worker_that_is_frozen_for_long_sends_nothing_more(how: Freeze) -> None:
    """It wakes up after it was taken over; the witness sees every request."""

    async def freeze(stage: Stage, worker: StagedWorker) -> None:
        stage.freeze(worker, how)
        await anyio.sleep(20.0)
        worker.process.thaw()

    report, stage, at = told(freeze)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1, 2]
    assert takeover_s(stage, "hq", at)[1] <= TAKEN_WITHIN_S


def test_a_worker_that_is_frozen_for_a_moment_goes_on() -> None:
    """Nobody has taken its leases."""

    async def freeze(stage: Stage, worker: StagedWorker) -> None:
        stage.freeze(worker)
        await anyio.sleep(3.0)
        worker.process.thaw()

    report, stage, _ = told(freeze)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1]


def test_a_worker_alone_goes_on_after_it_slept() -> None:
    """It takes its own shards again, whose leases have expired, and drops what it did before."""

    async def freeze(stage: Stage, worker: StagedWorker) -> None:
        stage.freeze(worker, Freeze.SUSPENDED)
        await anyio.sleep(30.0)
        worker.links[1].cut()  # so that it looks for free shards before it can renew
        worker.process.thaw()
        await anyio.sleep(8.0)
        worker.links[1].mend()

    report, stage, _ = told(freeze, workers=1)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1, 2]


def test_a_worker_whose_loop_hangs_loses_its_shards() -> None:
    """Its leases are not renewed for a loop that does not answer."""

    async def hang(stage: Stage, worker: StagedWorker) -> None:
        worker.process.hang()
        await anyio.sleep(20.0)
        worker.process.thaw_loop()

    report, stage, at = told(hang)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1, 2]
    assert takeover_s(stage, "hq", at)[1] <= TAKEN_WITHIN_S + 3.0  # for which the loop is awaited


def test_a_worker_that_leaves_hands_over() -> None:
    """At once: the next worker goes on in its sessions."""

    async def leave(stage: Stage, worker: StagedWorker) -> None:
        worker.leave()

    report, stage, at = told(leave)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1, 2]
    assert takeover_s(stage, "hq", at)[1] <= 2.0


def test_a_worker_that_is_cut_from_the_database_is_taken_over() -> None:
    """It reads on, changes nothing, and lets go once it hears of its successor."""

    async def cut(stage: Stage, worker: StagedWorker) -> None:
        worker.cut_from_database()
        await anyio.sleep(40.0)
        worker.mend_database()

    report, stage, at = told(cut)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1, 2]
    assert takeover_s(stage, "hq", at)[1] <= TAKEN_WITHIN_S


def test_no_session_is_logged_off_before_its_end_is_recorded() -> None:
    """Whoever takes the shard over finds it, and knows that nothing is left there."""

    async def story() -> tuple[dict[str, Any], Stage]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [Site("hq", machines=2, limit=2)]) as stage:
                unmounted: list[str] = []

                def cut(came_to: str, name: str) -> None:
                    unmounted.extend([name] if came_to == "unmounting" else [])
                    if len(unmounted) == 2:
                        stage.workers[0].cut_from_database()
                        stage.witness.on_moment = lambda moment, worker: None

                stage.witness.on_moment = cut
                stage.begin("anna", "main")
                await anyio.sleep(0.5)
                stage.begin("bert", "main")
                await stage.until(lambda: len(epochs(stage)) == 2)
                stage.workers[0].mend_database()
                await stage.over()
                return judged(stage), stage

    report, stage = run_processes(story)

    assert results(report) == {"mounted": 2}
    assert report["run"]["exit_code"] == ExitCode.GOOD
    assert stage.sites.truth.sessions_closed == stage.sites.truth.logons


@pytest.mark.parametrize("seconds", [4.0, 60.0])
def test_no_worker_is_taken_over_because_the_database_was_away(seconds: float) -> None:
    """The living renew first when it is back, and nobody loses a session."""

    async def restart(stage: Stage, worker: StagedWorker) -> None:
        stage.database.stop()
        await anyio.sleep(seconds)
        assert not [at for at, *_ in stage.witness.changes if at > stage.loop.now - seconds + 6.0]
        stage.database.start()

    report, stage, _ = told(restart)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1]
    assert stage.sites.truth.logons == 2


def test_the_living_come_first_though_their_link_is_back_later() -> None:
    """Another worker sees the database first, and leaves what has expired to its holder."""

    async def fail_over(stage: Stage, worker: StagedWorker) -> None:
        stage.database.stop()
        await anyio.sleep(8.0)
        worker.links[1].cut()
        stage.database.fail_over(0)  # the standby has run for long: it knows of no restart
        await anyio.sleep(3.0)
        worker.links[1].mend()

    report, stage, _ = told(fail_over, kept=10)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1]


def test_a_mount_whose_intent_the_database_has_lost_is_named() -> None:
    """Nothing says that the session was used; its tasks do, and what they show is not touched."""

    async def lose(stage: Stage, worker: StagedWorker) -> None:
        manager = stage.sites.managers["dr"]
        (session,) = manager.sessions.values()
        unnamed = manager.inventory.machines[-1]
        manager.start_mount(session, REPLICAS, unnamed.points[0], unnamed.os, unforeseen=True)
        stage.kill(worker)

    plan = "".join(in_waves().splitlines(keepends=True)[:-2])
    report, stage, _ = told(lose, plan=plan)

    assert results(report) == {"mounted": 8, "left": 1}
    assert report["run"]["exit_code"] == ExitCode.IN_DOUBT
    (stray,) = report["strays"]
    assert (stray["server"], stray["mount_href"]) == ("dr", None)
    assert len(stage.sites.truth.still_open()) == 1


def test_a_session_that_is_gone_unused_leaves_no_token() -> None:
    """Nothing was mounted in it, so nothing is unknown: who finds it gone records its end."""

    async def lose(stage: Stage, worker: StagedWorker) -> None:
        stage.sites.managers["dr"].sessions.clear()
        stage.kill(worker)

    report, stage, _ = told(lose, plan=in_waves(), extra="")

    assert results(report) == {"mounted": 10}
    assert report["run"]["exit_code"] == ExitCode.GOOD
    assert not stage.database.tables.tokens


def test_who_has_no_room_for_a_server_conducts_all_the_same() -> None:
    """Each has taken the only server that it may, and both wait for the first wave."""

    async def story() -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, SERVERS) as stage:
                carl = stage.begin("carl", "moon", room=1)  # conducts, and serves nothing else
                await anyio.sleep(0.05)
                stage.begin("anna", "main", room=1)
                stage.begin("bert", "main", room=1)
                await stage.until(lambda: len(served_by(stage)) == 3)
                stage.kill(carl)
                await stage.over()
                return judged(stage)

    assert results(run_processes(story)) == {"mounted": 10}


def test_a_new_conductor_knows_that_a_server_has_planned() -> None:
    """It begins there, though nobody serves the other one yet, and though it never saw that."""

    async def story() -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, SERVERS, of_sites=["main", "far"]) as stage:
                carl = stage.begin("carl", "moon", room=1)  # conducts, and serves nothing else
                await anyio.sleep(0.05)
                stage.begin("anna", "main", room=1)
                await stage.until(lambda: "ShardPlanned" in kinds(stage, HQ))
                stage.kill(carl)
                mounts = stage.sites.truth.mounts
                await stage.until(lambda: sum(each.server == HQ for each in mounts) == 6, 600.0)
                stage.begin("bert", "far")
                await stage.over()
                return judged(stage)

    assert results(run_processes(story)) == {"mounted": 10}


def kinds(stage: Stage, server: ServerName) -> set[str]:
    """Return the kinds of what is in the chain of a server."""
    return {record.kind for record, _ in stage.database.tables.events.get((RUN, server), ())}


def served_by(stage: Stage) -> set[str]:
    """Return the workers that serve something."""
    return {row.worker for row in stage.database.tables.shards.values() if row.worker}


def test_a_worker_enters_again_when_a_failover_has_lost_it() -> None:
    """Or it could take nothing any more, and nobody would see it."""

    async def lose(stage: Stage, worker: StagedWorker) -> None:
        stage.database.tables.workers.clear()

    report, stage, _ = told(lose)

    assert results(report) == {"mounted": 10}
    assert len(stage.database.tables.workers) == 2


def test_a_failover_that_loses_commits_loses_no_target() -> None:
    """What the database has lost, it is given once more."""

    async def fail_over(stage: Stage, worker: StagedWorker) -> None:
        stage.database.stop()
        before = stage.database.tables
        await anyio.sleep(5.0)
        assert stage.database.fail_over(4) == 4
        stage.witness.failed_over(before, stage.database.tables)

    report, stage, _ = told(fail_over, kept=10)

    assert results(report) == {"mounted": 10}
    assert epochs(stage) == [1]


def test_a_run_that_was_stopped_before_it_began_begins_soon_after_its_resume() -> None:
    """Its targets are planned only then, and wait for the first look at what others do there."""

    async def story() -> tuple[dict[str, Any], float]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [Site("hq", machines=2, limit=2, mount_s=4.0)]) as stage:
                await stage.visitor.ask(RUN, Ask.STOP, {})
                stage.begin("first", "main")
                await stage.over()
                assert not stage.sites.truth.mounts
                resumed_at = stage.loop.now
                await stage.visitor.ask(RUN, Ask.RESUME, {"retry_failed": False})
                stage.begin("second", "main")
                await stage.over()
                return judged(stage), stage.sites.truth.mounts[0].requested_at - resumed_at

    report, waited_s = run_processes(story)
    assert results(report) == {"mounted": 2}
    assert waited_s < 5.0
