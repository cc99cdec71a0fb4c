"""The disk fails in the middle of a run: nothing more is asked for, all of it is cleaned up."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.app.planned_limits import limits_of
from orchestrator.journal import State
from orchestrator.plan.file.loading import load_plan
from tests.host.namespaces import with_tmpfs
from tests.invariants import assert_invariants
from tests.processes import Place, Servers, ended, servers, until_running

pytestmark = pytest.mark.process


def check(running: Servers, place: Place, plan: Path) -> None:
    """Compare the written report with what the servers say, and see that nothing is open."""
    assert_invariants(running.truth(), place.values(), limits_of(load_plan(plan).plan, None))
    assert not running.truth().still_open()


def assert_ended_in_order(running: Servers, place: Place, plan: Path, targets: int) -> None:
    """The run was halted by its journal after some mounts, and its report says so."""
    check(running, place, plan)
    assert 0 < len(running.truth().mounts) < targets
    assert running.truth().sessions_closed == running.truth().logons
    report = place.values()
    assert report["run"]["exit_code"] == 74
    assert report["run"]["halted"].startswith("journal: the journal cannot be written")
    assert report["run"]["journal_head"] is None
    assert "the journal is INCOMPLETE" in (place.report / "report.txt").read_text()


@pytest.fixture
def stalled_later() -> Iterator[Servers]:
    """Serve two servers that finish two mounts, and no other until `go_on`."""
    with servers(stall_after=2) as running:
        yield running


def test_a_journal_that_cannot_grow_ends_the_run_in_order(
    stalled_later: Servers, place: Place
) -> None:
    """After the first write error no mount is asked for, every mount is removed, code 74.

    What is on disk is a whole beginning: it can be read, and every mount's intent is in it.
    """
    plan = stalled_later.plan(place.directory, targets=40)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 3)
    wal = place.directory / "state" / "journal.sqlite-wal"

    full = wal.stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (full, full))
    stalled_later.go_on()
    code, _, err = ended(process)

    assert code == 74, err
    assert "the journal cannot be written" in err
    assert_ended_in_order(stalled_later, place, plan, 40)
    state = State(place.directory / "state")
    records = state.replay(state.find("last")).records.values()
    assert len(stalled_later.truth().mounts) <= sum(len(record.attempts) for record in records)


def test_a_full_disk_ends_the_run_in_order(slow: Servers, place: Place) -> None:
    """ENOSPC in the middle: the same as any other error of the disk."""
    plan = slow.plan(place.directory, targets=40)
    small = with_tmpfs(place.directory / "state", "size=400k")

    code, _, err = ended(place.start("run", plan, "--yes", through=small))

    assert code == 74, err
    assert "the journal cannot be written: database or disk is full" in err
    assert_ended_in_order(slow, place, plan, 40)


def test_a_disk_that_is_full_from_the_start_sends_nothing(quick: Servers, place: Place) -> None:
    """No journal, no logon."""
    plan = quick.plan(place.directory, targets=4)
    small = with_tmpfs(place.directory / "state", "size=4k")

    code, _, err = ended(place.start("run", plan, "--yes", through=small))

    assert code == 74, err
    assert "cannot be written" in err
    assert "next: " in err
    assert quick.truth().logons == 0


@pytest.mark.parametrize("size", ["16k", "32k", "48k"])
def test_a_report_directory_that_fills_up_has_no_report(
    size: str, quick: Servers, place: Place
) -> None:
    """Code 74, and what CI publishes from there does not say 0; `report` leaves nothing either.

    The file system is gone with the process: what is there at its end is copied.
    """
    plan = quick.plan(place.directory, targets=4)
    seen = place.directory / "seen"
    copied = ["sh", "-c", '"$@"; code=$?; cp -a "$0" SEEN; exit $code'.replace("SEEN", str(seen))]
    small = [*with_tmpfs(place.report, f"size={size}"), *copied, str(place.report)]

    code, _, err = ended(place.start("run", plan, "--yes", through=small))

    assert code == 74, err
    assert f"the reports cannot be written to {place.report}: No space left on device" in err
    assert list(seen.iterdir()) == []
    (instead,) = (place.directory / "state" / "reports").iterdir()
    assert json.loads((instead / "report.json").read_text())["run"]["exit_code"] == 74
    seen.rmdir()

    code, _, err = ended(place.start("report", "last", "--report", place.report, through=small))

    assert code == 74, err
    assert list(seen.iterdir()) == []


def test_a_full_or_closed_output_is_named(tmp_path: Path) -> None:
    """Whoever pipes a list into something that went away is told so, and not of an empty name."""
    argv = [sys.executable, "-m", "orchestrator", "status", "--state", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert done.returncode == 74
    assert done.stderr == "bulk-restore: input or output failed: No space left on device\n"
