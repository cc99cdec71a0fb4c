"""Reading a file that holds a secret."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class NotPrivate(Exception):
    """The file must not be used as a secret; the text names it and the remedy."""


def read_private(path: Path, shown: str, limit: int, *, owner_only: bool = True) -> bytes:
    """Return at most `limit` bytes of a regular file, called `shown` in messages.

    With `owner_only`, nobody else may have any right to it.

    Raises:
        NotPrivate: it is no regular file, or others may read it.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise NotPrivate(f"{shown} is not a regular file")
        if owner_only and facts.st_mode & 0o077:
            raise NotPrivate(f"{shown} can be read by others than its owner; run: chmod 600 {path}")
        return file.read(limit)


def _without_waiting(path: str, flags: int) -> int:
    """Open `path`; a named pipe without a writer would block the whole program."""
    return os.open(path, flags | os.O_NONBLOCK)
