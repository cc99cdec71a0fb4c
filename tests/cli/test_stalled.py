"""A run whose process is there and does not move: stopped for real, and seen from elsewhere."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from orchestrator.core.policy import SIGN_EVERY, STALLED_AFTER_SIGNS
from tests.processes import Place, Servers, ended, kill, until_running, until_said
from tests.views.web.exposition import read

pytestmark = pytest.mark.process

PLAN = ("plan", "process-drill")


@contextmanager
def standing_still(run: Popen[str], place: Place) -> Iterator[None]:
    """Stop a run's process, and let its last sign of life be longer ago than may be.

    Only the time of the sign is made up: nobody need wait for half a minute.
    """
    run.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, run.pid, os.WSTOPPED | os.WNOWAIT)
    (lock,) = (place.directory / "state").glob("run-*.lock")
    then = time.time() - SIGN_EVERY * STALLED_AFTER_SIGNS - 1
    os.utime(lock, (then, then))
    try:
        yield
    finally:
        run.send_signal(signal.SIGCONT)


def until_scraped(path: Path, name: str, *labels: tuple[str, str]) -> float:
    """Return a sample as soon as a file of metrics has it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = read(path.read_text()) if path.exists() else {}
        if name in found and found[name].samples.get((PLAN, *labels)):
            return found[name].samples[PLAN, *labels]
        time.sleep(0.05)
    raise AssertionError(f"no {name} in {path.read_text()}")


def test_a_process_that_is_stopped_is_seen_to_stall_and_to_go_on(
    stalled: Servers, place: Place
) -> None:
    """By status, watch and the metrics; what is mounted needs a person as long as it lasts."""
    run = place.start("run", stalled.plan(place.directory, targets=6), "--yes", "--json")
    until_running(run, 1)
    watch = place.start("watch", "last")
    until_said(watch, "/6 done")
    prom = place.directory / "drill.prom"
    state = ["--state", str(place.directory / "state"), "--serve=127.0.0.1:0"]
    page = place.start("serve", "last", *state, "--metrics-file", prom)
    before = place.call("status", "last")

    with standing_still(run, place):
        listed, shown = place.call("status"), place.call("status", "last")
        values = json.loads(place.call("status", "last", "--json").stdout)
        said = until_said(watch, "stalled since")
        said += until_said(watch, "\n")
        since = until_scraped(prom, "bulk_restore_run_stalled_since_timestamp_seconds")
        until_scraped(prom, "bulk_restore_run_state", ("state", "stalled"))
    moved = until_said(watch, "goes on")
    until_scraped(prom, "bulk_restore_run_state", ("state", "running"))
    stalled.go_on()
    code, _, _ = ended(run)
    page.send_signal(signal.SIGINT)

    assert (before.returncode, shown.returncode, listed.returncode) == (0, 3, 0)
    assert ": running\n" in before.stdout
    assert "  stalled since 20" in listed.stdout
    assert f"process {run.pid} on" in shown.stdout
    assert "if it does not, kill it, then: bulk-restore resume" in shown.stdout
    assert (values["state"], values["stalled_since"][:2]) == ("stalled", "20")
    assert "it may go on" in said
    assert time.time() - since > SIGN_EVERY
    assert "stalled" not in moved
    assert (code, ended(watch)[0], ended(page)[0]) == (0, 0, 0)


def test_one_that_is_killed_while_it_stalls_is_dead(stalled: Servers, place: Place) -> None:
    """Nobody is told meanwhile that it goes on."""
    run = place.start("run", stalled.plan(place.directory, targets=4), "--yes", "--json")
    until_running(run, 1)
    watch = place.start("watch", "last")
    until_said(watch, "/4 done")

    with standing_still(run, place):
        until_said(watch, "stalled since")
        kill(run)
    code, _, err = ended(watch)
    shown = place.call("status", "last")
    stalled.go_on()

    assert code == 3
    assert "dead: its process is gone" in err
    assert "goes on" not in err
    assert shown.returncode == 3
    assert ": dead\n" in shown.stdout
