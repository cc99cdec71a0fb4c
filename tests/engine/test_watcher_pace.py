"""When the watcher reads: near the expected end, seldom otherwise, at once where it is asked to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio
import pytest

from orchestrator.core.model import Task, TaskId
from orchestrator.core.policy import WatchPolicy
from tests.engine.scripted import ScriptedSession
from tests.engine.watching import all_finished, watching

pytestmark = pytest.mark.anyio

WATCH = WatchPolicy()


@dataclass(slots=True)
class _Timed(ScriptedSession):
    """Remembers when each read came."""

    at: list[float] = field(default_factory=list)

    async def tasks_by_id(self, ids: Iterable[TaskId]) -> Sequence[Task]:
        """Note the time, and answer."""
        self.at.append(anyio.current_time())
        return await ScriptedSession.tasks_by_id(self, ids)


async def test_without_any_history_reads_grow_sparse() -> None:
    """Each comes when the task is twice as old, at last every `calm` seconds."""
    session = _Timed()
    ids = session.begin(4, ends_at=9.0)

    async with watching(session, WATCH) as watcher:
        await all_finished(watcher, ids)

    assert session.at == [0.25, 0.5, 1.0, 2.0, 4.0, 6.5, 9.0]


async def test_a_task_with_a_history_is_not_read_before_half_of_it() -> None:
    """Then in the usual interval."""
    session = _Timed()
    (task,) = session.begin(1, ends_at=20.0)

    async with watching(session, WATCH) as watcher:
        await watcher.finished(task, expected=24.0)

    pause = WATCH.interval(in_flight=1, expected=24.0)
    assert session.at[0] == pytest.approx(12.0 + pause)
    assert session.at[1] - session.at[0] == pytest.approx(pause)
    assert session.at[-1] < 20.0 + pause


async def test_the_time_of_a_slow_answer_counts_towards_the_pause() -> None:
    """What it shows is as old as that; so mounts on a slow server end no later than on others."""
    session = _Timed(latency=0.4)
    (task,) = session.begin(1, ends_at=20.0)

    async with watching(session, WATCH) as watcher:
        await watcher.finished(task, expected=24.0)

    pause = WATCH.interval(in_flight=1, expected=24.0)
    assert session.at[1] - session.at[0] == pytest.approx(pause)


@pytest.mark.parametrize("answer_s", [0.7, 2.0])
async def test_after_a_very_slow_answer_the_server_is_left_alone(answer_s: float) -> None:
    """For as long as it took, or for the whole pause."""
    session = _Timed(latency=answer_s)
    (task,) = session.begin(1, ends_at=20.0)

    async with watching(session, WATCH) as watcher:
        await watcher.finished(task, expected=24.0)

    pause = WATCH.interval(in_flight=1, expected=24.0)
    assert pause < 2 * answer_s
    assert session.at[1] - session.at[0] == pytest.approx(answer_s + min(pause, answer_s))


@pytest.mark.parametrize("began", [19.0, 120.0])
async def test_a_slow_answer_brings_no_read_before_half_of_the_history(began: float) -> None:
    """Not of a task that is the only one left when another has ended, nor of one much later."""
    session = _Timed(latency=3.0)
    (first,) = session.begin(1, ends_at=20.0)
    (second,) = session.begin(1, ends_at=began + 20.0, first=100)

    async with watching(session, WATCH) as watcher, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(watcher.finished, first, expected=24.0))
        await anyio.sleep(began)
        await watcher.finished(second, expected=24.0)

    seen_first = next(at for at in session.at if at >= 20.0)
    assert next(at for at in session.at if at > seen_first) >= began + 12.0


async def test_nothing_is_read_before_the_shortest_time_that_others_took() -> None:
    """What other mounts of the run took, the next one takes, too: their shortest counts."""
    session = _Timed()
    first = session.begin(8, ends_at=10.0)

    async with watching(session, WATCH) as watcher:
        await all_finished(watcher, first)
        began, session.at = anyio.current_time(), []
        second = session.begin(8, ends_at=began + 10.0, first=100)
        await all_finished(watcher, second)

    assert len(session.at) == 2
    assert session.at[0] - began >= 6.5
    assert session.at[1] - began < 10.0 + WATCH.calm


async def test_tasks_that_end_sooner_than_others_did_are_soon_looked_for_sooner() -> None:
    """A late first look lets the next ones come earlier, until some find their task unfinished."""
    session = _Timed()
    late: list[float] = []

    async with watching(session, WATCH) as watcher:
        for number, seconds in enumerate([20.0] * 3 + [8.0] * 20):
            began = anyio.current_time()
            (task,) = session.begin(1, ends_at=began + seconds, first=number)
            await watcher.finished(task)
            late.append(anyio.current_time() - began - seconds)

    assert max(late[3:5]) <= 15.0
    assert max(late[-5:]) <= WATCH.calm


async def test_a_short_task_is_not_late_because_the_others_are_long() -> None:
    """A read that was planned for later is made sooner."""
    session = _Timed()
    long = session.begin(1, ends_at=700.0)
    (short,) = session.begin(1, ends_at=53.0, first=100)

    async with watching(session, WATCH) as watcher, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: watcher.finished(long[0], expected=700.0))
        await anyio.sleep(51.0)
        await watcher.finished(short, expected=2.0)
        assert anyio.current_time() < 53.0 + 1.5
        tasks.cancel_scope.cancel()


async def test_who_asks_for_a_look_gets_it_at_once() -> None:
    """However long the pause is that was planned."""
    session = _Timed()
    (task,) = session.begin(1, ends_at=700.0)

    async with watching(session, WATCH) as watcher, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: watcher.finished(task, expected=700.0))
        await anyio.sleep(51.0)
        await watcher.looked()
        assert anyio.current_time() < 51.5
        tasks.cancel_scope.cancel()


async def test_a_read_for_another_purpose_counts_as_a_look() -> None:
    """What it shows finished is finished, and the next read comes a whole interval later."""
    session = _Timed()
    (task,) = session.begin(1, ends_at=700.0)
    (other,) = session.begin(1, ends_at=609.9, first=100)

    async with watching(session, WATCH) as watcher, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: watcher.finished(task, expected=700.0))
        tasks.start_soon(lambda: watcher.finished(other, expected=700.0))
        await anyio.sleep(610.0)
        session.at.clear()
        assert watcher.in_flight == 2
        seen = [session.script[each].seen(each) for each in (task, other)]
        watcher.saw(seen)
        watcher.saw(seen)  # two reads were answered before the waits could end
        await anyio.wait_all_tasks_blocked()
        assert watcher.in_flight == 1
        await anyio.sleep(14.9)
        assert session.at == []
        await anyio.sleep(0.2)
        assert len(session.at) == 1
        tasks.cancel_scope.cancel()
