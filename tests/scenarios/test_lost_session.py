"""A session that ends before its closing audit: what may be open there is said, not passed over."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage, staged
from tests.scenarios.test_leftovers import kept, unmounted
from tests.virtual.sites import host

pytestmark = pytest.mark.anyio

NAMED = "whether a mount of no target is open"
SHORT = "limits: {outage: 2m}\n"


def twice() -> Fault:
    """Return a fault that lets one mount request arrive twice."""
    return Fault(kind="twice", method="POST", path="/mounts$", count=1)


def denied() -> Fault:
    """Return a fault that answers all that is asked in any session with 401, for 80 s."""
    return Fault(kind="unauthorized", path=r"^(?!.*sessionMngr)", from_s=115.0, until_s=195.0)


def two(*faults: Fault) -> list[Site]:
    """Return a server that is done after 90 s, and one that keeps the run going for longer."""
    return [Site("hq", machines=1, faults=faults), Site("dr", machines=1, mount_s=400.0)]


def restarting(stage: Stage, at_s: float) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return what lets the first server forget all its sessions."""

    async def restart() -> None:
        await anyio.sleep(at_s)
        stage.sites.managers["hq"].restart()

    return restart


async def run_beside(stage: Stage, happens: Callable[[], Coroutine[Any, Any, None]]) -> Drill:
    """Run, and let something happen meanwhile."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(happens)
        done = await stage.run()
        tasks.cancel_scope.cancel()
    return done


def all_good(done: Drill) -> bool:
    """Tell whether every target is good and released."""
    found = {(target["result"], target["mount"]) for target in done.report["targets"]}
    return found == {("mounted", "released")}


@pytest.mark.parametrize("at_s", [100.0, 250.0])
async def test_a_session_that_is_lost_with_a_mount_of_no_target_is_named(
    at_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy sent a request twice; nobody could look, so the run does not end with 0."""
    async with staged(tmp_path, monkeypatch, two(twice())) as stage:
        done = await run_beside(stage, restarting(stage, at_s))

        assert all_good(done)
        assert len(done.truth.still_open()) == 1
        assert done.outcome.code == 3
        assert NAMED in str(done.report)
        again = await unmounted(stage)
        assert again.code == 3, again.lines


async def test_a_session_that_is_lost_with_a_task_that_may_be_another_s_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost request's target has taken the task of one that was sent twice: no link says so."""
    late = Fault(kind="act_later", method="POST", path="/mounts$", count=1, seconds=5.0)
    look = Behaviour(related="absent", purge_finished_after=60.0, backup_server_slots=6)
    sites = [Site("hq", machines=2, faults=[twice(), late], behaviour=look), two()[1]]
    async with staged(tmp_path, monkeypatch, sites) as stage:
        durations = iter([200.0, 2.0, 2.0])
        stage.sites.managers["hq"]._duration = lambda _point, _rng: next(durations)
        done = await run_beside(stage, restarting(stage, 250.0))

        assert all_good(done)
        assert len(done.truth.still_open()) == 1
        assert done.outcome.code == 3
        assert NAMED in str(done.report)


async def test_a_session_that_was_idle_when_it_was_lost_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its tasks were read once after its last mount request: nothing is open there."""
    async with staged(tmp_path, monkeypatch, two()) as stage:
        done = await run_beside(stage, restarting(stage, 250.0))

        assert all_good(done)
        assert done.outcome.code == 0
        assert NAMED not in str(done.report)
        assert not kept(stage)


async def test_a_session_that_is_lost_before_its_tasks_were_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is open there, but nobody can know it."""
    async with staged(tmp_path, monkeypatch, two()) as stage:
        done = await run_beside(stage, restarting(stage, 100.0))

        assert all_good(done)
        assert done.outcome.code == 3
        assert NAMED in str(done.report)


