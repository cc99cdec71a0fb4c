"""Two runs of one plan, and what a dead process leaves: told plainly, and never in the way."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from orchestrator.app.planned_limits import limits_of
from orchestrator.plan.file.loading import load_plan
from tests.host.test_disk import check
from tests.invariants import allowed
from tests.journal.test_waiting import another_process_writes
from tests.processes import (
    PATIENCE_S,
    Place,
    Servers,
    ended,
    kill,
    servers,
    until_running,
    until_said,
    until_waiting_for_runs,
)

pytestmark = pytest.mark.process


def test_the_second_run_of_a_plan_is_told_which_run_it_waits_for(
    stalled: Servers, place: Place
) -> None:
    """Code 6, with run, process and machine; also for `unmount`, which must not interfere."""
    plan = stalled.plan(place.directory, targets=20)
    first = place.start("run", plan, "--yes", "--json")
    until_running(first, 1)

    second = place.call("run", plan, "--yes")
    unmount = place.call("unmount", "last")
    first.send_signal(signal.SIGINT)
    stalled.go_on()
    code = ended(first)[0]

    for refused in (second, unmount):
        assert refused.returncode == 6
        assert re.search(rf"run \d+T\d+Z-\w+, process {first.pid} on ", refused.stderr)
    assert code == 130
    check(stalled, place, plan)


def test_the_lock_of_a_killed_run_explains_itself_and_is_free(place: Place) -> None:
    """The next run of the plan begins, and says whose lock it found and what to do.

    What the dead run may have left mounted counts in the limits: `unmount` releases it first.
    """
    with servers(stall_after=1) as stalled:  # the plan's first wave
        plan = stalled.plan(place.directory, targets=8)
        first = place.start("run", plan, "--yes", "--json")
        until_running(first, 6)
        kill(first)
        second = place.start("run", plan, "--yes")
        said = until_said(second, "lock.left_by_dead_process")
        assert second.stderr is not None
        said += second.stderr.readline()
        second.send_signal(signal.SIGTERM)
        stalled.go_on()
        assert ended(second)[0] == 143
        unmounted = place.call("unmount", _run_in(said))
        third = place.call("run", plan, "--yes")

    assert f"process {first.pid} on " in said
    assert "bulk-restore unmount" in said
    assert unmounted.returncode == 0, unmounted.stdout
    assert third.returncode == 0, third.stderr
    assert "lock.left_by_dead_process" not in third.stderr


def _run_in(said: str) -> str:
    """Return the run whose dead process is named."""
    found = re.search(r"lock\.left_by_dead_process.*?(\d+T\d+Z-\w+)", said)
    assert found is not None, said
    return found.group(1)


def test_a_run_that_ended_leaves_no_lock_behind(quick: Servers, place: Place) -> None:
    """The next one has nothing to explain."""
    plan = quick.plan(place.directory, targets=2)
    assert place.call("run", plan, "--yes").returncode == 0

    done = place.call("run", plan, "--yes")

    assert done.returncode == 0
    assert "lock" not in done.stderr


def test_a_run_waits_for_a_journal_that_another_program_has_locked(
    quick: Servers, place: Place
) -> None:
    """A backup of the state directory costs a run some seconds, and is named on stderr."""
    plan = quick.plan(place.directory, targets=2)
    assert place.call("run", plan, "--yes").returncode == 0

    with another_process_writes(place.directory / "state" / "journal.sqlite") as backup:
        run = place.start("run", plan, "--yes")
        told = until_said(run, "another process holds the lock of the journal")
        assert run.poll() is None
        backup.kill()
        code = ended(run)[0]

    assert code == 0
    assert "journal.locked" in told
    assert not quick.truth().still_open()


WITHOUT_LOCKS = """
import errno, fcntl, sys
def refuse(file, how):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
from orchestrator.__main__ import main
sys.argv[0] = "bulk-restore"
main()
"""


def test_a_file_system_without_locks_is_named_as_such(quick: Servers, place: Place) -> None:
    """Not "being run already": code 74, what is wrong with the directory, and what to do."""
    plan = quick.plan(place.directory, targets=2)
    arguments = place.arguments("run", plan, "--yes")[3:]

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )

    assert done.returncode == 74
    assert "has no locks (No locks available)" in done.stderr
    assert "--state" in done.stderr
    assert "already" not in done.stderr
    assert not quick.truth().logons


@pytest.mark.parametrize("name_of_second", ["127.0.0.1", "localhost"])
def test_two_runs_at_once_share_the_limits_of_their_servers(
    name_of_second: str, quick: Servers, place: Place
) -> None:
    """Two real processes, two plans, the same machines: counted at the servers, no limit is passed.

    The first holds its mounts until the second says that it waits; neither fails. The second
    may know the servers by other names; `check` then finds what `run` does.
    """
    plans = []
    for name, targets in (("one", 8), ("two", 16)):
        directory = place.directory / name
        directory.mkdir()
        plans.append(quick.plan(directory, targets=targets, name=name))
    limits = limits_of(load_plan(plans[0]).plan, None)
    renamed = plans[1].read_text().replace("https://127.0.0.1", f"https://{name_of_second}")
    plans[1].write_text(renamed)

    first = place.start("run", plans[0], "--yes", "--json", "--hold", "1h")
    until_running(first, 8)
    checked = place.call("check", plans[1], "--state", place.directory / "state").stdout
    second = place.start("run", plans[1], "--yes", "--json")
    until_waiting_for_runs(second)
    first.send_signal(signal.SIGINT)  # ends its holds
    told = [ended(run) for run in (first, second)]

    assert [code for code, _, _ in told] == [130, 0], told
    assert re.search(r"run \d+T\d+Z-\w+ holds \d+ mounts? there now", checked), checked
    assert "has not done with this machine yet" in checked
    assert "other session" not in str(place.values()["warnings"])
    truth = quick.truth()
    for shared, peak in truth.peaks.items():
        if shared != "total":
            most = allowed(limits, shared)
            assert most is None or peak <= most, f"{shared}: {peak} open, {most} allowed"
    assert len(truth.mounts) == 24
    assert not truth.still_open()
