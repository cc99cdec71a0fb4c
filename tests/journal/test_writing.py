"""Writing: in order, complete, and on disk when `durable()` returns."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import anyio
import pytest

from orchestrator.core.errors import JournalError
from orchestrator.core.events import RunNoted
from orchestrator.journal import RunJournal, State
from orchestrator.journal.writing import FLUSH_EVERY
from tests.journal.sample import RUN, database, kept, mounted, note, started

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("inline", [True, False], ids=["inline", "thread"])


def commits(journal: RunJournal) -> list[str]:
    """Return a list that grows by one line with every transaction of the journal."""
    seen: list[str] = []
    inside = False

    def note(statement: str) -> None:
        nonlocal inside
        word = statement.split()[0]
        inside = word == "BEGIN" or (inside and word != "COMMIT")
        if not inside:
            seen.append(word)

    journal._connection.set_trace_callback(note)
    return seen


@both_ways
async def test_events_come_back_in_order_and_equal(state: State, inline: bool) -> None:
    """What was appended is what is read, one for one."""
    events = [started(), *mounted("dc01"), *map(note, range(20)), *mounted("sql01")]

    async with state.open_run(started(), inline=inline) as journal:
        for event in events:
            journal.append(event)

    assert list(state.events(RUN)) == events
    assert state.chain_head(RUN) == journal.head


@both_ways
async def test_durable_means_that_another_connection_reads_it(state: State, inline: bool) -> None:
    """Before `durable()` nothing is promised; after it every appended event can be read."""
    async with state.open_run(started(), inline=inline) as journal:
        seen = [kept(state)]
        for count in (1, 3, 10):
            for number in range(count):
                journal.append(note(number))
            await journal.durable()
            seen.append(kept(state))

    assert seen == [0, 1, 4, 14]


async def test_every_waiter_of_a_group_commit_finds_its_own_event_on_disk(state: State) -> None:
    """Many who append and wait at once share few transactions, and each one's event is there."""
    early: list[int] = []

    async def append(number: int) -> None:
        journal.append(RunNoted(at=0.0, message=f"n{number}"))
        await journal.durable()
        with closing(sqlite3.connect(database(state))) as other:
            mine = (f'%"n{number}"%',)
            query = "SELECT count(*) FROM events WHERE CAST(body AS TEXT) LIKE ?"
            if other.execute(query, mine).fetchone() != (1,):
                early.append(number)

    async with state.open_run(started()) as journal:
        seen = commits(journal)
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(append, number)

    assert early == []
    assert kept(state) == 100
    assert len(seen) <= 3


@both_ways
async def test_many_appends_are_one_transaction(state: State, inline: bool) -> None:
    """A hundred events before one `durable()` cost one commit, and waiting again costs none."""
    async with state.open_run(started(), inline=inline) as journal:
        seen = commits(journal)
        for number in range(100):
            journal.append(note(number))

        await journal.durable()
        await journal.durable()

        assert len(seen) == 1


@both_ways
@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
async def test_records_of_one_commit_are_all_written_and_in_order(
    state: State, inline: bool, count: int
) -> None:
    """However many records a commit has, none is missing where its statements meet."""
    events = [note(number) for number in range(count)]

    async with state.open_run(started(), inline=inline) as journal:
        for event in events:
            journal.append(event)
        await journal.durable()

    assert list(state.events(RUN)) == events


@both_ways
async def test_how_long_mounts_took_is_written_with_them(state: State, inline: bool) -> None:
    """Also where more of them end in one commit than one statement takes."""
    async with state.open_run(started(), inline=inline) as journal:
        for number in range(70):
            for event in mounted(f"dc{number:02}"):
                journal.append(event)
        await journal.durable()

        with closing(sqlite3.connect(database(state))) as other:
            found = other.execute("SELECT vm FROM durations ORDER BY id").fetchall()

    assert found == [(f"dc{number:02}",) for number in range(70)]


async def test_the_loop_goes_on_while_the_disk_is_slow(state: State) -> None:
    """A commit that has to wait for another writer holds up nobody but those who wait for it."""
    async with state.open_run(started()) as journal:
        with closing(sqlite3.connect(database(state), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            finished = anyio.Event()

            async def wait() -> None:
                await journal.durable()
                finished.set()

            async with anyio.create_task_group() as tasks:
                journal.append(note(1))
                tasks.start_soon(wait)
                for _turn in range(20):
                    await anyio.sleep(0.001)
                held_up = finished.is_set()
                journal.append(note(2))
                other.execute("ROLLBACK")
        await journal.durable()

    assert not held_up
    assert kept(state) == 2


async def test_what_nobody_waits_for_is_on_disk_soon(state: State) -> None:
    """An appended event is committed without a `durable()` after a short while."""
    async with state.open_run(started()) as journal:
        journal.append(note(1))
        with anyio.fail_after(20 * FLUSH_EVERY):
            while kept(state) == 0:  # noqa: ASYNC110 - a file tells nobody when it changes
                await anyio.sleep(FLUSH_EVERY / 10)


@both_ways
async def test_leaving_by_an_error_keeps_what_was_appended(state: State, inline: bool) -> None:
    """Everything is on disk when the context is left, also if the run broke."""

    async def breaks() -> None:
        async with state.open_run(started(), inline=inline) as journal:
            journal.append(note(1))
            raise LookupError("the run broke")

    with pytest.raises(ExceptionGroup) as caught:
        await breaks()

    assert caught.group_contains(LookupError, match="the run broke")
    assert kept(state) == 1


async def test_leaving_by_cancellation_keeps_what_was_appended(state: State) -> None:
    """A cancelled run's last events are on disk too."""
    with anyio.CancelScope() as scope:
        async with state.open_run(started()) as journal:
            journal.append(note(1))
            scope.cancel()
            await anyio.sleep(60)

    assert kept(state) == 1


async def test_a_run_is_written_once(state: State) -> None:
    """Two runs cannot share an id: the second is refused and the first stays as it is."""
    async with state.open_run(started(), inline=True) as journal:
        journal.append(started())

    with pytest.raises(JournalError, match="cannot be written"):
        async with state.open_run(started(), inline=True):
            pytest.fail("the run began")

    assert list(state.events(RUN)) == [started()]


async def test_later_records_continue_the_chain(state: State) -> None:
    """What is done about a run afterwards stands behind its own events, in one chain."""
    async with state.open_run(started(), inline=True) as journal:
        journal.append(started())

    async with state.append_later(RUN) as later:
        later.append(note(1))

    assert list(state.events(RUN)) == [started(), note(1)]
    assert state.chain_head(RUN) == later.head
