"""The state directory: the journal, locks and session side files of one person's runs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple, TextIO

import anyio
import structlog

from orchestrator.errors import JournalDamaged, JournalError, RunLocked, RunNotFound
from orchestrator.events import (
    CheckMade,
    Event,
    RunStarted,
    SubmissionStarted,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    VerdictReached,
    from_json,
)
from orchestrator.journal.history import LastProofs, read_proofs
from orchestrator.journal.store import (
    GENESIS,
    Record,
    chained,
    opened_for_reading,
    opened_for_writing,
    private_directory,
    private_file,
)
from orchestrator.journal.writing import RunJournal
from orchestrator.model import MountKey, RestorePointId, Result, RunId, ServerName
from orchestrator.ports import Baselines, Durations
from orchestrator.proof import Measured
from orchestrator.runstate import RunState, fold

log = structlog.get_logger(__name__)

GLANCES, GLANCE_S = 10, 0.02
"""How often, and how many seconds apart, a lock is tried that somebody may only be looking at."""

BASELINE_RUNS = 50
"""How many runs back a measurement is looked for."""

RECENT = 5
"""How many earlier mounts of a machine its expected duration is the median of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of the list of runs."""

    run: RunId
    plan: str
    plan_path: str
    started_at: datetime
    report_dir: str


class Mark(NamedTuple):
    """A place in a run's events: the last record before it, and that record's hash."""

    seq: int
    head: bytes


BEGINNING = Mark(0, GENESIS)

BATCH = 5000
"""Records that are read at once of a run that is followed."""


class History:
    """Expected durations from earlier runs; implements `ports.Durations`."""

    def __init__(self, seconds: Mapping[tuple[str, str], float]) -> None:
        """`seconds` by server and machine."""
        self._seconds = seconds

    def expected(self, server: ServerName, vm: str) -> float | None:
        """Return the median of the machine's last mounts, or None if it never was mounted."""
        return self._seconds.get((server, vm))


class Measurements:
    """What earlier runs found in the directories of machines; implements `ports.Baselines`."""

    def __init__(self, measured: Mapping[tuple[str, str, str], Measured]) -> None:
        """`measured` by server, machine and path."""
        self._measured = measured

    def measured(self, server: ServerName, vm: str, path: str) -> Measured | None:
        """Return what the last verified run found at `path`, or None if none ever looked."""
        return self._measured.get((server, vm, path))


