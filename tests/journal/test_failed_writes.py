"""A commit that fails is the end of the journal: everybody hears of it, nobody repeats it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import anyio
import pytest

from orchestrator.core.errors import JournalError
from orchestrator.core.records import GENESIS
from orchestrator.journal import RunJournal, State
from orchestrator.journal.store import opened_for_writing, private_directory
from tests.journal.sample import RUN, database, kept, note, started

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("inline", [True, False], ids=["inline", "thread"])


def close(connection: sqlite3.Connection) -> None:
    """Make every later statement fail."""
    connection.close()


def fill_up(connection: sqlite3.Connection) -> None:
    """Let the file not grow any more, as on a full disk."""
    connection.execute("PRAGMA max_page_count = 1")


def forbid(connection: sqlite3.Connection) -> None:
    """Let nothing be written any more, as on a disk that was remounted read-only."""
    connection.execute("PRAGMA query_only = 1")


@pytest.fixture
def journals(state: State) -> Iterator[Callable[[bool], RunJournal]]:
    """Journals whose end nobody waits for, as `journals(inline)`."""
    private_directory(state.directory)
    with ExitStack() as stack:

        def journal(inline: bool = False) -> RunJournal:
            connection = stack.enter_context(closing(opened_for_writing(database(state))))
            return RunJournal(connection, RUN, 0, GENESIS, inline=inline)

        yield journal


@both_ways
@pytest.mark.parametrize("trouble", [close, fill_up, forbid])
async def test_a_failed_commit_is_the_end_and_is_never_repeated(
    state: State,
    journals: Callable[[bool], RunJournal],
    trouble: Callable[[sqlite3.Connection], None],
    inline: bool,
) -> None:
    """After one failure everything raises JournalError, even when the disk could write again."""
    journal = journals(inline)
    trouble(journal._connection)
    for number in range(2000):
        journal.append(note(number))
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.durable()
    seen: list[str] = []
    if trouble is not close:
        journal._connection.rollback()
        journal._connection.execute("PRAGMA max_page_count = 1000000")
        journal._connection.execute("PRAGMA query_only = 0")
        journal._connection.set_trace_callback(seen.append)

    with pytest.raises(JournalError, match="cannot be written"):
        await journal.durable()
    with pytest.raises(JournalError, match="cannot be written"):
        journal.append(note(0))

    assert seen == []
    assert kept(state) == 0


async def test_a_run_whose_end_cannot_be_written_says_so(state: State) -> None:
    """Leaving the context never hides that the last events are not on disk."""

    async def cannot_end() -> None:
        async with state.open_run(started()) as journal:
            journal.append(note(1))
            forbid(journal._connection)

    with pytest.raises(JournalError, match="cannot be written"):
        await cannot_end()


async def test_everybody_who_waits_hears_of_the_failure(
    journals: Callable[[bool], RunJournal],
) -> None:
    """Not only the one whose turn it was to commit is told that nothing was kept."""
    journal = journals(False)
    forbid(journal._connection)
    told: list[str] = []

    async def wait() -> None:
        journal.append(note(1))
        try:
            await journal.durable()
        except JournalError as exc:
            told.append(str(exc))

    async with anyio.create_task_group() as tasks:
        for _number in range(5):
            tasks.start_soon(wait)

    assert len(told) == 5


async def test_a_commit_that_never_started_is_a_failed_commit(
    state: State, journals: Callable[[bool], RunJournal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If not even the thread can be had, the events are not called durable afterwards."""

    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    journal = journals(False)
    journal.append(note(1))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(JournalError, match="start new thread"):
            await journal.durable()

    with pytest.raises(JournalError, match="start new thread"):
        await journal.durable()
    with pytest.raises(JournalError, match="start new thread"):
        journal.append(note(2))
    assert kept(state) == 0


async def test_a_state_directory_that_cannot_be_made_is_a_journal_error(tmp_path: Path) -> None:
    """A run never starts without its journal, and the message names the place."""
    (tmp_path / "file").write_text("not a directory")

    with pytest.raises(JournalError, match="file/state cannot be used"):
        async with State(tmp_path / "file" / "state").open_run(started()):
            pytest.fail("the run began")
