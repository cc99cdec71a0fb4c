"""Paths on this machine that may not be there yet."""

from __future__ import annotations

from pathlib import Path


def nearest_existing(path: Path) -> Path:
    """Return `path`, or the nearest directory above it that exists and may be looked at."""
    for each in (path, *path.parents):
        try:
            if each.exists():
                return each
        except OSError:
            continue
    return path
