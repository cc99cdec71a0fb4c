"""`demo --sites --kill`: real workers over a real PostgreSQL, one of which is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.sites.site import until
from tests.processes import ended, until_said

pytestmark = pytest.mark.process


def test_the_busiest_worker_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    """Everything is mounted once, nothing is left, and the report says who took over."""
    command = [sys.executable, "-m", "orchestrator", "demo", "--sites", "3", "--kill"]
    command += ["--targets", "60", "--directory", str(tmp_path), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Worker \d+ was killed; others served all that it had", done.stdout)
    assert "60 mounts made, 0 still open" in done.stdout
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["totals"]["mounted"] == 60
    assert sum(shard["takeovers"] for shard in report["run"]["shards"]) >= 1
    verified = [
        sys.executable,
        "-m",
        "orchestrator",
        "report",
        "--verify",
        str(tmp_path / "report"),
    ]
    assert subprocess.run(verified, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("arguments", [["--kill"], ["--kill", "--sites", "1"]])
def test_somebody_must_be_there_to_take_over(arguments: list[str]) -> None:
    """Refused before anything is started."""
    command = [sys.executable, "-m", "orchestrator", "demo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "--kill needs --sites 2 or more" in done.stderr


MARK = "DEMO_OF_THIS_TEST"
"""A variable that everything inherits that the demo starts."""


@contextmanager
def demo(directory: Path, words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a demo as a terminal does, in a process group of its own, and read up to words."""
    command = [sys.executable, "-m", "orchestrator", "demo", "--sites", "2"]
    process = subprocess.Popen(
        [*command, "--targets", "600", "--directory", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, MARK: str(directory)},
        process_group=0,
    )
    try:
        until_said(process, words)
        yield process
    finally:
        for each in (process.pid, *left(directory)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.communicate()


def left(directory: Path) -> dict[int, str]:
    """Return the commands of the processes that a demo has started and that still run."""
    mark, found = f"{MARK}={directory}".encode(), {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if mark in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_text().replace("\0", " ")
                if command:  # else it has ended
                    found[int(process.name)] = command
    return found


def database_of(directory: Path) -> Path:
    """Return where the database of a demo is."""
    commands = left(directory).values()
    return next(Path(found[1]) for each in commands if (found := re.search(r"-D (\S+)", each)))


def test_ctrl_c_stops_the_run_and_ends_everything_in_order(tmp_path: Path) -> None:
    """The terminal signals the whole process group; the workers go on, for they are to unmount."""
    with demo(tmp_path, words="mounted") as process:
        database = database_of(tmp_path)

        os.killpg(process.pid, signal.SIGINT)
        code, out, err = ended(process)

    assert code == 130, err
    assert re.search(r"The servers counted: [1-9]\d* mounts made, 0 still open", out)
    assert err.splitlines()[-1].startswith("bulk-restore: the demo was stopped; its workers,")
    assert "Traceback" not in err
    assert json.loads((tmp_path / "report" / "report.json").read_text())["run"]["exit_code"] == 130
    assert left(tmp_path) == {}
    assert not database.parent.exists()


def test_a_second_ctrl_c_ends_a_demo_at_once(tmp_path: Path) -> None:
    """There is no report then, and no traceback; a third one changes nothing."""
    with demo(tmp_path, words="mounted") as process:
        database = database_of(tmp_path)

        os.killpg(process.pid, signal.SIGINT)
        until_said(process, "stopping")
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
        code, out, err = ended(process)

    assert code == 130, err
    assert err.splitlines()[-1].startswith("bulk-restore: stopped by SIGINT; its workers,")
    assert out == ""
    assert "Traceback" not in err
    assert left(tmp_path) == {}
    assert not database.parent.exists()


def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    """Workers, servers and database end by themselves."""
    with demo(tmp_path, words="mounted") as process:
        database = database_of(tmp_path)

        process.kill()
        process.wait()
        until(lambda: not left(tmp_path))

    assert not database.parent.exists()
