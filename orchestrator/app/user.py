"""Who uses this program: for the journal and the report."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """Return the name of this process's user, or its number where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def person_name() -> str:
    """Return who asks: the user that sudo came from, where the process runs as another one.

    It is what the environment says, and proves nothing.
    """
    return os.environ.get("SUDO_USER") or user_name()
