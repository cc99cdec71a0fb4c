"""The PostgreSQL of our own: where it comes from, who may reach it, and that nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from orchestrator.database import private_server as module
from orchestrator.database.private_server import (
    CannotStart,
    found_binaries,
    private_server,
    wheel_binaries,
)
from tests.database.patience import until_overdue

pytestmark = pytest.mark.process

KINDS = {each.resolve(): each for each in found_binaries()}


@pytest.mark.parametrize("binaries", KINDS.values(), ids=str)
def test_it_runs_without_any_right_and_leaves_nothing(binaries: Path) -> None:
    """With the system's binaries and with those of the wheel."""
    with private_server(binaries=binaries) as server:
        directory = server.directory
        pid = postmaster(directory)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            ((listens,),) = connection.execute("SHOW listen_addresses").fetchall()
        assert listens == ""
        assert directory.stat().st_mode & 0o077 == 0
        assert owner_of(pid) == directory.stat().st_uid != 0

    assert not directory.exists()
    wait_for_the_end(pid, directory)


def test_the_wheel_is_there_for_machines_without_postgresql() -> None:
    """So the tests need no package of the system."""
    assert wheel_binaries() in KINDS.values()


STARTED = """
import sys, time
from orchestrator.database.private_server import private_server
with private_server() as server:
    print(server.directory, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_is_gone_however_its_process_ends(number: signal.Signals) -> None:
    """Killed, too."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTED], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().decode().strip())
        pid = postmaster(directory)
        process.send_signal(number)
        process.wait()

    wait_for_the_end(pid, directory)


def test_ctrl_c_in_the_terminal_does_not_stop_the_server() -> None:
    """A run ends first; so it is no part of the terminal's group of processes."""
    with private_server() as server:
        assert os.getpgid(postmaster(server.directory)) != os.getpgid(0)


def test_a_port_on_loopback_takes_the_password() -> None:
    """And nobody without it."""
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
    with private_server(settings=settings) as server:
        where = f"postgresql://{module.OWNER}@127.0.0.1:{port}/postgres"
        with closing(psycopg.connect(where, password=server.password)):
            pass
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(where, password="guessed")
        with closing(psycopg.connect(server.url())):
            pass


def test_one_that_cannot_start_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own words."""
    with TemporaryDirectory() as directory:
        monkeypatch.setattr("tempfile.tempdir", directory)
        Path(directory).chmod(0o1777)
        with (
            pytest.raises(CannotStart, match="shared_buffers"),
            private_server(settings={"shared_buffers": "plenty"}),
        ):
            pass
        with pytest.raises(CannotStart, match="pip install"), private_server(binaries=tmp_path):
            pass

        assert list(Path(directory).iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as somebody else")
def test_a_directory_that_its_user_cannot_write_into_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As root's own directory for temporary files."""
    with TemporaryDirectory() as directory:
        monkeypatch.setattr("tempfile.tempdir", directory)
        with private_server() as server:
            assert not server.directory.is_relative_to(directory)


def test_a_crash_keeps_what_was_committed() -> None:
    """As with any PostgreSQL."""
    with private_server() as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS x")

        server.restart(immediate=True)

        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT x FROM kept").fetchall() == [(1,)]


@pytest.fixture
def hidden_wheel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the wheel's binaries where only root may enter, as in root's home."""
    wheel = wheel_binaries()
    assert wheel is not None
    with TemporaryDirectory() as directory:
        package = wheel.parent.parent
        for each in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(each, Path(directory) / each.name, symlinks=True)
        hidden = Path(directory) / package.name / "pginstall" / "bin"
        monkeypatch.setattr(module, "wheel_binaries", lambda: hidden)
        yield hidden


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as somebody else")
def test_binaries_that_only_root_may_read_are_copied(hidden_wheel: Path) -> None:
    """The server runs as nobody."""
    with private_server(binaries=hidden_wheel) as server:
        assert server.binaries.is_relative_to(server.directory)


def wait_for_the_end(pid: int, directory: Path) -> None:
    """Wait until a server is gone with all that it had."""
    for _ in until_overdue():
        if not directory.exists() and not is_running(pid):
            return
        time.sleep(0.01)


def postmaster(directory: Path) -> int:
    """Return the process that serves a cluster."""
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def owner_of(pid: int) -> int:
    """Return the user of a process."""
    ran = subprocess.run(
        ["ps", "-o", "uid=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


def is_running(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def free_port() -> int:
    """Return a port on loopback that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
