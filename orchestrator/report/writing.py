"""Writing the renderings into the report directory: owner-only, whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from orchestrator.report import as_csv, as_html, as_json, as_markdown, junit
from orchestrator.report.text import text
from orchestrator.report.values import Report

RENDERINGS: Mapping[str, Callable[[Report], str]] = {
    "report.json": as_json.render,
    "report.html": as_html.render,
    "junit.xml": junit.render,
    "report.md": as_markdown.render,
    "report.csv": as_csv.render,
    "report.txt": text,
}
"""File name -> how it is made. A new rendering is one more line."""


def write(report: Report, directory: Path) -> list[Path]:
    """Write every rendering; each appears under its name only when it is complete.

    One that fails leaves the others, and its own older file, as they should be.

    Raises:
        OSError: the directory or a file cannot be made or written.
        Exception: whatever else the first failing rendering raised.
    """
    _make_private(directory)
    written: list[Path] = []
    failures: list[Exception] = []
    for name, render in RENDERINGS.items():
        try:
            content = render(report).encode("utf-8", errors="backslashreplace")
            written.append(replaced(directory / name, [content]))
        except Exception as exc:  # noqa: BLE001 - raised below, when the others are written
            failures.append(exc)
    if failures:
        raise failures[0]
    return written


def _make_private(directory: Path) -> None:
    """Make a directory and those above it that are missing, for the owner only."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        each.chmod(0o700)  # the umask may have taken the owner's own rights


def replaced(path: Path, content: Iterable[bytes]) -> Path:
    """Return `path`, which now holds `content`, for the owner only; whole or not at all."""
    fresh, handle = _opened_beside(path)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
            fresh.replace(path)  # before the lock is given back
    except Exception:
        fresh.unlink(missing_ok=True)
        raise
    return path


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
