"""Two runs of one plan, and what a dead process leaves: told plainly, and never in the way."""

from __future__ import annotations

import re
import signal

import pytest

from tests.host.test_disk import check
from tests.processes import Place, Servers, ended, kill, until_running

pytestmark = pytest.mark.process


def test_the_second_run_of_a_plan_is_told_which_run_it_waits_for(
    slow: Servers, place: Place
) -> None:
    """Code 6, with run, process and machine; also for `unmount`, which must not interfere."""
    plan = slow.plan(place.directory, targets=60)
    first = place.start("run", plan, "--yes", "--json")
    until_running(first, 1)

    second = place.call("run", plan, "--yes")
    unmount = place.call("unmount", "last")
    first.send_signal(signal.SIGINT)
    code = ended(first)[0]

    for refused in (second, unmount):
        assert refused.returncode == 6
        assert re.search(rf"run \d+T\d+Z-\w+, process {first.pid} on ", refused.stderr)
    assert code == 130
    check(slow, place, plan)


def test_the_lock_of_a_killed_run_explains_itself_and_is_free(slow: Servers, place: Place) -> None:
    """The next run of the plan begins at once, and says whose lock it found and what to do."""
    plan = slow.plan(place.directory, targets=8)
    first = place.start("run", plan, "--yes", "--json")
    until_running(first, 1)
    kill(first)
    assert place.call("unmount", "last").returncode == 0

    first = place.start("run", plan, "--yes", "--json")
    until_running(first, 1)
    kill(first)
    done = place.call("run", plan, "--yes")

    assert done.returncode == 0, done.stderr
    assert "lock.left_by_dead_process" in done.stderr
    assert f"process {first.pid} on " in done.stderr
    assert "bulk-restore unmount" in done.stderr


def test_a_run_that_ended_leaves_no_lock_behind(slow: Servers, place: Place) -> None:
    """The next one has nothing to explain."""
    plan = slow.plan(place.directory, targets=2)
    assert place.call("run", plan, "--yes").returncode == 0

    done = place.call("run", plan, "--yes")

    assert done.returncode == 0
    assert "lock" not in done.stderr
