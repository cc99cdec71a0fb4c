"""A real standby of a real primary, which confirms its commits, and takes its place."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import psycopg
import pytest

from orchestrator.database.private_server import OWNER, PrivateServer
from tests.database.patience import until_overdue

NAME = "standby"


class Standby(PrivateServer):
    """A copy of a primary that follows it."""

    def follow(self, primary: PrivateServer) -> None:
        """Copy the primary and follow it from then on. Only once."""
        self._run(
            *("pg_basebackup", "-D", self._data, "-h", str(primary.socket), "-U", OWNER),
            *("-X", "stream", "-c", "fast", "--no-sync"),
        )
        self._configure(
            {
                "unix_socket_directories": str(self.socket),
                "primary_conninfo": f"host={primary.socket} user={OWNER} application_name={NAME}",
                "synchronous_standby_names": "",  # once it is promoted, nobody follows it
            }
        )
        (self.directory / "data" / "standby.signal").touch()
        self.start()

    def promote(self) -> None:
        """Take the primary's place; return when it takes writes."""
        self._run("pg_ctl", "promote", "-D", self._data, "-w", "-t", "60")


@contextmanager
def standby_of(primary: PrivateServer) -> Iterator[Standby]:
    """Make a standby without which nothing is committed; stop and remove it at the end."""
    if not (primary.binaries / "pg_basebackup").exists():
        pytest.skip(f"there is no pg_basebackup in {primary.binaries}")
    owner = primary.directory.stat()
    with TemporaryDirectory(prefix="b-r-standby-", dir=primary.directory.parent) as name:
        user = "nobody" if owner.st_uid != os.geteuid() else None
        standby = Standby(primary.binaries, Path(name), user)
        standby.socket.mkdir(0o700)
        for each in (standby.directory, standby.socket):
            os.chown(each, owner.st_uid, owner.st_gid)
        standby.follow(primary)
        try:
            primary.set("synchronous_standby_names", NAME)
            until_synchronous(primary)
            yield standby
        finally:
            standby.stop(immediate=True)


def until_synchronous(primary: PrivateServer) -> None:
    """Wait until commits of the primary wait for its standby."""
    asked = "SELECT sync_state FROM pg_stat_replication"
    with psycopg.connect(primary.url(), autocommit=True) as connection:
        for _ in until_overdue():
            if connection.execute(asked).fetchall() == [("sync",)]:
                return
            time.sleep(0.05)


def either(first: PrivateServer, second: PrivateServer, database: str, user: str) -> str:
    """Return the address of whichever of two servers takes writes."""
    hosts = quote(f"{first.socket},{second.socket}", safe=",")
    return (
        f"postgresql:///{database}?host={hosts}&port=5432&user={user}"
        "&target_session_attrs=read-write"
    )