class State:
    """Everything that outlives a process. Reading never changes anything."""

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
        connection = opened_for_writing(self._file, fast=inline)
        with closing(connection):
            try:
                connection.execute(
                    "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        started.run,
                        started.plan,
                        started.plan_path,
                        started.plan_sha256,
                        started.started_at.isoformat(),
                        started.report_dir,
                    ),
                )
            except sqlite3.Error as exc:
                raise JournalError(f"the journal {self._file} cannot be written: {exc}") from exc
            journal = RunJournal(connection, started.run, 0, GENESIS, inline=inline)
            async with _flushing(journal):
                yield journal

    @asynccontextmanager
    async def append_later(self, run: RunId, *, inline: bool = False) -> AsyncIterator[RunJournal]:
        """Open a finished or dead run's journal to add what was done about it afterwards.

        Raises:
            JournalDamaged: its chain is broken; nothing is added to a damaged journal.
        """
        seq, head = 0, GENESIS
        for record, _event in self._verified(run):
            seq, head = record.seq, record.hash
        connection = opened_for_writing(self._file, fast=inline)
        with closing(connection):
            journal = RunJournal(connection, run, seq, head, inline=inline)
            async with _flushing(journal):
                yield journal

    # --- reading ---------------------------------------------------------------------------

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

    def find(self, text: str) -> RunId:
        """Return the id of a run; see `summary`."""
        return self.summary(text).run

    def summary(self, text: str) -> RunSummary:
        """Return the run called `last`, by its id, or by the start of it.

        Raises:
            RunNotFound: there is none, or several.
        """
        runs = self.runs()
        if not runs:
            raise RunNotFound(f"there are no runs in {self.directory}")
        if text == "last":
            return runs[0]
        found = [each for each in runs if each.run == text] or [
            each for each in runs if each.run.startswith(text)
        ]
        if len(found) != 1:
            several = "several runs start" if found else "no run starts"
            raise RunNotFound(f"{several} with {text!r}; see: bulk-restore status")
        return found[0]

    def events(self, run: RunId) -> Iterator[Event]:
        """Yield a run's events in order, checking the hash chain on the way.

        Raises:
            JournalDamaged: names the first record that is not what was written.
        """
        return (event for _record, event in self._verified(run))

    def replay(self, run: RunId) -> RunState:
        """Return the fold of a run's events.

        Raises:
            JournalDamaged: a record is not what was written, or the run has none.
        """
        return self.replay_to_head(run)[0]

    def replay_to_head(self, run: RunId) -> tuple[RunState, str]:
        """Return the fold of a run's events and the hash of the last of them.

        In one reading: the run may go on meanwhile.

        Raises:
            JournalDamaged: as `replay`.
        """
        head = GENESIS

        def events() -> Iterator[Event]:
            nonlocal head
            for record, event in self._verified(run):
                head = record.hash
                yield event

        return fold(events()), head.hex()

    def chain_head(self, run: RunId) -> str:
        """Return the hash of the run's last record, after checking all of them."""
        head = GENESIS
        for record, _event in self._verified(run):
            head = record.hash
        return head.hex()

    def durations(self) -> Durations:
        """Return what earlier runs say about how long each machine's mount takes."""
        if not self._file.exists():
            return History({})
        recent: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT CAST(server AS TEXT), CAST(vm AS TEXT), CAST(seconds AS REAL) "
                "FROM durations ORDER BY id"
            )
            for server, vm, seconds in rows:
                recent[server, vm].append(seconds)
        return History({key: median(seen[-RECENT:]) for key, seen in recent.items()})

    def baselines(self, *, before: RunId) -> Baselines:
        """Return what the verified targets of earlier runs have measured; the newest counts.

        `before` is the run that asks. Only the last runs are looked at. One that cannot be
        read any more is passed over: it is nothing to compare with.
        """
        measured: dict[tuple[str, str, str], Measured] = {}
        if not self._file.exists():
            return Measurements(measured)
        with self._reading() as connection:
            for run in _runs_with_measurements(connection, before):
                try:
                    found = _measured_in(connection, run)
                except JournalDamaged as exc:
                    log.warning("baseline.passed_over", run=run, why=str(exc))
                    continue
                measured = found | measured
        return Measurements(measured)

    def proofs(self, *, before: datetime) -> LastProofs:
        """Return when each machine was last proven in any run, up to the time `before`.

        Records that cannot be read prove nothing: their machines count as not proven then.
        """
        if not self._file.exists():
            return LastProofs({})
        with self._reading() as connection:
            return read_proofs(connection, before)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Open the file to read; what it cannot give as it was written is damage."""
        try:
            with closing(opened_for_reading(self._file)) as connection:
                yield connection
        except (sqlite3.Error, ValueError) as exc:
            raise JournalDamaged(f"{self._file} cannot be read: {exc}") from exc

    def read_on(self, run: RunId, mark: Mark) -> tuple[list[Event], Mark]:
        """Return a run's events after `mark`, checked against it, and the mark behind them.

        Only what is new is read, and at most `BATCH` records of it; none: there is no more yet.

        Raises:
            JournalDamaged: names the first record that is not what was written, or that the
                record at `mark` is not there any more.
        """
        found: list[Event] = []
        for record, event in self._verified(run, mark, BATCH):
            found.append(event)
            mark = Mark(record.seq, record.hash)
        return found, mark

    def records(
        self, run: RunId, *, upto: int | None = None, after: Mark = BEGINNING, most: int = -1
    ) -> Iterator[Record]:
        """Yield a run's records in order, checking the hash chain on the way.

        Those behind `after`, to record `upto`, and at most `most` of them; -1 is all. What
        their bodies say is not looked at.

        Raises:
            JournalDamaged: names the first record that is not what was written, or says that
                the one at `after` is not there any more.
        """
        head, expected = after.head, after.seq + 1
        with self._reading() as connection:
            if after.seq:
                _require_unchanged(connection, run, after)
            rows = connection.execute(
                "SELECT seq, at, type, CAST(body AS BLOB), typeof(body), hash FROM events "
                "WHERE run = ? AND seq > ? AND seq <= coalesce(?, seq) ORDER BY seq LIMIT ?",
                (run, after.seq, upto, most),
            )
            for seq, at, kind, body, stored_as, stored in rows:
                if seq != expected:
                    raise JournalDamaged(f"record {expected} of run {run} is missing")
                head = chained(head, run, seq, kind, body)
                if head != stored or stored_as != "blob":
                    raise JournalDamaged(
                        f"record {seq} ({kind}) of run {run} is not what was written"
                    )
                yield Record(run=run, seq=seq, kind=kind, at=at, body=body, hash=head)
                expected += 1

    def _verified(
        self, run: RunId, after: Mark = BEGINNING, most: int = -1
    ) -> Iterator[tuple[Record, Event]]:
        for record in self.records(run, after=after, most=most):
            named = f"record {record.seq} ({record.kind}) of run {run}"
            event = _event(record.kind, record.body, named)
            if event.at != record.at:  # the one column that the hash holds only within the body
                raise JournalDamaged(f"{named} is not what was written")
            yield record, event

    # --- locks -----------------------------------------------------------------------------

    @contextmanager
    def plan_lock(self, plan: str, run: RunId) -> Iterator[None]:
        """Hold the lock of a plan; the lock of a dead process frees itself, and is explained.

        Raises:
            RunLocked: another process runs this plan; the message says which.
            JournalError: the lock cannot be written.
        """
        private_directory(self.directory)
        path = self._lock_path(plan)
        try:
            private_file(path)
            file = path.open("r+", encoding="utf-8")
        except OSError as exc:
            raise JournalError(f"the lock {path} cannot be used: {exc.strerror}") from exc
        with file:
            if not _taken(file):
                holder = _holder(file.read())
                raise RunLocked(
                    f"the plan {plan!r} is being run already ({holder}); wait for it to end, or "
                    "stop it with SIGINT"
                )
            _explain_what_a_dead_process_left(file.read(), run)
            mine = {"pid": os.getpid(), "host": socket.gethostname(), "run": run}
            try:
                os.ftruncate(file.fileno(), 0)
                os.pwrite(file.fileno(), json.dumps(mine).encode(), 0)
            except OSError as exc:
                raise JournalError(f"the lock {path} cannot be written: {exc.strerror}") from exc
            yield
            with suppress(OSError):  # whoever reads it later finds a lock that is free
                os.ftruncate(file.fileno(), 0)

    def is_running(self, summary: RunSummary) -> bool:
        """Tell whether a living process on this machine holds the run's lock."""
        path = self._lock_path(summary.plan)
        try:
            with path.open("r", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return bool(json.loads(file.read() or "{}").get("run") == summary.run)
        except (OSError, ValueError):
            return False
        return False

    def _lock_path(self, plan: str) -> Path:
        return self.directory / f"plan-{hashlib.sha256(plan.encode()).hexdigest()[:16]}.lock"

    # --- session side files ----------------------------------------------------------------

    def save_sessions(self, run: RunId, sessions: Mapping[str, Mapping[str, str]]) -> None:
        """Keep {server: {session, token, url}} where only the owner can read it.

        So that a later process can unmount what a dead run left. Never in the journal.
        """
        private_directory(self.directory)
        path = self._sessions_path(run)
        fresh = path.with_suffix(".new")
        private_file(fresh)
        fresh.write_text(json.dumps(sessions), encoding="utf-8")
        fresh.replace(path)

    def load_sessions(self, run: RunId) -> dict[str, dict[str, str]]:
        """Return what `save_sessions` kept, or as much of it as can be read."""
        try:
            found = json.loads(self._sessions_path(run).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        kept = found.items() if isinstance(found, dict) else ()
        return {
            server: facts
            for server, facts in kept
            if isinstance(facts, dict) and all(isinstance(fact, str) for fact in facts.values())
        }

    def forget_sessions(self, run: RunId) -> None:
        """Remove the side file: the run ended and logged off."""
        self._sessions_path(run).unlink(missing_ok=True)

    # --- asking a living run to end its holds ----------------------------------------------

    def ask_to_end_holds(self, run: RunId) -> None:
        """Leave word for the process of a run that its held mounts are to be removed.

        Raises:
            JournalError: the state directory does not take it.
        """
        private_directory(self.directory)
        path = self._request_path(run)
        try:
            private_file(path)
        except OSError as exc:
            raise JournalError(f"{path} cannot be written: {exc.strerror}") from exc

    def take_request(self, run: RunId) -> bool:
        """Tell whether word was left, and remove it: it is answered once."""
        try:
            self._request_path(run).unlink()
        except OSError:
            return False
        return True

    def _request_path(self, run: RunId) -> Path:
        return self.directory / f"unmount-{run}.request"

    def _sessions_path(self, run: RunId) -> Path:
        return self.directory / f"sessions-{run}.json"


@asynccontextmanager
async def _flushing(journal: RunJournal) -> AsyncIterator[None]:
    """Flush beside the run, and once more at its end, however it ends."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.flush_now_and_then)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await journal.durable()


def _require_unchanged(connection: sqlite3.Connection, run: RunId, mark: Mark) -> None:
    """See that the last record that was read still ends what was read."""
    row = connection.execute(
        "SELECT hash FROM events WHERE run = ? AND seq = ?", (run, mark.seq)
    ).fetchone()
    if row is None:
        raise JournalDamaged(f"record {mark.seq} of run {run} is gone: the journal was cut off")
    if row[0] != mark.head:
        raise JournalDamaged(f"record {mark.seq} of run {run} is not what was written")


def _runs_with_measurements(connection: sqlite3.Connection, before: RunId) -> list[RunId]:
    """Return the last runs, the newest first, as far as they measured anything."""
    rows = connection.execute(
        "SELECT CAST(run AS TEXT) FROM "
        "(SELECT run, rowid AS place FROM runs WHERE run <> ? ORDER BY rowid DESC LIMIT ?) AS some "
        "WHERE EXISTS (SELECT 1 FROM events WHERE events.run = some.run "
        "AND type = 'CheckMade' AND instr(body, CAST('\"measured\":' AS BLOB)) > 0) "
        "ORDER BY place DESC",
        (before, BASELINE_RUNS),
    )
    return [RunId(run) for (run,) in rows]


def _measured_in(
    connection: sqlite3.Connection, run: RunId
) -> dict[tuple[str, str, str], Measured]:
    """Return what one run measured in the attempts whose points are its verified results."""
    rows = connection.execute(
        "SELECT type, CAST(body AS BLOB) FROM events WHERE run = ? AND type IN "
        "('TargetPlanned', 'SubmissionStarted', 'CheckMade', 'VerdictReached', 'TargetConcluded') "
        "ORDER BY seq",
        (run,),
    )
    targets: dict[MountKey, _Measuring] = {}
    measured: dict[tuple[str, str, str], Measured] = {}
    for kind, body in rows:
        event = _event(kind, body, f"a record of run {run}")
        match event:
            case TargetPlanned(key=key):
                targets[key] = _Measuring(event.server, event.vm)
            case TargetConcluded(key=key, result=Result.VERIFIED) if key in targets:
                measured |= targets[key].of(event.point)
            case TargetEvent(key=key) if key in targets:
                targets[key].take(event)
    return measured


class _Measuring:
    """What the attempts of one target measured, by the restore points that were verified."""

    def __init__(self, server: ServerName, vm: str) -> None:
        self._server, self._vm = server, vm
        self._point: RestorePointId | None = None
        self._now: dict[tuple[str, str, str], Measured] = {}
        self._verified: dict[RestorePointId | None, dict[tuple[str, str, str], Measured]] = {}

    def take(self, event: TargetEvent) -> None:
        match event:
            case SubmissionStarted():
                self._point, self._now = event.point, {}
            case CheckMade(outcome=outcome) if outcome.measured is not None:
                self._now[self._server, self._vm, outcome.path] = outcome.measured
            case VerdictReached(result=Result.VERIFIED):
                self._verified[self._point] = self._now
            case _:
                return

    def of(self, point: RestorePointId | None) -> dict[tuple[str, str, str], Measured]:
        """Return what was measured at a point; None: at the last one that was tried."""
        return self._verified.get(self._point if point is None else point, {})


def _event(kind: str, body: bytes, record: str) -> Event:
    try:
        return from_json(kind, body)
    except JournalDamaged as exc:
        raise JournalDamaged(f"{record} cannot be read: {exc}") from exc


def _taken(file: TextIO) -> bool:
    """Take the lock; whoever only looks whether a run lives holds it for a moment at most."""
    for _ in range(GLANCES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(GLANCE_S)
        else:
            return True
    return False


def _explain_what_a_dead_process_left(text: str, run: RunId) -> None:
    """Say whose lock this was, if its process ended without giving it back."""
    if text and f'"{run}"' not in text:  # not where its own run is gone on with
        log.warning(
            "lock.left_by_dead_process",
            was=_holder(text),
            look="bulk-restore status shows what it left; bulk-restore unmount releases it",
        )


def _holder(text: str) -> str:
    try:
        found = json.loads(text)
        return f"run {found['run']}, process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return "its lock file does not say by whom"
