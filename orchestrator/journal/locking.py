"""Locks of files: held by another process for now, or not to be had on this file system.

A lock that is held is waited for; nothing is broken. Where a file system has no locks, two
runs could not see each other, and that is said in words.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from pathlib import Path
from typing import TextIO

from orchestrator.core.errors import JournalError, JournalLocked

GLANCES, GLANCE_S = 10, 0.02
"""How often, and how many seconds apart, a lock is tried that somebody may only be looking at."""

HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EINTR})
"""What a file system with locks answers while another process holds one. Source: flock(2)."""

LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
"""SQLite's primary codes for a lock that another connection holds; nothing was changed."""

WITHOUT_LOCKS = frozenset(
    {
        sqlite3.SQLITE_IOERR_LOCK,
        sqlite3.SQLITE_IOERR_RDLOCK,
        sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
        sqlite3.SQLITE_IOERR_UNLOCK,
        sqlite3.SQLITE_IOERR_SHMLOCK,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
    }
)
"""SQLite's extended codes for a lock that the file system refuses to keep."""


def is_locked(exc: BaseException) -> bool:
    """Return whether another process holds the database's lock: to be waited for, then repeated."""
    code = getattr(exc, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in LOCKED


def journal_error(path: Path, exc: Exception, verb: str) -> JournalError:
    """Return what an error of SQLite means for the journal; `verb` is read or written."""
    if is_locked(exc):
        if not has_record_locks(path.parent):
            return JournalError(without_locks(path.parent, "it keeps no record locks"))
        return JournalLocked(f"another process holds the lock of the journal {path}")
    if getattr(exc, "sqlite_errorcode", None) in WITHOUT_LOCKS:
        return JournalError(without_locks(path.parent, str(exc)))
    return JournalError(f"the journal {path} cannot be {verb}: {exc}")


def without_locks(directory: Path, why: str) -> str:
    """Return the message that two runs could not see each other here, and what to do."""
    return (
        f"the file system of {directory} has no locks ({why}): two runs could not see each "
        "other; name a directory on a local disk with --state"
    )


def has_record_locks(directory: Path) -> bool:
    """Try, on a file of its own, whether the file system keeps the locks that SQLite takes.

    Without a lock service a network file system refuses them all, and SQLite reports that as
    a lock that somebody holds.
    """
    path = directory / f"locks-{os.getpid()}.probe"
    try:
        with path.open("w", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                return exc.errno in HELD
            finally:
                path.unlink(missing_ok=True)
    except OSError:  # it cannot even be made: that says nothing about locks
        return True
    return True


def taken(file: TextIO, directory: Path, *, shared: bool = False) -> bool:
    """Take the lock of a file; a process that only tests it holds it for a moment at most.

    With `shared`, others may share it at the same time.

    Raises:
        JournalError: the file system keeps no locks.
    """
    for _ in range(GLANCES):
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in HELD:
                raise JournalError(without_locks(directory, exc.strerror or str(exc))) from exc
            time.sleep(GLANCE_S)
        else:
            return True
    return False


def is_same_file(file: TextIO, path: Path) -> bool:
    """Return whether an opened file is still the one at its path: only then its lock counts."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def is_held(file: TextIO) -> bool:
    """Return whether another process holds the lock of a file; it is tried for a moment."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as exc:
        return exc.errno in HELD
    return False
