"""`ctl` as people use it: real processes, HTTPS, a journal on disk."""

from __future__ import annotations

import json
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


HELD = ": held until "
"""What `status` says of a held mount of a living run."""


def until_held(place: Place, process: subprocess.Popen[str]) -> None:
    """Wait until a living run holds a mount."""
    while HELD not in place.call("status", "last").stdout:
        assert process.poll() is None


def holding_one(running: Servers, place: Place) -> subprocess.Popen[str]:
    """Start a run of three targets, one at a time, and return once the first is held."""
    plan = running.plan(place.directory, targets=3)
    process = place.start("run", plan, "--yes", "--json", "--hold", "1h", "--max-mounts", "1")
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["type"] == "target" and event["phase"] == "held":
            return process
    raise AssertionError("the run ended before it held a mount")


def test_a_living_run_is_steered_from_a_second_terminal(quick: Servers, place: Place) -> None:
    """Paused, it begins nothing; a target is skipped; it goes on; the report has all of it."""
    process = holding_one(quick, place)
    keys = [each["key"] for each in json.loads(place.call("list", "last", "--json").stdout)]

    paused = place.call("ctl", "last", "pause", "--reason", "the storage is busy")
    wrong = place.call("ctl", "last", "limits", "nowhere.mounts=1")
    unmounted = place.call("unmount", "last")
    waiting = place.call("status", "last").stdout
    listed = place.call("status").stdout
    skipped = place.call("ctl", "last", "skip", keys[-1], "--reason", "not today")
    going_on = place.call("ctl", "last", "continue")
    until_held(place, process)
    place.call("unmount", "last")

    assert ended(process)[0] == 1
    assert paused.returncode == 0, paused.stderr
    assert paused.stdout.endswith(": applied: pause: the storage is busy\n")
    assert (wrong.returncode, "the plan has no server 'nowhere'" in wrong.stderr) == (2, True)
    assert unmounted.stdout.count("released: ") == 1
    assert HELD not in waiting
    assert "PAUSED since " in waiting
    assert "running, WAITS for people, " in listed
    assert (skipped.returncode, going_on.returncode) == (0, 0), skipped.stderr + going_on.stderr
    report = place.values()
    assert [each["verb"] for each in report["controls"]] == ["pause", "skip", "continue"]
    assert all(each["user"] and each["host"] for each in report["controls"])
    assert [each["result"] for each in report["targets"]].count("skipped") == 1
    assert not list((place.directory / "state").glob("ctl-*"))
    after = place.call("ctl", "last", "pause")
    assert (after.returncode, "no process works on it" in after.stderr) == (2, True)


def test_a_paused_run_that_was_killed_is_paused_when_it_is_resumed(
    quick: Servers, place: Place
) -> None:
    """What was answered is kept by the journal; a request of before is for nobody."""
    process = holding_one(quick, place)
    assert place.call("ctl", "last", "pause").returncode == 0
    kill(process)
    (sessions,) = (place.directory / "state").glob("sessions-*.json")
    asked = sessions.with_name(f"ctl-{sessions.stem.removeprefix('sessions-')}")
    asked.mkdir(exist_ok=True)
    (asked / "0-0.request").write_text('{"id": "0-0", "verb": "continue"}')

    again = place.start("resume", "last", "--json")
    until_held(place, again)
    while asked.exists():
        assert again.poll() is None
    assert place.call("unmount", "last").returncode == 3
    shown = place.call("status", "last").stdout
    assert place.call("ctl", "last", "continue").returncode == 0
    until_held(place, again)
    again.terminate()

    assert ended(again)[0] == 143
    assert HELD not in shown
    assert "PAUSED since " in shown
    assert [each["verb"] for each in place.values()["controls"]] == ["pause", "continue"]


def test_a_request_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else can read or make what steers a run."""
    from orchestrator.app.controlling import asked_for
    from orchestrator.core.model import RunId
    from orchestrator.journal import State

    files = State(tmp_path / "state").controls(RunId("run"))
    control = asked_for("pause", ())
    files.ask(control)
    (directory,) = (tmp_path / "state").iterdir()
    (request,) = directory.iterdir()

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(request.stat().st_mode) == 0o600
    assert [list(files.take()) for _ in range(2)] == [[control], []]


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A file of any other content ends neither the run nor the queue; a false name is ignored."""
    from orchestrator.app.controlling import asked_for
    from orchestrator.core.model import RunId
    from orchestrator.journal import State

    files = State(tmp_path / "state").controls(RunId("run"))
    control = asked_for("pause", ())
    files.ask(control)
    (directory,) = (tmp_path / "state").iterdir()
    for name, content in (("1.request", "["), ("2.request", '{"id": "3", "verb": "pause"}')):
        (directory / name).write_text(content)

    assert list(files.take()) == [control]
    assert [each.name for each in directory.iterdir()] == ["1.answer"]


def test_a_run_of_several_machines_is_refused() -> None:
    """Code 2, and what can be done instead."""
    from click.testing import CliRunner

    from orchestrator.cli import command

    address = "postgresql://u@127.0.0.1/x"
    refused = CliRunner().invoke(command, ["ctl", "last", "pause", "--state", address])

    assert refused.exit_code == 2
    assert "cannot be steered yet" in refused.output


def test_whoever_comes_through_sudo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several people share the account of the runs; each approves in the own name."""
    from orchestrator.app.controlling import asked_for

    monkeypatch.setenv("LOGNAME", "drill")
    monkeypatch.delenv("SUDO_USER", raising=False)
    alone = asked_for("pause", ()).user
    monkeypatch.setenv("SUDO_USER", "anna")

    assert (alone, asked_for("pause", ()).user) == ("drill", "anna")
