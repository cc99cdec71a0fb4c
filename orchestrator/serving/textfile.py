"""`--metrics-file`: the metrics where node exporter's textfile collector reads them."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replace the file in one step, so that nobody ever reads half of it; others may read it.

    Raises:
        OSError: it cannot be written; the old one, if any, still stands.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")  # a name the collector passes over
    try:
        with fresh.open("w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
