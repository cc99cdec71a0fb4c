"""Writing one run: `append` buffers, `durable` waits for a group commit.

Whoever waits first commits for everybody who has appended by then. The commit runs in a thread
of its own, so the loop never waits for the disk; `inline` does it on the spot, for virtual time,
where there are no threads. The thread is no worker of anyio's: there is a commit or two for every
mount, and those take the loop twice as many turns. A failed commit is never repeated: after an I/O
error nobody knows what the disk has kept. Another process that holds the database's lock is no
failure: nothing was written, so it is waited for, said, and then written.

The thread gives up the interpreter for each statement, and may wait 5 ms until the loop lets it go
on: a commit is as few statements as it can be.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import anyio

from orchestrator.core.earlier_runs.durations import MountTimes
from orchestrator.core.errors import JournalError, JournalLocked
from orchestrator.core.events import Event, SubmissionStarted, to_json
from orchestrator.core.model import RunId
from orchestrator.core.records import chain_hash
from orchestrator.core.text import duration
from orchestrator.journal.history import SIMULATED
from orchestrator.journal.locking import is_locked
from orchestrator.log import Log

log = Log(__name__)

FLUSH_EVERY = 0.5
"""Seconds after which an event is on disk even if nobody waits for it."""

ROWS_AT_ONCE = 32
"""Rows that one statement inserts, at most."""

LOCK_TICK = 1.0
"""Seconds between tries while another process holds the database's lock."""

LOCK_PATIENCE = 1800.0
"""Seconds for which that is waited for, where the plan does not say how long an outage may last."""

LOCK_TOLD_AFTER = 5.0
"""Seconds of waiting after which a person is told; a commit of another run takes less."""

Row = tuple[str, int, float, str, bytes, bytes]


