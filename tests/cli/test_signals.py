"""Signals to a real process that waits for a server: one ends the asking, two the process."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.demo import settings_for
from orchestrator.em import limits
from tests.processes import PASSWORD, PATIENCE_S, Place, Servers, ended, served, until_stopping

pytestmark = pytest.mark.process

LISTING = "type=VmReplicaPoint|type=VmRestorePoint"

UNANSWERED_S = limits.READ.silence
"""Seconds that a request would be waited for at least: a minute."""


@contextmanager
def bad(faults: Sequence[Mapping[str, Any]]) -> Iterator[Servers]:
    """Serve one server with such faults."""
    chosen = settings_for(1, machines=20, password=PASSWORD, duration_range=(0.5, 1.0))
    with served([replace(each, faults=faults) for each in chosen]) as running:
        yield running


def until_asked(process: subprocess.Popen[str], running: Servers, count: int) -> None:
    """Wait until the server has received so many requests."""
    due = time.monotonic() + PATIENCE_S
    while sum(running.truth().received.values()) < count:
        assert process.poll() is None, process.stderr
        assert time.monotonic() < due
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        ({"kind": "black_hole", "query": LISTING}, 2),
        ({"kind": "black_hole", "path": "sessionMngr"}, 1),
    ],
    ids=["listing", "logon"],
)
def test_one_signal_ends_a_run_that_only_asks(
    fault: Mapping[str, Any], asked: int, tmp_path: Path
) -> None:
    """It is gone about two seconds later, on an idle machine, and resumable."""
    place = Place(tmp_path)
    with bad([fault]) as running:
        process = place.start("run", running.plan(tmp_path, targets=5), "--yes", "--json")
        until_asked(process, running, asked)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        code, _, err = ended(process)
        took = time.monotonic() - began

    assert code == 130, err
    assert took < UNANSWERED_S / 2


def test_two_signals_end_a_run_whose_mounts_are_in_doubt(tmp_path: Path) -> None:
    """Neither the lost answers nor the silence that follows is waited for; doubts are named."""
    place = Place(tmp_path)
    faults: list[Mapping[str, Any]] = [
        {"kind": "drop_after", "method": "POST", "path": "/mounts$"},
        {"kind": "black_hole", "path": "/tasks|/query|/mounts|logonSessions", "skip": 8},
    ]
    with bad(faults) as running:
        process = place.start("run", running.plan(tmp_path, targets=5), "--yes", "--json")
        until_asked(process, running, 11)  # one of them is not answered
        process.send_signal(signal.SIGINT)
        until_stopping(process)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        code, _, err = ended(process)
        took = time.monotonic() - began

    assert code == 3, err
    assert took < UNANSWERED_S / 2
    run = place.values()["run"]
    assert run["out_of_reach"] == 0, "the session stays open for `unmount`"


@pytest.mark.parametrize("verb", ["plan", "check", "coverage", "forecast"])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_only_asks_logs_off_when_it_is_stopped(
    verb: str, sent: signal.Signals, code: int, tmp_path: Path
) -> None:
    """Within the grace of a logoff, with one line that says what stopped it."""
    place = Place(tmp_path)
    with bad([{"kind": "black_hole", "query": LISTING}]) as running:
        more = ["--ask"] * (verb == "coverage")
        process = place.start(verb, running.plan(tmp_path, targets=5), *more)
        until_asked(process, running, 3 if verb == "check" else 2)
        began = time.monotonic()
        process.send_signal(sent)
        ended_with, out, err = ended(process)
        took = time.monotonic() - began
        truth = running.truth()

    assert (ended_with, out, err) == (code, "", f"bulk-restore: stopped by {sent.name}\n")
    assert truth.logons == truth.sessions_closed == 1
    assert took < UNANSWERED_S / 2
