"""Plan locks: one run of a plan at a time, and no lock outlives its process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.errors import RunLocked
from orchestrator.journal import RunSummary, State
from orchestrator.model import RunId
from tests.journal.sample import BEGAN, RUN

HOLDER = """
import sys
from pathlib import Path
from orchestrator.journal import State
with State(Path(sys.argv[1])).plan_lock(sys.argv[2], sys.argv[3]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_runs(state: State, plan: str, run: str) -> Iterator[subprocess.Popen[str]]:
    """Hold a plan's lock in a real second process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state.directory), plan, run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def summary(run: str, plan: str = "drill") -> RunSummary:
    """Return a line of the list of runs."""
    return RunSummary(run=RunId(run), plan=plan, plan_path="", started_at=BEGAN, report_dir="")


@pytest.mark.process
def test_a_plan_that_another_process_runs_is_locked(state: State) -> None:
    """The second process is told which run and process holds the lock; other plans are free."""
    with another_process_runs(state, "drill", RUN) as process:
        with (
            pytest.raises(RunLocked, match=f"run {RUN}, process {process.pid} on "),
            state.plan_lock("drill", RunId("mine")),
        ):
            pytest.fail("the lock was held twice")
        with state.plan_lock("other", RunId("mine")):
            assert state.is_running(summary("mine", "other"))


@pytest.mark.process
def test_the_lock_of_a_killed_process_frees_itself(state: State) -> None:
    """After kill -9 nobody has to remove a file by hand."""
    with another_process_runs(state, "drill", RUN) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()

        assert not state.is_running(summary(RUN))
        with state.plan_lock("drill", RunId("mine")):
            assert state.is_running(summary("mine"))


@pytest.mark.process
def test_only_the_run_that_holds_the_lock_is_running(state: State) -> None:
    """An earlier run of the same plan is not running because a later one is."""
    with another_process_runs(state, "drill", RUN):
        assert state.is_running(summary(RUN))
        assert not state.is_running(summary("earlier"))
        assert not state.is_running(summary(RUN, "other"))


def test_a_lock_is_free_after_its_context_however_that_ended(state: State) -> None:
    """The same process can run the plan again, also after an error, and nothing stays behind."""
    with pytest.raises(LookupError), state.plan_lock("drill", RunId("a" * 60)):
        raise LookupError

    with state.plan_lock("drill", RunId("b")):
        assert state.is_running(summary("b"))
    assert not state.is_running(summary("b"))
    assert not state.is_running(summary("a" * 60))


def test_plan_names_are_no_paths(state: State) -> None:
    """A name with slashes or of any length gets a lock inside the directory."""
    for plan in ("../../etc/drill", "x" * 4000, "Ü \u202e"):
        with state.plan_lock(plan, RunId("r")):
            assert state.is_running(summary("r", plan))

    assert {path.parent for path in state.directory.rglob("*")} == {state.directory}
