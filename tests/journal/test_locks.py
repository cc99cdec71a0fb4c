"""Plan locks: one run of a plan at a time, and no lock outlives its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import pytest

from orchestrator.core.errors import RunLocked
from orchestrator.core.model import RunId
from orchestrator.core.parts import Part
from orchestrator.core.records import RunSummary
from orchestrator.journal import State
from tests.journal.sample import BEGAN, RUN

SIGNS_S = 10.0

HOLDER = """
import sys
from pathlib import Path
from orchestrator.core.parts import read_part
from orchestrator.journal import State
part = read_part(sys.argv[4]) if sys.argv[4] else None
signs_s = float(sys.argv[5]) or None
with State(Path(sys.argv[1])).plan_lock(sys.argv[2], sys.argv[3], part, signs_s=signs_s):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_runs(
    state: State, plan: str, run: str, part: str = "", *, signs_s: float = 0.0
) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock of a plan, or of a part of it, in a real second process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state.directory), plan, run, part, str(signs_s)],
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


@pytest.mark.process
def test_the_lock_of_a_dead_run_is_free_beside_a_living_run_of_its_plan(state: State) -> None:
    """Unmounting what a dead run left disturbs nobody; its plan stays locked."""
    dead = RunId("dead")
    with another_process_runs(state, "drill", RUN):
        with state.run_lock("drill", dead):
            assert state.is_running(summary("dead"))
            with (
                pytest.raises(RunLocked, match="another process works on run dead"),
                state.run_lock("drill", dead),
            ):
                pytest.fail("the lock was held twice")
        assert not state.is_running(summary("dead"))
        with pytest.raises(RunLocked, match=f"run {RUN}, process"), state.run_lock("drill", RUN):
            pytest.fail("the run lives")


def test_who_unmounts_a_run_keeps_its_resume_out(state: State) -> None:
    """Also where the plan's lock became free meanwhile; a new run of the plan may begin then."""
    dead = RunId("dead")
    with ExitStack() as living:
        living.enter_context(state.plan_lock("drill", RUN))
        with state.run_lock("drill", dead):
            living.close()
            with (
                pytest.raises(RunLocked, match="another process works on run dead"),
                state.plan_lock("drill", dead),
            ):
                pytest.fail("two would act in the same sessions")
            with state.plan_lock("drill", RunId("new")):
                assert state.is_running(summary("new"))
    with state.plan_lock("drill", dead), pytest.raises(RunLocked), state.run_lock("drill", dead):
        pytest.fail("it is resumed")


def test_a_run_of_an_earlier_version_has_no_lock_of_its_own(state: State) -> None:
    """It holds its plan's, which names it: it lives."""
    with state.plan_lock("drill", RUN):
        (own,) = state.directory.glob("run-*.lock")
        own.unlink()
        with pytest.raises(RunLocked, match="being run already"), state.run_lock("drill", RUN):
            pytest.fail("the run lives")
        assert state.is_running(summary(RUN))


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


@pytest.mark.process
def test_parts_of_a_plan_run_at_once_each_of_them_once(state: State) -> None:
    """Whoever would mount the same machine is refused, and told who does."""
    second = Part(number=2, of=3)
    with another_process_runs(state, "drill", RUN, "1/3") as process:
        holder = f"run {RUN}, process {process.pid} on "
        with state.plan_lock("drill", RunId("mine"), second):
            assert state.is_running(summary("mine"))
            assert state.is_running(summary(RUN))
        for part, words in (
            (Part(number=1, of=3), f"shard 1/3 of the plan 'drill' is being run .*{holder}"),
            (Part(number=2, of=2), f"divided in another way .*{holder}"),
            (None, f"the plan 'drill' is being run already .*{holder}"),
        ):
            with (
                pytest.raises(RunLocked, match=words),
                state.plan_lock("drill", RunId("mine"), part),
            ):
                pytest.fail("a machine was in two runs")
    with state.plan_lock("drill", RunId("mine")):
        pass


@pytest.mark.process
def test_a_whole_plan_keeps_its_parts_out(state: State) -> None:
    """The part is told who runs all of it; once that has ended no file is left of the part."""
    with another_process_runs(state, "drill", RUN) as process:
        with (
            pytest.raises(RunLocked, match=f"run {RUN}, process {process.pid} on "),
            state.plan_lock("drill", RunId("mine"), Part(number=1, of=2)),
        ):
            pytest.fail("a machine was in two runs")
        process.send_signal(signal.SIGKILL)
        process.wait()
        with state.plan_lock("drill", RunId("mine"), Part(number=1, of=2)):
            assert len(list(state.directory.glob("plan-*-1-of-2.lock"))) == 1
    assert not list(state.directory.glob("plan-*-of-*"))


def backdated(state: State, seconds: float) -> None:
    """Let the sign of life of the holder of a run's lock be so old."""
    (lock,) = state.directory.glob("run-*.lock")
    then = time.time() - seconds
    os.utime(lock, (then, then))


def test_a_holder_without_a_sign_of_life_has_stalled(state: State) -> None:
    """Since the last one, until the next one, and only as long as it holds the lock."""
    with state.plan_lock("drill", RUN, signs_s=SIGNS_S):
        assert state.stall(summary(RUN)) is None
        backdated(state, 2.9 * SIGNS_S)
        assert state.stall(summary(RUN)) is None
        backdated(state, 3.1 * SIGNS_S)
        stall = state.stall(summary(RUN))
        other = state.stall(summary("other"))
        state.show_life("drill", RUN)
        assert state.stall(summary(RUN)) is None
    state.show_life("drill", RUN)

    assert stall is not None
    assert stall.who.startswith(f"process {os.getpid()} on ")
    assert 30 < (datetime.now(UTC) - stall.since).total_seconds() < 600
    assert other is None
    assert state.stall(summary(RUN)) is None
    assert not list(state.directory.glob("run-*.lock"))  # a late sign makes no file


def test_who_promised_no_signs_is_not_said_to_stall(state: State) -> None:
    """A process of an earlier version gives none."""
    with state.plan_lock("drill", RUN):
        backdated(state, 3600)

        assert state.stall(summary(RUN)) is None


@pytest.mark.process
def test_a_dead_holder_has_not_stalled(state: State) -> None:
    """Its lock is free, whatever stands in the file."""
    with another_process_runs(state, "drill", RUN, signs_s=SIGNS_S) as process:
        backdated(state, 3600)
        living = state.stall(summary(RUN))
        process.send_signal(signal.SIGKILL)
        process.wait()

        assert living is not None
        assert living.who.startswith(f"process {process.pid} on ")
        assert state.stall(summary(RUN)) is None
