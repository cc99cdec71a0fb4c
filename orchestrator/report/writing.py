"""Writing the renderings into the report directory: owner-only, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.report import as_csv, as_html, as_json, as_markdown, junit
from orchestrator.report.summary import Report
from orchestrator.report.text import text

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
            written.append(_replaced(directory / name, render(report)))
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


def _replaced(path: Path, content: str) -> Path:
    """Return `path`, which now holds `content`."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return path
