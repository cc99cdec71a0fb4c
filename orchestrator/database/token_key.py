"""The key that seals session tokens: a file of random bytes, the same on all workers of a site."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from orchestrator.core.errors import KeyUnusable

KEY_BYTES = 32
"""Of AES-256."""


def make_key(path: Path) -> None:
    """Write a new key that only its owner may read. Never writes over anything.

    Raises:
        KeyUnusable: there is something of that name.
        OSError: it cannot be written; nothing is left of it.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise KeyUnusable(
            f"{path} is there already and was not changed: tokens sealed with a lost key are lost"
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o600)
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(handle)
    except OSError:
        path.unlink()
        raise
