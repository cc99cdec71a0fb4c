"""The watcher: no task is lost, and none is taken for finished that is not."""

from __future__ import annotations

import anyio
import pytest

from orchestrator.core.errors import SessionLost
from orchestrator.core.model import ServerName, TaskId, TaskState
from orchestrator.engine.watcher import IDS_PER_READ, TaskVanished, Watcher
from tests.engine.scripted import ScriptedSession, ScriptedTask
from tests.engine.watching import EVERY_SECOND, all_finished, at_once, watching

pytestmark = pytest.mark.anyio


# --- nothing lost, nothing too early --------------------------------------------------------


@pytest.mark.parametrize("crowd", [3, IDS_PER_READ + 3], ids=["by id", "open list"])
async def test_a_task_accepted_while_a_read_is_under_way_is_not_taken_for_gone(
    crowd: int,
) -> None:
    """An answer says nothing of a task that was accepted after the question."""
    session = ScriptedSession(latency=0.5)
    old = session.begin(crowd, ends_at=20)

    async with watching(session) as watcher, anyio.create_task_group() as tasks:
        tasks.start_soon(all_finished, watcher, old)
        await anyio.sleep(1.25)  # the first read is under way
        (new,) = session.begin(1, ends_at=7, first=5000)
        found = await watcher.finished(new)
        tasks.cancel_scope.cancel()

    assert found.succeeded
    assert 7 < anyio.current_time() < 10
    assert "one" not in session.asked


async def test_operation_finished_is_not_final() -> None:
    """A task that already claims success is waited for, and told of once."""
    session = ScriptedSession()
    task = TaskId("task-1")
    session.script[task] = ScriptedTask(ends_at=9.5, claims_at=3.5, success=False)
    told: list[tuple[float, TaskState]] = []

    async with watching(session) as watcher:
        found = await watcher.finished(
            task, observe=lambda seen: told.append((anyio.current_time(), seen.state))
        )

    assert (found.state, found.succeeded) == (TaskState.FINISHED, False)
    assert told == [(4, TaskState.OPERATION_FINISHED)]
    assert anyio.current_time() == 10


@pytest.mark.parametrize("crowd", [0, IDS_PER_READ + 1], ids=["alone", "in a crowd"])
async def test_only_a_read_of_its_own_says_that_a_task_is_gone(crowd: int) -> None:
    """A task that no batch shows is asked for by itself before anybody hears of it."""
    session = ScriptedSession()
    others = session.begin(crowd, ends_at=50)

    async with watching(session) as watcher, anyio.create_task_group() as tasks:
        tasks.start_soon(all_finished, watcher, others)
        with pytest.raises(TaskVanished, match="no gone-1"):
            await watcher.finished(TaskId("gone-1"))
        tasks.cancel_scope.cancel()

    assert session.asked[-1] == "one"
    assert session.asked.count("one") == 1


async def test_a_task_that_left_the_open_list_is_finished_only_by_its_own_read() -> None:
    """Absence proves nothing: a server that hides a running task ends no wait."""
    session = ScriptedSession(hides={"open", "ids"})
    ids = session.begin(IDS_PER_READ + 1, ends_at=6.5)

    async with watching(session) as watcher:
        found = await all_finished(watcher, ids)

    assert all(task.state is TaskState.FINISHED for task in found.values())
    assert anyio.current_time() == 7


# --- ends ------------------------------------------------------------------------------------


async def test_two_sessions_know_nothing_of_each_other() -> None:
    """The same task id on two servers is two tasks, and one lost session ends only its own."""
    lost = ScriptedSession(server=ServerName("hq"))
    good = ScriptedSession(server=ServerName("dr"))
    (task,) = lost.begin(1, ends_at=3.5)
    good.begin(1, ends_at=8.5)
    lost.fails = {"ids": SessionLost("forgotten", server="hq")}
    ended: list[Exception] = []

    async def wait_in_vain(watcher: Watcher) -> None:
        with pytest.raises(SessionLost, match="forgotten"):
            await watcher.finished(task)
        with pytest.raises(SessionLost, match="forgotten"):
            await watcher.finished(task)
        ended.append(SessionLost(f"{anyio.current_time()}"))

    async def serve(watcher: Watcher) -> None:
        with pytest.raises(SessionLost):
            await watcher.serve()

    broken = Watcher(lost, EVERY_SECOND, at_once)
    async with watching(good) as watcher, anyio.create_task_group() as tasks:
        tasks.start_soon(serve, broken)
        tasks.start_soon(wait_in_vain, broken)
        found = await watcher.finished(task)

    assert found.succeeded
    assert [str(exc) for exc in ended] == ["1.0"]
    assert anyio.current_time() == 9


async def test_a_cancelled_wait_costs_no_more_reads_and_may_be_taken_up_again() -> None:
    """A target's deadline ends its own wait and nobody else's; the task stays ours."""
    session = ScriptedSession()
    impatient, patient = session.begin(2, ends_at=9.5)

    async with watching(session) as watcher, anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.finished, patient)
        with anyio.move_on_after(3.5):
            await watcher.finished(impatient)
        assert watcher.in_flight == 1
        assert impatient in watcher.claimed
        await anyio.sleep(3)
        again = await watcher.finished(impatient)

    assert again.succeeded
    assert session.sizes == [1 + (n <= 3 or n >= 7) for n in range(1, 11)]


async def test_when_watching_stops_everybody_is_told() -> None:
    """No one waits for a watcher that was cancelled, then or later."""
    session = ScriptedSession()
    first, second = session.begin(2, ends_at=99)
    told: list[str] = []

    async def wait(watcher: Watcher) -> None:
        with pytest.raises(SessionLost, match="no longer watched"):
            await watcher.finished(first)
        told.append("while waiting")

    watcher = Watcher(session, EVERY_SECOND, at_once)
    async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
        inner.start_soon(watcher.serve)
        outer.start_soon(wait, watcher)
        await anyio.sleep(2.5)
        inner.cancel_scope.cancel()

    assert told == ["while waiting"]
    with pytest.raises(SessionLost, match="no longer watched"):
        await watcher.finished(second)
