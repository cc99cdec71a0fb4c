"""A lock that another process holds is waited for and said; without locks that is said."""

from __future__ import annotations

import errno
import fcntl
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from orchestrator.core.errors import JournalDamaged, JournalError, JournalLocked
from orchestrator.core.model import RunId
from orchestrator.journal import State, locking, writing
from orchestrator.journal import state as journal_state
from tests.journal.sample import RUN, database, kept, mounted, note, started, written
from tests.journal.test_locks import summary

pytestmark = pytest.mark.anyio

HOLDER = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "alone":
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
other.execute("BEGIN IMMEDIATE")
other.execute("UPDATE meta SET schema_version = schema_version")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process_writes(path: Path, how: str = "") -> Iterator[subprocess.Popen[str]]:
    """Hold the database's lock in a real second process; ending its input gives it back."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try often, and tell at once."""
    monkeypatch.setattr(writing, "LOCK_TICK", 0.05)
    monkeypatch.setattr(journal_state, "LOCK_TICK", 0.05)
    monkeypatch.setattr(writing, "LOCK_TOLD_AFTER", 0.0)


@pytest.mark.process
@pytest.mark.usefixtures("_at_once")
async def test_a_commit_waits_for_the_lock_of_another_process_and_says_so(state: State) -> None:
    """Nothing is lost, nothing is called durable before it is, and the run goes on."""
    told: list[str] = []
    async with state.open_run(started()) as journal:
        journal.append(started())
        await journal.durable()
        with another_process_writes(database(state)) as other:
            journal.append(note(1))
            with anyio.CancelScope() as waiting:

                def tell(words: str) -> None:
                    told.append(words)
                    waiting.deadline = anyio.current_time() + 10 * writing.LOCK_TICK

                journal.on_lock = tell
                await journal.durable()
            assert waiting.cancelled_caught
            assert kept(state) == 1
            assert len(told) == 1
            journal.append(note(2))
            assert other.stdin is not None
            other.stdin.close()
            await journal.durable()

        assert kept(state) == 3

    assert "another process holds its lock" in told[0]
    assert [type(event).__name__ for event in state.events(RUN)] == ["RunStarted"] + [
        "RunNoted"
    ] * 2


@pytest.mark.usefixtures("_at_once")
async def test_a_lock_loses_no_duration_and_mixes_up_none(state: State) -> None:
    """What a locked commit was to write comes before what was appended meanwhile."""
    was_locked = anyio.Event()
    async with state.open_run(started()) as journal:
        journal.on_lock = lambda _words: was_locked.set()
        with closing(sqlite3.connect(database(state), isolation_level=None)) as other:
            async with anyio.create_task_group() as tasks:
                other.execute("BEGIN IMMEDIATE")
                for event in mounted("dc01"):
                    journal.append(event)
                tasks.start_soon(journal.durable)
                await anyio.wait_all_tasks_blocked()  # the commit asks for the lock by now
                for event in mounted("sql01"):
                    journal.append(event)
                with anyio.fail_after(30):
                    await was_locked.wait()
                other.execute("ROLLBACK")
            await journal.durable()

            found = other.execute("SELECT vm FROM durations ORDER BY id").fetchall()

    assert found == [("dc01",), ("sql01",)]
    assert list(state.events(RUN)) == [*mounted("dc01"), *mounted("sql01")]


@pytest.mark.process
@pytest.mark.usefixtures("_at_once")
async def test_after_the_patience_a_lock_ends_the_journal_in_order(state: State) -> None:
    """As after an outage: the message says that it is a lock, and nothing half is kept."""

    async def locked_out() -> None:
        async with state.open_run(started()) as journal:
            journal.append(started())
            await journal.durable()
            journal.lock_patience = lambda: 0.5
            with another_process_writes(database(state)):
                journal.append(note(1))
                with pytest.raises(JournalError, match="another process has held its lock"):
                    await journal.durable()
                assert kept(state) == 1
            journal.append(note(2))

    with pytest.raises(JournalError, match="another process has held its lock"):
        await locked_out()

    assert kept(state) == 1


@pytest.mark.process
@pytest.mark.usefixtures("_at_once")
async def test_a_run_that_begins_waits_for_the_lock(state: State) -> None:
    """Before the first record, too; and a resume does the same."""
    await written(state)
    with another_process_writes(database(state)) as other:

        async def give_back() -> None:
            await anyio.sleep(0.5)
            assert other.stdin is not None
            other.stdin.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_back)
            async with state.open_run(started("second")) as journal:
                journal.append(started("second"))
            assert other.poll() is not None or other.stdin is None or other.stdin.closed

    assert state.replay(RunId("second")).started.run == "second"


@pytest.mark.process
async def test_who_reads_is_told_of_a_lock_and_not_of_damage(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup program that keeps readers out has damaged nothing."""
    monkeypatch.setattr("orchestrator.journal.store.READ_BUSY_MS", 100)
    await written(state)
    with another_process_writes(database(state), "alone"):
        with pytest.raises(JournalLocked, match="another process holds the lock") as caught:
            state.replay(RUN)
        assert not isinstance(caught.value, JournalDamaged)

    assert state.replay(RUN).started.run == RUN


async def test_a_file_system_without_locks_says_so(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not called "being run already", and nothing is said to be running there."""

    def refuse(_file: object, _how: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    with state.plan_lock("drill", RUN):
        pass
    next(state.directory.glob("plan-*.lock")).write_text(f'{{"run": "{RUN}"}}')
    monkeypatch.setattr(fcntl, "flock", refuse)

    with (
        pytest.raises(JournalError, match=r"has no locks \(Operation not supported\).*--state"),
        state.plan_lock("drill", RUN),
    ):
        pytest.fail("there is no lock to hold")
    assert not state.is_running(summary(RUN))


async def test_record_locks_that_are_always_refused_are_no_lock_of_a_process(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite calls a network file system without its lock service "locked", for ever."""

    def refuse(_file: object, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    await written(state)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with closing(sqlite3.connect(database(state), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="has no locks") as caught:
            await written(state, first=started("second"))

    assert not isinstance(caught.value, JournalLocked)
    assert not list(state.directory.glob("locks-*"))


def test_the_probe_finds_locks_where_there_are_some(tmp_path: Path) -> None:
    """It leaves nothing behind, and a directory that cannot be written proves nothing."""
    assert locking.has_record_locks(tmp_path)
    assert locking.has_record_locks(tmp_path / "missing")
    assert not list(tmp_path.iterdir())
