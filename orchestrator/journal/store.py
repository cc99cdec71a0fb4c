"""The database file: where it is, who may read it, what is in it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.core.errors import JournalError
from orchestrator.journal.locking import journal_error

SCHEMA_VERSION = 1
SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS meta (schema_version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY, plan TEXT NOT NULL, plan_path TEXT NOT NULL,
    plan_sha256 TEXT NOT NULL, started_at TEXT NOT NULL, report_dir TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
    run TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, type TEXT NOT NULL,
    body BLOB NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (run, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS durations (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, server TEXT NOT NULL, vm TEXT NOT NULL,
    seconds REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS systems ON events (run) WHERE type = 'SystemFound';
"""

BUSY_MS = 200
"""Milliseconds for which SQLite itself waits for a lock; who writes goes on waiting after it."""

CACHE_KB = 256
"""Of pages that a writer keeps in memory: it appends, and needs the newest. SQLite keeps 2 MB."""

READ_BUSY_MS = 5000
"""The same for who only reads: a writer that keeps readers out is rare, and soon done."""


def private_directory(path: Path) -> None:
    """Make a directory that only its owner may enter, whatever the umask.

    Raises:
        JournalError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    except OSError as exc:
        raise JournalError(f"the state directory {path} cannot be used: {exc.strerror}") from exc


def private_file(path: Path) -> None:
    """Make the file, if it is not there, so that only its owner may read it."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def opened_for_writing(path: Path, *, fast: bool = False) -> sqlite3.Connection:
    """Return a connection that writes durably; `fast` leaves out the disk, for virtual time.

    Raises:
        JournalLocked: another process holds the lock; try again.
        JournalError: the file cannot be opened, or is not a journal of ours.
    """
    try:
        private_file(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as exc:
        raise JournalError(f"the journal {path} cannot be written: {exc}") from exc
    with closed_on_error(connection, path, "written"):
        connection.execute(f"PRAGMA busy_timeout = {0 if fast else BUSY_MS}")
        if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            _check_version(connection, path)  # before anything in it is changed
        connection.execute(f"PRAGMA cache_size = {-CACHE_KB}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'OFF' if fast else 'FULL'}")
        connection.executescript(SCHEMA)
        connection.execute(
            "INSERT INTO meta SELECT ? WHERE NOT EXISTS (SELECT 1 FROM meta)", (SCHEMA_VERSION,)
        )
        connection.execute("COMMIT")
    return connection


def opened_for_reading(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads, also while another process writes.

    Raises:
        JournalError: there is no journal, or it cannot be read.
    """
    if not path.exists():
        raise JournalError(f"there is no journal at {path}: no run was started with this --state")
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(address, uri=True, isolation_level=None)
    except sqlite3.Error as exc:
        raise JournalError(f"the journal {path} cannot be read: {exc}") from exc
    with closed_on_error(connection, path, "read"):
        connection.execute(f"PRAGMA busy_timeout = {READ_BUSY_MS}")
        _check_version(connection, path)
    return connection


@contextmanager
def closed_on_error(connection: sqlite3.Connection, path: Path, verb: str) -> Iterator[None]:
    """Close a connection that cannot be used, and say what SQLite's error means for the journal."""
    try:
        yield
    except BaseException as exc:
        connection.close()
        if isinstance(exc, sqlite3.Error):
            raise journal_error(path, exc, verb) from exc
        raise


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Check whether the file is a journal that this version knows; change nothing."""
    (version,) = connection.execute("SELECT max(schema_version) FROM meta").fetchone()
    if version != SCHEMA_VERSION:
        raise JournalError(f"{path} was written by another version (schema {version})")
