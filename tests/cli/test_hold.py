"""`--hold` and how it ends, as people use it: real processes, HTTPS, a journal on disk."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Place, Servers, ended, kill, servers

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def quick() -> Iterator[Servers]:
    """Serve one server whose mounts take no time."""
    with servers(count=1) as running:
        yield running


def holding(running: Servers, place: Place, *, targets: int = 3) -> subprocess.Popen[str]:
    """Start a run that holds its mounts for an hour; return once its journal says that it does."""
    plan = running.plan(place.directory, targets=targets)
    process = place.start("run", plan, "--yes", "--json", "--hold", "1h")
    held: set[str] = set()
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["type"] == "target" and event["phase"] == "held":
            held.add(event["key"])
        if len(held) == targets:
            while place.call("status", "last").stdout.count(": held until ") < targets:
                assert process.poll() is None
            return process
    raise AssertionError("the run ended before it held its mounts")


def test_unmount_from_a_second_terminal_ends_the_hold(quick: Servers, place: Place) -> None:
    """The living run releases what it holds and ends well; `unmount` names it and ends with 0."""
    process = holding(quick, place)
    shown = place.call("status", "last")

    released = place.call("unmount", "last")

    assert released.returncode == 0, released.stderr
    lines = released.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("released: ") for line in lines)
    assert "asked the process of" in released.stderr
    assert ended(process)[0] == 0
    assert (shown.returncode, shown.stdout.count(": held until ")) == (0, 3)
    assert shown.stdout.count(" UTC, mounted; ") == 3
    assert "0 of 3 targets have their result, 3 held open: 3 mounted" in shown.stdout
    assert "mount kept" not in shown.stdout
    assert "End the holds: bulk-restore unmount " in shown.stdout
    assert {each["mount"] for each in place.values()["targets"]} == {"released"}
    assert not list((place.directory / "state").glob("*.request"))
    again = place.call("unmount", "last")
    assert (again.returncode, "nothing is left mounted" in again.stdout) == (0, True)


def test_unmount_names_what_the_living_run_has_still_under_way(place: Place) -> None:
    """Two mounts are held, the third is in the making: exit code 3, and how to go on."""
    with servers(count=1, stall_after=2) as running:
        plan = running.plan(place.directory, targets=3)
        process = place.start("run", plan, "--yes", "--hold", "1h", stdout=subprocess.DEVNULL)
        while place.call("status", "last").stdout.count(": held until ") < 2:
            assert process.poll() is None

        first = place.call("unmount", "last")
        running.go_on()
        while place.call("status", "last").stdout.count(": held until ") < 1:
            assert process.poll() is None
        second = place.call("unmount", "last")

        assert ended(process)[0] == 0
    assert (first.returncode, first.stdout.count("released: ")) == (3, 2), first.stderr
    (late,) = (line for line in first.stdout.splitlines() if line.startswith("  "))
    assert late.endswith((", submitting", ", running"))
    assert "not released yet, still in work by the process of " in first.stdout
    assert "To end such holds, repeat `bulk-restore unmount " in first.stdout
    assert (second.returncode, second.stdout.count("released: ")) == (0, 1), second.stderr
    assert second.stdout == f"released: {late.strip().partition(': ')[0]}\n"


def test_the_first_signal_ends_the_hold(quick: Servers, place: Place) -> None:
    """Everything is unmounted at once, and the code says that it was stopped."""
    process = holding(quick, place)

    process.send_signal(signal.SIGTERM)

    assert ended(process)[0] == 143
    assert {each["mount"] for each in place.values()["targets"]} == {"released"}


def test_what_a_killed_run_held_is_shown_and_released(quick: Servers, place: Place) -> None:
    """`status` says 3 and that it is kept; `unmount` releases it; the results stay."""
    process = holding(quick, place)
    kill(process)

    shown = place.call("status", "last")
    rebuilt = place.call("report", "last", "--report", place.report)
    early = place.values()["targets"]
    released = place.call("unmount", "last")
    place.call("report", "last", "--report", place.report)

    assert (shown.returncode, shown.stdout.count(", left mounted; ")) == (3, 3)
    assert rebuilt.returncode == 0
    assert {(each["result"], each["mount"]) for each in early} == {("mounted", "kept")}
    assert (released.returncode, released.stdout.count("released: ")) == (0, 3), released.stderr
    late = place.values()["targets"]
    assert {(each["result"], each["mount"]) for each in late} == {("mounted", "released")}
    assert not [fate for fate in quick.truth().still_open() if not fate.orphaned]


def test_a_killed_run_holds_on_when_it_is_resumed(quick: Servers, place: Place) -> None:
    """And word that was left for the dead process ends nothing."""
    kill(holding(quick, place))
    (journal,) = (place.directory / "state").glob("sessions-*.json")
    stale = journal.with_name(f"unmount-{journal.stem.removeprefix('sessions-')}.request")
    stale.touch()

    process = place.start("resume", "last", "--json")
    assert process.stdout is not None
    while '"held"' not in place.call("status", "last", "--json").stdout or stale.exists():
        assert process.poll() is None
    released = place.call("unmount", "last")

    assert (released.returncode, released.stdout.count("released: ")) == (0, 3), released.stderr
    assert ended(process)[0] == 0


def test_the_request_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else can read or write what ends a hold."""
    from orchestrator.core.model import RunId
    from orchestrator.journal import State

    state = State(tmp_path / "state")
    state.ask_to_end_holds(RunId("run"))
    (request,) = (tmp_path / "state").glob("*.request")

    assert stat.S_IMODE(request.stat().st_mode) == 0o600
    assert [state.take_request(RunId("run")) for _ in range(2)] == [True, False]


def test_a_hold_without_a_unit_is_an_error(quick: Servers, place: Place) -> None:
    """Code 2, and nothing is sent."""
    asked = quick.truth().requests

    refused = place.call("run", quick.plan(place.directory, targets=1), "--yes", "--hold", "30")

    assert refused.returncode == 2
    assert "--hold: " in refused.stderr
    assert quick.truth().requests == asked
