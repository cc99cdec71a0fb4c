"""A real PgBouncer between clients and a database, where it is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from orchestrator.database.private_server import PrivateServer
from tests.database.patience import until_overdue
from tests.database.proxy import beside

CONFIGURATION = """
[databases]
* = host={socket} port=5432
[pgbouncer]
listen_addr =
listen_port = 5432
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
pool_mode = {mode}
default_pool_size = {size}
logfile = {directory}/log
"""
LOGINS = ("drill", "reader", "drills")


def require_pgbouncer() -> None:
    """Skip the test where there is none."""
    if shutil.which("pgbouncer") is None:
        pytest.skip("PgBouncer is not installed (Debian: pgbouncer)")


@contextmanager
def pooled(server: PrivateServer, url: str, mode: str, size: int = 3) -> Iterator[str]:
    """Run a PgBouncer with pools of `size` connections; yield the address `url` through it."""
    with TemporaryDirectory(prefix="b-r-pool-", dir="/tmp") as name:
        directory = Path(name)
        configuration = directory / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(socket=server.socket, directory=directory, mode=mode, size=size)
        )
        (directory / "users").write_text("".join(f'"{login}" ""\n' for login in LOGINS))
        user = _given(directory)
        process = subprocess.Popen(
            ["pgbouncer", "-q", configuration], stdin=subprocess.DEVNULL, user=user
        )
        try:
            for _ in until_overdue():
                assert process.poll() is None, (directory / "log").read_text()
                if (directory / ".s.PGSQL.5432").exists():
                    break
                time.sleep(0.05)
            yield beside(server, directory, url)
            assert process.poll() is None, (directory / "log").read_text()
        finally:
            process.kill()
            process.wait()


def _given(directory: Path) -> int:
    """Give a directory to who may run it, for it refuses root; return that user."""
    if os.geteuid() != 0:
        return os.geteuid()
    user = pwd.getpwnam("nobody").pw_uid  # the server's: its socket is for nobody else
    for each in (directory, *directory.iterdir()):
        os.chown(each, user, -1)
    return user
