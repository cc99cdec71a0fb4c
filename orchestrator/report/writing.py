"""Writing the files of a report directory: owner-only, and all of them or none."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from orchestrator.report import as_csv, as_html, as_json, as_markdown, junit
from orchestrator.report.text import text
from orchestrator.report.values import Report

RENDERINGS: Mapping[str, Callable[[Report], Iterable[str]]] = {
    "report.json": as_json.pieces,
    "report.html": as_html.pieces,
    "junit.xml": lambda report: [junit.render(report)],
    "report.md": lambda report: [as_markdown.render(report)],
    "report.csv": as_csv.pieces,
    "report.txt": lambda report: [text(report)],
}
"""File name -> the pieces of its text, in order. A new rendering is one more line."""


def rendered(name: str, report: Report) -> Iterator[bytes]:
    """Yield what `write` writes to the file of that name, piece by piece."""
    for piece in RENDERINGS[name](report):
        yield piece.encode("utf-8", errors="backslashreplace")


def write(
    report: Report,
    directory: Path,
    *,
    beside: Callable[[Staging], None] | None = None,
    left_out: list[Exception] | None = None,
) -> list[Path]:
    """Write every rendering, and what `beside` adds: all of them, or nothing changes.

    What a rendering raises is passed on. With `left_out` it is added there instead, the others are
    written, and its older file is removed: it belongs to another report.

    Raises:
        OSError: the directory or a file cannot be made or written.
        Exception: whatever else a rendering raised.
    """
    _make_private(directory)
    with Staging(directory) as staging:
        for name in RENDERINGS:
            try:
                staging.add(name, rendered(name, report))
            except OSError:
                raise
            except Exception as exc:
                if left_out is None:
                    raise
                left_out.append(exc)
                staging.drop(name)
        if beside is not None:
            beside(staging)
        return staging.publish()


def _make_private(directory: Path) -> None:
    """Make a directory and those above it that are missing, for the owner only."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        each.chmod(0o700)  # the umask may have taken the owner's own rights


class Staging:
    """Files of a directory that get their names when all are complete, for the owner only.

    Until `publish` the directory has its older files. What was not published is removed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hashes: dict[str, str] = {}
        """The SHA-256 of each complete file in hex, by its name."""
        self._staged: dict[str, tuple[Path, BinaryIO]] = {}
        self._dropped: list[str] = []

    def __enter__(self) -> Self:
        """Begin without any file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not published, and give the locks back."""
        for name in [*self._staged]:
            self._discard(name)

    def _discard(self, name: str) -> None:
        fresh, file = self._staged.pop(name)
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        with suppress(OSError):  # what it could not write it tries again
            file.close()

    def add(self, name: str, content: Iterable[bytes]) -> None:
        """Write a new file and wait until it is on disk. What `content` raises is passed on.

        Raises:
            OSError: it cannot be written.
        """
        fresh, handle = _opened_beside(self.directory / name)
        file = os.fdopen(handle, "wb")
        self._staged[name] = fresh, file
        digest = hashlib.sha256()
        os.fchmod(handle, 0o600)
        for piece in content:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(handle)
        self.hashes[name] = digest.hexdigest()

    def drop(self, name: str) -> None:
        """Remove an older file when the others are published; of a new one nothing is kept."""
        if name in self._staged:
            self._discard(name)
        self._dropped.append(name)

    def publish(self) -> list[Path]:
        """Give every file its name and return the paths.

        Raises:
            OSError: a file cannot have its name. The older files are left as they are; if some were
                replaced already, all are removed.
        """
        names = [*self._staged, *self._dropped]
        for path in (self.directory / name for name in names):
            if path.is_dir() and not path.is_symlink():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        published: list[Path] = []
        try:
            for name, (fresh, file) in list(self._staged.items()):
                published.append(fresh.replace(self.directory / name))
                del self._staged[name]  # its name is free for another writer
                file.close()  # gives the lock back
            for name in self._dropped:
                (self.directory / name).unlink(missing_ok=True)
        except OSError:
            if published:
                remove(self.directory, names)
            raise
        return published


def remove(directory: Path, names: Iterable[str]) -> list[Path]:
    """Remove files of a report that is no longer true; return those that could not be.

    A file that cannot be removed is emptied, if that is possible.
    """
    left: list[Path] = []
    for path in (directory / name for name in names):
        try:
            path.unlink(missing_ok=True)
        except OSError:
            try:
                os.truncate(path, 0)
            except OSError:
                left.append(path)
    return left


def _opened_beside(path: Path) -> tuple[Path, int]:
    """Return an empty file beside `path` that no other process writes, and its descriptor.

    It is what an earlier writer left when it was killed, unless another one is at work: a run may
    end while somebody rebuilds its report.
    """
    fresh = path.with_name(f".{path.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if fresh.stat().st_ino == os.fstat(handle).st_ino:
            os.ftruncate(handle, 0)
            return fresh, handle
    except OSError:  # it is locked, or was moved away, or there are no locks here
        pass
    os.close(handle)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    return fresh, os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
