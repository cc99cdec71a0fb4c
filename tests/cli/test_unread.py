"""A stream that is open but not read: the run goes on, obeys signals, reports, and ends."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from orchestrator.core.errors import RunNotFound
from orchestrator.journal import State
from tests.cli.test_processes import check
from tests.processes import PATIENCE_S, Place, Servers, ended, kill, servers, until_running

pytestmark = pytest.mark.process

SMALLEST = 4096
"""Bytes of the smallest pipe; a page."""


@pytest.fixture
def running() -> Iterator[Servers]:
    """Serve two servers whose mounts take a moment."""
    with servers(seconds=(0.5, 1.0)) as found:
        yield found


@pytest.fixture
def stalled_later() -> Iterator[Servers]:
    """Serve two servers that finish 20 mounts, and no other until `go_on`."""
    with servers(stall_after=20) as found:
        yield found


@dataclass(slots=True)
class Unread:
    """Where a process writes, and nobody reads: a small pipe, or a terminal that was stopped."""

    near: int
    far: int

    @classmethod
    def pipe(cls) -> Unread:
        """Return a pipe that is full after a few events."""
        far, near = os.pipe()
        fcntl.fcntl(near, fcntl.F_SETPIPE_SZ, SMALLEST)
        return cls(near, far)

    @classmethod
    def terminal(cls) -> Unread:
        """Return a terminal on which somebody has typed Ctrl-S."""
        far, near = pty.openpty()
        tty.setraw(far, termios.TCSANOW)
        state = termios.tcgetattr(near)
        state[0] |= termios.IXON
        termios.tcsetattr(near, termios.TCSANOW, state)
        os.write(far, b"\x13")
        return cls(near, far)

    def close(self) -> None:
        """Let go of both ends."""
        os.close(self.near)
        os.close(self.far)


FORMS = [["--json", "-vv"], ["--color", "always"], ["-vv", "--log-format", "json"]]
KINDS = [Unread.pipe, Unread.terminal]


@pytest.fixture
def stuck() -> Iterator[Callable[..., Unread]]:
    """Return what makes such a place, which is closed at the end."""
    made: list[Unread] = []

    def make(kind: Callable[[], Unread]) -> Unread:
        made.append(kind())
        return made[-1]

    yield make
    for each in made:
        each.close()


def started(place: Place, plan: Path, unread: Unread, form: Sequence[str]) -> subprocess.Popen[str]:
    """Start a run all of whose output goes where nobody reads."""
    return place.start(
        "run", plan, "--yes", *form, stdin=unread.near, stdout=unread.near, stderr=unread.near
    )


def test_a_run_that_nobody_reads_is_whole_and_its_process_ends(
    running: Servers, tmp_path: Path, stuck: Callable[..., Unread]
) -> None:
    """Whatever it writes and wherever: everything is mounted, unmounted and reported."""
    runs = []
    for number, (kind, form) in enumerate(product(KINDS, FORMS)):
        place = Place(tmp_path / str(number), {"TERM": "xterm", "COLUMNS": "80"})
        place.directory.mkdir()
        plan = running.plan(place.directory, targets=10)
        runs.append((place, started(place, plan, stuck(kind), form)))

    for place, process in runs:
        assert process.wait(PATIENCE_S) == 0
        assert place.values()["totals"]["mounted"] == 10
        assert (place.report / "report.html").exists()
    assert len(running.truth().mounts) == 10 * len(runs)
    assert not running.truth().still_open()


@pytest.mark.parametrize("kind", KINDS, ids=["pipe", "terminal"])
def test_a_run_that_nobody_reads_obeys_a_signal(
    kind: Callable[[], Unread], stalled_later: Servers, place: Place, stuck: Callable[..., Unread]
) -> None:
    """It ends as any other: what is mounted is removed, and the report says who stopped it."""
    plan = stalled_later.plan(place.directory, targets=60)
    process = started(place, plan, stuck(kind), ["--json", "-vv"])
    until(lambda: len(stalled_later.truth().mounts) > 20)

    process.send_signal(signal.SIGINT)
    stalled_later.go_on()

    assert process.wait(PATIENCE_S) == 130
    check(stalled_later, place, plan)
    assert not stalled_later.truth().still_open()
    assert place.values()["run"]["exit_code"] == 130


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_a_slow_reader_gets_every_event(running: Servers, place: Place) -> None:
    """A reader that takes its time loses nothing, and sees the summary last."""
    far, near = os.pipe()
    fcntl.fcntl(near, fcntl.F_SETPIPE_SZ, SMALLEST)
    plan = running.plan(place.directory, targets=40)
    process = place.start("run", plan, "--yes", "--json", stdout=near)
    os.close(near)

    read = b""
    while piece := os.read(far, 1000):
        read += piece
        time.sleep(0.02)
    os.close(far)
    code, _, err = ended(process)

    assert code == 0, err
    events = [json.loads(line) for line in read.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "summary"
    assert len(read) > 10 * SMALLEST


def test_a_question_that_nobody_reads_can_be_stopped(
    running: Servers, place: Place, stuck: Callable[..., Unread]
) -> None:
    """Its text does not hold up the signal."""
    plan = running.plan(place.directory, targets=4)
    unread = stuck(Unread.terminal)
    process = place.start("run", plan, stdin=unread.near, stdout=unread.near, stderr=unread.near)
    until(lambda: running.truth().logons == 2)  # the journal was made before
    until(lambda: planned(place) == 4)  # after that it asks

    process.send_signal(signal.SIGTERM)

    assert process.wait(PATIENCE_S) == 143
    assert not running.truth().mounts


def planned(place: Place) -> int:
    """Return how many targets the journal of the place's run has."""
    state = State(place.directory / "state")
    try:
        return len(state.replay(state.find("last")).records)
    except RunNotFound:
        return 0


@pytest.mark.parametrize("kind", KINDS, ids=["pipe", "terminal"])
def test_unmount_releases_though_nobody_reads(
    kind: Callable[[], Unread], stalled: Servers, place: Place, stuck: Callable[..., Unread]
) -> None:
    """What a killed run has left is released, and the process ends.

    All was accepted when it was killed: a request in doubt would rightly be waited for.
    """
    plan = stalled.plan(place.directory, targets=3)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 1)
    kill(process)
    stalled.go_on()
    unread = stuck(kind)
    full = place.start("unmount", "last", "-vv", stdout=unread.near, stderr=unread.near)

    assert full.wait(PATIENCE_S) == 0
    truth = stalled.truth()
    assert truth.mounts
    assert not truth.still_open()
