"""Entering a directory step by step, each through the one before it, following no link.

What was looked at is what is used: every step opens a name inside of a directory that is
open already, so nobody can exchange a part of the path meanwhile. A link is followed only
where nobody but the system's administrator could have made it (`/tmp` on some systems).
"""

from __future__ import annotations

import os
import stat
from pathlib import PurePosixPath

from orchestrator.core.errors import FileNotSaved

_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LAST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def entered(directory: str) -> int:
    """Return a descriptor of an absolute directory; what is missing of it is made, mode 0700.

    Raises:
        FileNotSaved: a part of it is no directory, or a link that is not followed.
        OSError: it cannot be entered or made.
    """
    path = PurePosixPath(directory)
    if not path.is_absolute() or ".." in path.parts or "\0" in directory:
        raise FileNotSaved(f"{directory!r} is not an absolute path to a directory")
    inner = path.parts[1:]
    here = os.open("/", _STEP if inner else _LAST)
    for number, name in enumerate(inner, 1):
        try:
            there = _step(here, name, _LAST if number == len(inner) else _STEP, path)
        finally:
            os.close(here)
        here = there
    return here


def _step(here: int, name: str, flags: int, path: PurePosixPath) -> int:
    try:
        return os.open(name, flags, dir_fd=here)
    except FileNotFoundError:
        _make(here, name)
        return os.open(name, flags, dir_fd=here)
    except OSError:
        status = os.stat(name, dir_fd=here, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            if status.st_uid == 0 and _only_root_writes(here):
                return os.open(name, flags & ~os.O_NOFOLLOW, dir_fd=here)
            raise FileNotSaved(
                f"{name!r} in {path} is a symbolic link, which is not followed; name the place "
                "that it leads to"
            ) from None
        if not stat.S_ISDIR(status.st_mode):
            raise FileNotSaved(f"{name!r} in {path} is not a directory") from None
        raise


def _make(here: int, name: str) -> None:
    """Make a directory for its owner alone; that somebody was faster is as good."""
    before = os.umask(0o077)  # stricter for a moment, for whoever else makes something meanwhile
    try:
        os.mkdir(name, 0o700, dir_fd=here)
    except FileExistsError:
        pass
    finally:
        os.umask(before)


def _only_root_writes(directory: int) -> bool:
    status = os.fstat(directory)
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
