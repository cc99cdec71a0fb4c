"""The state directory: the journal of one person's runs, and what is beside it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import datetime
from pathlib import Path

import anyio

from orchestrator.core.earlier_runs.baselines import Measurements
from orchestrator.core.earlier_runs.durations import PastDurations
from orchestrator.core.earlier_runs.naming import NO_NAMING, Naming
from orchestrator.core.earlier_runs.proofs import LastProofs
from orchestrator.core.earlier_runs.systems import NO_SYSTEMS, KnownSystems
from orchestrator.core.errors import JournalDamaged, JournalLocked
from orchestrator.core.events import RunStarted
from orchestrator.core.makespan import PastMakespans
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.paths import nearest_existing
from orchestrator.core.ports.journal import Baselines, Durations
from orchestrator.core.reading import RunReader
from orchestrator.core.records import (
    RUN_CHAIN,
    START,
    Mark,
    Position,
    Record,
    RunSummary,
    Stall,
    checked,
)
from orchestrator.core.same_server import Identities
from orchestrator.core.text import duration
from orchestrator.journal.claims import Claims, opened_claims
from orchestrator.journal.endpoints import identities_in
from orchestrator.journal.history import (
    read_baselines,
    read_durations,
    read_makespans,
    read_proofs,
    read_systems,
)
from orchestrator.journal.locking import is_locked, journal_error
from orchestrator.journal.run_locks import RunLocks
from orchestrator.journal.side_files import SideFiles
from orchestrator.journal.store import (
    closed_on_error,
    opened_for_reading,
    opened_for_writing,
    private_directory,
)
from orchestrator.journal.writing import LOCK_PATIENCE, LOCK_TICK, RunJournal
from orchestrator.log import Log

log = Log(__name__)


class State(RunReader, RunLocks, SideFiles):
    """Everything that outlives a process; implements `ports.store.Store`, and what writes."""

    def __init__(self, directory: Path) -> None:
        """`directory` is made on the first write."""
        self.directory = directory
        self._file = directory / "journal.sqlite"

    # --- writing ---------------------------------------------------------------------------

    @asynccontextmanager
    async def open_run(
        self, started: RunStarted, *, inline: bool = False
    ) -> AsyncIterator[RunJournal]:
        """Open the journal of a new run; everything is on disk when the context is left.

        Raises:
            JournalError: it cannot be written.
        """
        private_directory(self.directory)
        connection = await self._opened(inline=inline, first=started)
        async with _written(connection, started.run, START, inline=inline) as journal:
            yield journal

    @asynccontextmanager
    async def append_later(self, run: RunId, *, inline: bool = False) -> AsyncIterator[RunJournal]:
        """Open a finished or dead run's journal to add what was done about it afterwards.

        Raises:
            JournalDamaged: its chain is broken; nothing is added to a damaged journal.
        """
        end = self.end_of(run).of(RUN_CHAIN)
        connection = await self._opened(inline=inline)
        async with _written(connection, run, end, inline=inline) as journal:
            yield journal

    async def _opened(self, *, inline: bool, first: RunStarted | None = None) -> sqlite3.Connection:
        """Return a connection that writes, with the row of a new run; wait for the lock.

        Raises:
            JournalLocked: another process has held it for as long as an outage may last.
        """
        began, told = anyio.current_time(), False
        while True:
            try:
                return self._opened_now(inline=inline, first=first)
            except JournalLocked as exc:
                waited = anyio.current_time() - began
                if waited >= LOCK_PATIENCE:
                    raise JournalLocked(f"{exc}, for {duration(waited)} by now") from exc
                if not told:
                    log.warning("journal.locked", why=str(exc), waits="until it is given back")
                told = True
            await anyio.sleep(LOCK_TICK)

    def _opened_now(self, *, inline: bool, first: RunStarted | None) -> sqlite3.Connection:
        connection = opened_for_writing(self._file, fast=inline)
        with closed_on_error(connection, self._file, "written"):
            if first is not None:
                started_at = first.started_at.isoformat()
                row = (first.run, first.plan, first.plan_path, first.plan_sha256, started_at)
                connection.execute(
                    "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", (*row, first.report_dir)
                )
        return connection

    # --- reading ---------------------------------------------------------------------------

    @property
    def place(self) -> str:
        """The directory."""
        return str(self.directory)

    @property
    def is_shared(self) -> bool:
        """False: whoever begins a run carries it out."""
        return False

    @property
    def is_being_made(self) -> bool:
        """True while the journal's file has nothing in it: its first run is writing it."""
        return self._file.exists() and not self._file.stat().st_size

    def why_not_writable(self) -> str | None:
        """Return why the directory, or a file in it, cannot be made; nothing is made."""
        standing = nearest_existing(self.directory)
        if standing.is_dir() and os.access(standing, os.W_OK | os.X_OK):
            return None
        return f"{standing} refuses"

    def runs(self) -> list[RunSummary]:
        """Return all runs, the newest first; none if there is no journal yet.

        One that was killed before its first record had done nothing, and is none.
        """
        if not self._file.exists():
            return []
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT CAST(run AS TEXT), CAST(plan AS TEXT), CAST(plan_path AS TEXT), "
                "CAST(started_at AS TEXT), CAST(report_dir AS TEXT) FROM runs "
                "WHERE EXISTS (SELECT 1 FROM events WHERE events.run = runs.run) "
                "ORDER BY rowid DESC"  # not by a wall clock that may have been set back
            )
            return [
                RunSummary(
                    run=RunId(run),
                    plan=plan,
                    plan_path=path,
                    started_at=datetime.fromisoformat(at),
                    report_dir=report_dir,
                )
                for run, plan, path, at, report_dir in rows
            ]

    def durations(self, naming: Naming = NO_NAMING) -> Durations:
        """Return how long each machine's mount takes, from earlier runs.

        It is asked for by the names of `naming`, and found by the servers' addresses.
        """
        if not self._file.exists():
            return PastDurations({})
        with self._reading() as connection:
            return read_durations(connection, naming)

    def baselines(self, *, before: RunId, naming: Naming = NO_NAMING) -> Baselines:
        """Return what the verified targets of earlier runs have measured; the newest counts.

        `before` is the run that asks. Only the last runs are looked at. One that cannot be
        read any more is passed over: it is nothing to compare with.
        """
        if not self._file.exists():
            return Measurements({})
        with self._reading() as connection:
            return read_baselines(connection, before, naming)

    def makespans(self, plan: str, *, before: RunId) -> PastMakespans:
        """Return how long the last whole runs of a plan took, but for the run `before`."""
        if not self._file.exists():
            return PastMakespans()
        with self._reading() as connection:
            return read_makespans(connection, plan, before)

    def proofs(self, *, before: datetime, naming: Naming = NO_NAMING) -> LastProofs:
        """Return when each machine was last proven in any run, up to the time `before`.

        Records that cannot be read prove nothing: their machines count as not proven then.
        """
        if not self._file.exists():
            return LastProofs({})
        with self._reading() as connection:
            return read_proofs(connection, before, naming)

    def systems(self, naming: Naming = NO_NAMING) -> KnownSystems:
        """Return as which systems machines were readable, where that had to be found out.

        Records that cannot be read say nothing.
        """
        if not self._file.exists():
            return NO_SYSTEMS
        with self._reading() as connection:
            return read_systems(connection, naming)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Open the file to read; what it cannot give as it was written is damage."""
        try:
            with closing(opened_for_reading(self._file)) as connection:
                yield connection
        except (sqlite3.Error, ValueError) as exc:
            if is_locked(exc):
                raise journal_error(self._file, exc, "read") from exc
            raise JournalDamaged(f"{self._file} cannot be read: {exc}") from exc

    def records_between(
        self, run: RunId, after: Mark, upto: Mark | None = None, most: int | None = None
    ) -> Iterator[Record]:
        """Yield a run's records in order, checking the hash chain on the way.

        Those behind `after`, to the mark `upto`, and at most `most` of them.

        Raises:
            JournalDamaged: names the first record that is not what was written, or says that
                the one at `after` is not there any more.
        """
        begin = after.of(RUN_CHAIN)
        last = None if upto is None else upto.of(RUN_CHAIN).seq
        with self._reading() as connection:
            if begin.seq:
                _require_unchanged(connection, run, begin)
            rows = connection.execute(
                "SELECT seq, at, type, CAST(body AS BLOB), "
                "CASE typeof(body) WHEN 'blob' THEN hash END FROM events "
                "WHERE run = ? AND seq > ? AND seq <= coalesce(?, seq) ORDER BY seq LIMIT ?",
                (run, begin.seq, last, -1 if most is None else most),
            )
            yield from checked(run, rows, begin)

    def is_running(self, summary: RunSummary) -> bool:
        """Return whether a living process on this machine holds the run's lock."""
        return self.is_alive(summary.plan, summary.run)

    def stall(self, summary: RunSummary) -> Stall | None:
        """Return since when the living process that holds the run's lock does not move."""
        return self.stalled(summary.plan, summary.run)

    def served(self, run: RunId) -> None:
        """Return None: one process works on all servers of a run here."""

    # --- limits that runs share --------------------------------------------------------------

    @contextmanager
    def claims(
        self,
        run: RunId,
        plan: str,
        urls: Mapping[ServerName, str],
        clock: Callable[[], datetime],
    ) -> Iterator[Claims]:
        """Take part in the limits that all runs of this directory share; see `claims`.

        `urls` are the addresses of the plan's servers. What is not given back in the context
        counts on while it may be open.

        Raises:
            JournalError: the file of the claims cannot be used.
        """
        private_directory(self.directory)
        with opened_claims(self._claims_file) as connection:
            claims = Claims(
                connection,
                run,
                plan,
                urls,
                clock=clock,
                is_running=self.is_alive,
                sessions=self.kept_sessions,
                sessions_of=self.kept_sessions_of,
            )
            try:
                yield claims
            finally:
                claims.leave()

    def identities(self) -> Identities:
        """Return what identifies the servers of the runs that live, for who takes no part."""
        return identities_in(self._claims_file)

    @property
    def _claims_file(self) -> Path:
        return self.directory / "mounts.sqlite"


@asynccontextmanager
async def _written(
    connection: sqlite3.Connection, run: RunId, end: Position, *, inline: bool
) -> AsyncIterator[RunJournal]:
    """Write a journal from `end` on: flush beside the run, and once more, however it ends."""
    journal = RunJournal(connection, run, end.seq, end.hash, inline=inline)
    with closing(connection), closing(journal):
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(journal.flush_now_and_then)
                try:
                    yield journal
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await journal.durable()
                while journal.is_behind:  # a wait for the lock was noted meanwhile
                    await journal.durable()


def _require_unchanged(connection: sqlite3.Connection, run: RunId, last: Position) -> None:
    """Check that the last record that was read is still the last of those."""
    row = connection.execute(
        "SELECT hash FROM events WHERE run = ? AND seq = ?", (run, last.seq)
    ).fetchone()
    if row is None:
        raise JournalDamaged(f"record {last.seq} of run {run} is gone: the journal was cut off")
    if row[0] != last.hash:
        raise JournalDamaged(f"record {last.seq} of run {run} is not what was written")
