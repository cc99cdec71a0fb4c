"""File systems and clocks that only one process sees, without being root."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest


@cache
def _allowed() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def with_tmpfs(directory: Path, options: str) -> list[str]:
    """Return what goes before a command so that it sees a file system of its own there.

    `options` are those of mount, such as `size=400k` or `ro`. The test is skipped where the
    system does not let us.
    """
    if not _allowed():
        pytest.skip("this system lets nobody mount a file system in a namespace of his own")
    directory.mkdir(parents=True, exist_ok=True)
    script = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    return ["unshare", "-rm", "sh", "-c", script, str(directory)]


def having_slept(seconds: int) -> list[str]:
    """Return what goes before a command so that its machine seems to have slept for so long.

    The boot clock has gone on meanwhile, and the monotonic one has not. The test is skipped where
    the system does not let us.
    """
    command = ["unshare", "-rT", "--boottime", str(seconds)]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this system lets nobody have a clock in a namespace of his own")
    return command
