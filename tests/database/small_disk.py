"""A disk that is really full: a small file system in memory, whose room a file takes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orchestrator.database.private_server import PrivateServer

PIECE = bytes(4096)


class SmallDisk:
    """A mounted file system."""

    def __init__(self, directory: Path) -> None:
        """Use what is mounted there."""
        self.directory = directory

    def fill(self) -> None:
        """Take all the space that is left."""
        with suppress(OSError), (self.directory / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(PIECE)

    def give_space(self) -> None:
        """Free what was taken."""
        (self.directory / "filler").unlink()


@contextmanager
def small_disk(server: PrivateServer, part: str, mebibytes: int) -> Iterator[SmallDisk]:
    """Move `part` of a stopped server's data onto a disk of its own; the server is started.

    Skips the test where nothing can be mounted. The server is stopped at the end.
    """
    disk = server.directory / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        server.stop()
        _moved(server.directory / "data" / part, disk / "moved")
        server.start()
        try:
            yield SmallDisk(disk)
        finally:
            with suppress(Exception):  # it may have ended by itself
                server.stop(immediate=True)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def _moved(part: Path, to: Path) -> None:
    """Move a directory, and leave a link to it; its owner keeps it."""
    owner = part.stat()
    shutil.move(part, to)
    part.symlink_to(to)
    os.lchown(part, owner.st_uid, owner.st_gid)
    for each in (to.parent, to, *to.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)
    to.chmod(0o700)