class RunJournal:
    """The journal of one run, open for writing; implements `ports.Journal`."""

    def __init__(
        self, connection: sqlite3.Connection, run: RunId, seq: int, head: bytes, *, inline: bool
    ) -> None:
        """`seq` and `head` are those of the last record that is there already."""
        self._connection = connection
        self._run = run
        self._seq = seq
        self._head = head
        self._inline = inline
        self._rows: list[Row] = []
        self._durations: list[tuple[str, str, str, float]] = []
        self._mount_times = MountTimes()
        self._committed = seq
        self._committing: anyio.Event | None = None
        self._failed: str | None = None
        self._appended = anyio.Event()
        self._thread = ThreadPoolExecutor(1, "journal")  # started by the first commit
        self.lock_patience: Callable[[], float] = lambda: LOCK_PATIENCE
        """Seconds for which a lock that another process holds is waited for, as of now."""
        self.on_lock: Callable[[str], None] = lambda words: log.warning("journal.locked", why=words)
        """Told when the lock is waited for longer than a moment, and when that is over."""

    def close(self) -> None:
        """End the thread; nothing is committed afterwards. The connection stays open."""
        self._thread.shutdown()

    @property
    def is_behind(self) -> bool:
        """True while something was appended that is not on disk, and may yet come there."""
        return self._committed < self._seq and self._failed is None

    @property
    def head(self) -> str:
        """Hash of the last appended record, as hex."""
        return self._head.hex()

    def append(self, event: Event) -> None:
        """Take an event. Cheap; durable after the next `durable()`, or soon.

        Raises:
            JournalError: an earlier commit failed; nothing can be kept any more.
        """
        if self._failed is not None:
            raise JournalError(self._failed)
        kind, body = type(event).__name__, to_json(event)
        self._seq += 1
        self._head = chain_hash(self._head, self._run, self._seq, kind, body)
        self._rows.append((self._run, self._seq, event.at, kind, body, self._head))
        self._appended.set()
        took = self._mount_times.take(event)
        if took is not None:
            where = f"{SIMULATED}{took.server}" if took.simulated else took.server
            self._durations.append((self._run, where, took.vm, took.seconds))

    async def durable(self) -> None:
        """Return when everything appended so far is on disk.

        Raises:
            JournalError: it is not, and will not be.
        """
        wanted = self._seq
        while self._committed < wanted:
            if self._failed is not None:
                raise JournalError(self._failed)
            if self._committing is not None:
                await self._committing.wait()
            else:
                await self._commit()

    async def granted(self, intent: SubmissionStarted, taken: Callable[[], None]) -> str | None:
        """Take an intent and return when it is on disk: one process has nobody else to ask.

        Raises:
            JournalError: as `durable`.
        """
        try:
            self.append(intent)
        finally:
            taken()
        await self.durable()
        return None

    async def flush_now_and_then(self) -> None:
        """Commit events that no caller waits for; runs beside the run until it is cancelled."""
        while self._failed is None:
            await self._appended.wait()
            await anyio.sleep(FLUSH_EVERY)
            if self._rows and self._failed is None:
                try:
                    await self.durable()
                except JournalError:
                    return  # the next append says so

    async def _commit(self) -> None:
        """Write what was appended by now, as soon as no other process holds the lock.

        Cancelled while it waits for the lock, it has written nothing and lost nothing: whoever
        waits next commits.
        """
        done = self._committing = anyio.Event()
        began, told = anyio.current_time(), False
        try:
            while not await self._written():
                waited = anyio.current_time() - began
                if waited >= self.lock_patience():
                    why = f"another process has held its lock for {duration(waited)}"
                    self._failed = f"the journal cannot be written: {why}"
                    raise JournalError(self._failed)
                if waited >= LOCK_TOLD_AFTER and not told:
                    told = True
                    self.on_lock("waits for the journal: another process holds its lock")
                await anyio.sleep(LOCK_TICK)
            if told:
                waited = anyio.current_time() - began
                self.on_lock(f"the journal's lock was free again after {duration(waited)}")
        finally:
            self._committing = None
            done.set()

    async def _written(self) -> bool:
        """Commit everything appended so far; False: another process holds the lock.

        Raises:
            JournalError: it cannot be written, and nobody knows what the disk has kept.
        """
        rows, self._rows = self._rows, []
        self._appended = anyio.Event()
        durations, self._durations = self._durations, []
        last = self._seq
        try:
            with anyio.CancelScope(shield=True):
                if self._inline:
                    self._write(rows, durations)
                else:
                    loop = asyncio.get_running_loop()
                    await loop.run_in_executor(self._thread, self._write, rows, durations)
        except JournalLocked:
            self._rows, self._durations = rows + self._rows, durations + self._durations
            self._appended.set()
            return False
        except (sqlite3.Error, RuntimeError) as exc:  # RuntimeError: not even a thread is left
            self._failed = f"the journal cannot be written: {exc}"
            raise JournalError(self._failed) from exc
        except BaseException:
            self._failed = "the journal cannot be written: a commit broke off"
            raise
        self._committed = last
        return True

    def _write(self, rows: Sequence[Row], durations: Sequence[tuple[str, str, str, float]]) -> None:
        """Commit in one transaction; a statement by itself is one.

        Raises:
            JournalLocked: another process holds the lock; nothing was changed.
        """
        is_one_statement = len(rows) <= ROWS_AT_ONCE and not durations
        try:
            if not is_one_statement:
                self._connection.execute("BEGIN IMMEDIATE")
            self._insert("events", rows)
            self._insert("durations (run, server, vm, seconds)", durations)
            if not is_one_statement:
                self._connection.execute("COMMIT")
        except sqlite3.Error as exc:
            if not is_locked(exc):
                raise
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise JournalLocked(str(exc)) from exc

    def _insert(self, where: str, rows: Sequence[tuple[object, ...]]) -> None:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            row = f"({', '.join('?' * len(some[0]))})"
            values = ", ".join([row] * len(some))
            self._connection.execute(f"INSERT INTO {where} VALUES {values}", [*chain(*some)])  # noqa: S608 - constant