async def test_tasks_that_were_read_before_the_last_mount_request_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session idled between two waves, and was read; the second wave's mount came later."""
    plan = (
        "waves:\n  - name: first\n    targets:\n      - {vm: hq-app0000, server: hq}\n"
        "      - {vm: dr-app0000, server: dr}\n"
        "  - name: second\n    after: [first]\n    targets:\n      - {vm: hq-sql0001, server: hq}\n"
        "      - {vm: dr-sql0001, server: dr}\n"
    )
    later = Fault(kind="twice", method="POST", path="/mounts$", skip=1, count=1)
    sites = [Site("hq", machines=2, faults=[later]), Site("dr", machines=2, mount_s=200.0)]
    async with staged(tmp_path, monkeypatch, sites, plan) as stage:

        async def restart_after_the_second() -> None:
            for _ in range(2000):
                await anyio.sleep(0.5)
                if sum(fate.closed_by is not None for fate in stage.sites.truth.mounts) == 3:
                    break
            stage.sites.managers["hq"].restart()

        done = await run_beside(stage, restart_after_the_second)

        assert all_good(done)
        (fate,) = done.truth.still_open()
        assert fate.vm == "hq-sql0001"
        assert done.outcome.code == 3
        assert NAMED in str(done.report)


async def test_a_session_that_answers_again_is_asked_once_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was denied for a while; its tasks show now that all is gone."""
    async with staged(tmp_path, monkeypatch, two(denied())) as stage:
        done = await stage.run()

        assert all_good(done)
        assert done.outcome.code == 0
        assert done.truth.requests["GET /api/tasks"] == 2  # of dr, and of the session once more
        assert not kept(stage)


async def test_a_mount_of_no_target_in_a_session_that_answers_again_is_named_and_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session stays open, and its token with it: `unmount` removes the mount there."""
    async with staged(tmp_path, monkeypatch, two(twice(), denied())) as stage:
        done = await stage.run()

        assert all_good(done)
        assert len(done.report["strays"]) == 1
        assert done.outcome.code == 3
        assert len(done.truth.still_open()) == 1

        released = await unmounted(stage)

        assert not done.truth.still_open()
        assert released.code == 0, released.lines


async def died_when_one_was_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Doom:
    """Let the run die when the first server's target is released, and its session not audited."""
    doom = Doom(stage, monkeypatch)
    assert await doom.lives(stage.run, at_s=100.0) is None
    (fate,) = (fate for fate in stage.sites.truth.mounts if fate.server == "hq" and fate.closed_at)
    assert fate.closed_by == "unmounted"
    return doom


async def test_a_session_of_an_earlier_process_that_was_never_reached_is_named_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resume ends before the server is back; `unmount` finds what is open there."""
    async with staged(tmp_path, monkeypatch, two(twice()), extra=SHORT) as stage:
        await died_when_one_was_done(stage, monkeypatch)
        stage.sites.network.refusing.add(host("hq"))

        done = await stage.resume()

        assert all_good(done)
        assert done.outcome.code == 3
        assert NAMED in str(done.report)
        assert kept(stage)
        stage.sites.network.refusing.discard(host("hq"))
        released = await unmounted(stage)
        assert not done.truth.still_open()
        assert released.code == 0, released.lines


async def test_a_session_of_an_earlier_process_that_was_forgotten_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was never audited, and nobody can do it any more."""
    async with staged(tmp_path, monkeypatch, two(twice())) as stage:
        await died_when_one_was_done(stage, monkeypatch)
        stage.sites.managers["hq"].restart()

        done = await stage.resume()

        assert all_good(done)
        assert len(done.truth.still_open()) == 1
        assert done.outcome.code == 3
        assert NAMED in str(done.report)


async def test_unmount_names_a_session_that_was_forgotten_before_it_was_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the dead run had released is no proof that nothing else is open."""
    async with staged(tmp_path, monkeypatch, two(twice())) as stage:
        await died_when_one_was_done(stage, monkeypatch)
        stage.sites.managers["hq"].restart()

        released = await unmounted(stage)

        unknown = "hq: it is unknown whether mounts are left"
        assert any(line.startswith(unknown) for line in released.lines)
        assert released.code == 3, released.lines
