"""How the watcher reads: few requests, and only in ways that the server was seen to support."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import anyio
import pytest

from orchestrator.core.errors import (
    PageNotFound,
    RequestRefused,
    ServiceBusy,
    SessionLost,
    Unreadable,
)
from orchestrator.engine.watcher import IDS_PER_READ, Watcher
from tests.engine.scripted import ScriptedSession
from tests.engine.watching import EVERY_SECOND, all_finished, watching

pytestmark = pytest.mark.anyio


# --- few reads -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, IDS_PER_READ])
async def test_one_read_a_tick_for_all_that_fit_in_one_query(count: int) -> None:
    """Up to 140 tasks are one request a tick, and so is noticing that they finished."""
    session = ScriptedSession()
    ids = session.begin(count, ends_at=9.5)

    async with watching(session) as watcher:
        found = await all_finished(watcher, ids)

    assert all(task.succeeded for task in found.values())
    assert set(found) == set(ids)
    assert session.asked == ["ids"] * 10
    assert anyio.current_time() == 10


async def test_a_large_crowd_is_one_query_of_the_open_tasks() -> None:
    """Above 140 the read stays one a tick; those that left the list are read by their ids."""
    session = ScriptedSession()
    ids = session.begin(1000, ends_at=9.5) + session.begin(7, ends_at=4.5, first=5000)

    async with watching(session) as watcher:
        found = await all_finished(watcher, ids)

    assert len(found) == 1007
    assert session.asked[:5] == ["open"] * 5
    assert session.asked[5:11] == ["ids", *["open"] * 5]
    assert session.sizes[5] == 7
    assert session.asked[11:] == ["ids"] * 8
    assert anyio.current_time() == 10


async def test_nothing_is_asked_while_nobody_waits() -> None:
    """An idle session costs no reads, before the first task and after the last."""
    session = ScriptedSession()
    ids = session.begin(1, ends_at=100.5)

    async with watching(session) as watcher:
        await anyio.sleep(100)
        assert session.asked == []
        await all_finished(watcher, ids)
        asked = len(session.asked)
        await anyio.sleep(100)

    assert asked == 1
    assert len(session.asked) == asked
    assert watcher.in_flight == 0


# --- support is observed, never assumed -------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "hidden", "count", "instead", "reads"),
    [
        ({"ids"}, set(), 5, "open", 1),
        (set(), {"ids"}, 5, "open", 1),
        ({"ids", "open"}, set(), 5, "list", 1),
        ({"ids"}, {"open"}, 5, "list", 1),
        (set(), {"ids", "open"}, 5, "list", 1),
        ({"open"}, set(), IDS_PER_READ + 1, "ids", 2),
        ({"ids", "open"}, set(), IDS_PER_READ + 1, "list", 1),
        (set(), {"ids", "open"}, IDS_PER_READ + 1, "list", 1),
    ],
)
async def test_a_way_that_does_not_work_is_dropped_for_the_next_one(
    refused: set[str], hidden: set[str], count: int, instead: str, reads: int
) -> None:
    """After its first ticks such a server is read in the next best way, not task by task."""
    session = ScriptedSession(hides=hidden)
    session.fails = {way: RequestRefused("no such filter") for way in refused}
    ids = session.begin(count, ends_at=30.5)

    async with watching(session) as watcher, anyio.create_task_group() as tasks:
        tasks.start_soon(all_finished, watcher, ids)
        await anyio.sleep(5.5)
        session.asked.clear()
        await anyio.sleep(20)
        later = Counter(session.asked)

    assert later == {instead: 20 * reads}


async def test_a_server_on_which_nothing_works_is_read_task_by_task() -> None:
    """The last resort needs no support at all, and loses nothing."""
    session = ScriptedSession(hides={"ids", "open", "list"})
    ids = session.begin(3, ends_at=4.5)

    async with watching(session) as watcher:
        found = await all_finished(watcher, ids)

    assert all(task.succeeded for task in found.values())
    assert session.asked[-3:] == ["one"] * 3


async def test_a_list_without_a_finished_task_is_no_reason_to_drop_it() -> None:
    """The open list leaves finished tasks out by right."""
    session = ScriptedSession(fails={"ids": RequestRefused("no")})
    ids = session.begin(IDS_PER_READ + 1, ends_at=9.5) + session.begin(1, ends_at=1.5, first=900)

    async with watching(session) as watcher:
        await all_finished(watcher, ids)

    assert session.asked.count("open") == 10


@pytest.mark.parametrize("error", [SessionLost("gone"), ServiceBusy("later")])
async def test_a_server_in_trouble_is_not_one_without_support(error: Exception) -> None:
    """Trouble goes to whoever knows how to wait it out, and no way is dropped for it."""
    session = ScriptedSession()
    ids = session.begin(2, ends_at=5.5)
    met: list[Exception] = []

    async def until_it_answers(ask: Callable[[], Awaitable[None]]) -> None:
        session.fails = {} if met or anyio.current_time() < 3 else {"ids": error}
        try:
            await ask()
        except (SessionLost, ServiceBusy) as exc:
            met.append(exc)

    watcher = Watcher(session, EVERY_SECOND, until_it_answers)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.serve)
        await all_finished(watcher, ids)
        tasks.cancel_scope.cancel()

    assert met == [error]
    assert session.asked == ["ids"] * 6


async def test_a_row_that_cannot_be_read_takes_no_way_of_reading_away() -> None:
    """What a batch leaves out may be the row that was set aside; it is read alone."""
    session = ScriptedSession(set_aside_tasks=["a task without a TaskId"])
    ids = session.begin(5, ends_at=9.5)
    session.unreadable = {ids[2]}

    async with watching(session) as watcher:
        found = await all_finished(watcher, ids)

    assert all(task.succeeded for task in found.values())
    assert Counter(session.asked) == {"ids": 10, "one": 10}


@pytest.mark.parametrize("why", [Unreadable("no TaskId"), PageNotFound("a page", status=404)])
@pytest.mark.parametrize("bad", [1, 2])
async def test_a_task_whose_own_answer_is_unreadable_ends_nobodys_watching(
    bad: int, why: RequestRefused
) -> None:
    """Also where it is the only one: it is read now and then, until nobody waits any more.

    A page is no word about the task, and the server was seen to answer otherwise.
    """
    session = ScriptedSession(fails={"one": why})
    ids = session.begin(2, ends_at=5.5)
    session.unreadable = set(ids[:bad])

    async with watching(session) as watcher:
        with anyio.move_on_after(300) as waiting:
            await all_finished(watcher, ids)
        later = session.begin(1, ends_at=310.5, first=7)
        found = await all_finished(watcher, later)

    assert waiting.cancelled_caught
    assert set(found) == set(later)
    assert session.asked.count("one") < 20 * bad


async def test_several_tasks_that_are_all_refused_end_the_watching() -> None:
    """Then it is no single task's trouble, and no way of reading is left."""
    refusal = RequestRefused("no", status=400)
    session = ScriptedSession(hides={"ids", "open", "list"}, fails={"one": refusal})
    ids = session.begin(2, ends_at=9.5)

    with pytest.raises(ExceptionGroup) as ended:
        async with watching(session) as watcher:
            await all_finished(watcher, ids)

    assert refusal in ended.value.exceptions
