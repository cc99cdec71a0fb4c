"""`resume` as people use it after a crash: real processes, HTTPS, a journal on disk."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.app.demo import settings_for
from orchestrator.app.planned_limits import limits_of
from orchestrator.plan.file.loading import load_plan
from tests.invariants import assert_invariants
from tests.processes import (
    PASSWORD,
    Place,
    Servers,
    ended,
    kill,
    served,
    until_running,
    until_stopping,
)

pytestmark = pytest.mark.process


def killed(running: Servers, place: Place, *, targets: int, options: tuple[str, ...] = ()) -> Path:
    """Start a run, kill it while the one task of its first wave runs, and return its plan.

    So nothing is in doubt, for which a resume would look half a minute.
    """
    plan = running.plan(place.directory, targets=targets)
    process = place.start("run", plan, "--yes", "--json", *options)
    until_running(process, 1)
    kill(process)
    running.go_on()
    return plan


def test_a_killed_run_goes_on_to_its_end(stalled: Servers, place: Place) -> None:
    """Everything is mounted once and removed; `--json` ends with the summary of the whole.

    Each process logs on once to each server: the second one mounts in sessions of its own.
    """
    plan = killed(stalled, place, targets=20)

    done = place.call("resume", "last", "--json")

    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[-1]["type"], events[-1]["exit_code"]) == ("summary", 0)
    assert events[-1]["totals"]["mounted"] == 20
    truth = stalled.truth()
    assert_invariants(truth, place.values(), limits_of(load_plan(plan).plan, None))
    assert (len(truth.mounts), truth.still_open()) == (20, [])
    assert truth.sessions_closed == truth.logons == 4
    assert place.values()["run"]["resumed_from"] == place.values()["run"]["id"]


WRITES = "mode: recovery\nwaves:\n  - name: only\n    targets:\n"
TARGET = (
    "      - {vm: hq-app0000, server: hq, download: "
    "[{path: 'C:/Windows/notepad.exe', write: original, overwrite: true}]}\n"
)


def test_a_killed_recovery_writes_on_only_where_it_is_allowed_again(
    stalled: Servers, place: Place
) -> None:
    """Without --yes-write the process that goes on sends nothing; with it the file is written."""
    plan = stalled.plan(place.directory, targets=4)
    plan.write_text(plan.read_text().partition("waves:")[0] + WRITES + TARGET)
    process = place.start("run", plan, "--yes", "--yes-write", "--json")
    until_running(process, 1)
    kill(process)
    stalled.go_on()
    asked = stalled.truth().requests

    refused = place.call("resume", "last")
    untouched = stalled.truth().requests == asked
    done = place.call("resume", "last", "--yes-write")

    assert (refused.returncode, untouched) == (2, True)
    assert "--yes-write" in refused.stderr
    assert done.returncode == 0, done.stderr
    (write,) = stalled.truth().guest_writes
    assert write[2].lower().endswith("notepad.exe")
    assert [each["fate"] for each in place.values()["targets"][0]["downloads"]] == ["restored"]


def test_a_resume_of_what_has_ended_does_nothing(stalled: Servers, place: Place) -> None:
    """It may be repeated: the reports are written once more, and nobody is asked anything."""
    killed(stalled, place, targets=6)
    first = place.call("resume", "last")
    report = (place.report / "report.json").read_bytes()
    (place.report / "report.json").unlink()
    asked = stalled.truth().requests

    again = place.call("resume", "last")

    assert (first.returncode, again.returncode) == (0, 0), again.stderr
    assert (place.report / "report.json").read_bytes() == report
    assert stalled.truth().requests == asked


def test_a_run_that_is_alive_is_left_alone(stalled: Servers, place: Place) -> None:
    """Code 6, and the message says which process goes on."""
    plan = stalled.plan(place.directory, targets=40)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 1)

    refused = place.call("resume", "last")
    process.send_signal(signal.SIGINT)
    stalled.go_on()

    assert refused.returncode == 6
    assert f"process {process.pid} on " in refused.stderr
    assert ended(process)[0] == 130


def test_a_stopped_run_is_resumed_where_it_was(stalled: Servers, place: Place) -> None:
    """After Ctrl-C nothing is mounted twice, and what was cancelled is mounted now."""
    process = place.start("run", stalled.plan(place.directory, targets=20), "--yes", "--json")
    until_running(process, 1)
    process.send_signal(signal.SIGINT)
    until_stopping(process)
    stalled.go_on()
    assert ended(process)[0] == 130
    before = place.values()["totals"]
    assert (before["mounted"], before["cancelled"]) == (1, 19)

    done = place.call("resume", "last")

    assert done.returncode == 0, done.stderr
    assert place.values()["totals"]["mounted"] == 20
    assert len(stalled.truth().mounts) == 20


def test_another_plan_is_refused_unless_the_old_one_is_named(
    stalled: Servers, place: Place
) -> None:
    """Code 2 and nothing sent; with --plan and the very same bytes it goes on."""
    plan = killed(stalled, place, targets=6)
    copy = place.directory / "as-it-was.yaml"
    copy.write_bytes(plan.read_bytes())
    plan.write_text(plan.read_text() + "# changed\n")
    asked = stalled.truth().requests

    refused = place.call("resume", "last")

    assert refused.returncode == 2
    assert "is not the plan that run" in refused.stderr
    assert "--plan" in refused.stderr
    assert stalled.truth().requests == asked
    done = place.call("resume", "last", "--plan", copy)
    assert done.returncode == 0, done.stderr
    assert place.values()["totals"]["mounted"] == 6


def test_a_run_that_never_was_cannot_be_resumed(place: Place) -> None:
    """Code 2, and the message says what was looked for."""
    for name in ("last", "20260101T000000Z-0000"):
        refused = place.call("resume", name)

        assert refused.returncode == 2
        assert "no run" in refused.stderr


def test_without_a_session_file_nobody_can_know(stalled: Servers, place: Place) -> None:
    """No token is kept anywhere; what was mounted is unknown, named, and said in the exit code."""
    killed(stalled, place, targets=1, options=("--no-session-file",))
    assert not list((place.directory / "state").glob("sessions-*"))

    done = place.call("resume", "last", "--no-session-file")

    assert done.returncode == 3, done.stderr
    (target,) = place.values()["targets"]
    assert (target["result"], target["mount"]) == ("unknown", "unknown")
    assert target["vm"] in done.stdout
    assert not list((place.directory / "state").glob("sessions-*"))


def test_only_retry_failed_mounts_again_what_failed(place: Place) -> None:
    """A failed target stays failed until somebody asks for another try."""
    (settings,) = settings_for(1, machines=60, password=PASSWORD, duration_range=(0.1, 0.5))
    last_post = {"kind": "forbidden", "method": "POST", "path": "/mounts$", "skip": 5, "count": 1}
    with served([replace(settings, faults=[last_post])]) as running:
        plan = running.plan(place.directory, targets=6)
        first = place.call("run", plan, "--yes")
        assert (first.returncode, place.values()["totals"]["failed"]) == (1, 1), first.stderr

        same = place.call("resume", "last")
        assert same.returncode == 1
        assert len(running.truth().mounts) == 5

        done = place.call("resume", "last", "--retry-failed")
        assert done.returncode == 0, done.stderr
        assert place.values()["totals"]["mounted"] == 6
        assert place.values()["run"]["narrowed"] is None
        assert len(running.truth().mounts) == 6


def test_a_run_of_what_failed_names_the_run_where_it_did(place: Place) -> None:
    """Its report is about a part of the plan, and says about which."""
    (settings,) = settings_for(1, machines=60, password=PASSWORD, duration_range=(0.1, 0.5))
    last_post = {"kind": "forbidden", "method": "POST", "path": "/mounts$", "skip": 5, "count": 1}
    with served([replace(settings, faults=[last_post])]) as running:
        plan = running.plan(place.directory, targets=6)
        assert place.call("run", plan, "--yes").returncode == 1
        earlier = place.values()["run"]["id"]

        done = place.call("run", plan, "--yes", "--retry-failed", "last")

    facts = place.values()["run"]
    assert done.returncode == 0, done.stderr
    assert facts["retry_of"] == earlier
    assert facts["narrowed"].startswith(f"by --retry-failed {earlier}: only 1 target, of 1 of the")
    assert place.values()["totals"]["targets"] == 1
