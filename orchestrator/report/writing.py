"""Writing the renderings into the report directory: owner-only, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.report import as_json, junit
from orchestrator.report.summary import Report
from orchestrator.report.text import text

RENDERINGS: Mapping[str, Callable[[Report], str]] = {
    "report.json": as_json.render,
    "junit.xml": junit.render,
    "report.txt": text,
}
"""File name -> how it is made. A new rendering is one more line."""


def write(report: Report, directory: Path) -> list[Path]:
    """Write every rendering; each appears under its name only when it is complete.

    Raises:
        OSError: the directory cannot be made or written.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = []
    for name, render in RENDERINGS.items():
        path = directory / name
        fresh = directory / f".{name}.new"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(render(report))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        written.append(path)
    return written
