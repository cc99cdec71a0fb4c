"""A whole run whose plan tells webhooks, as people start it: real processes over real TLS."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.journal import State
from tests.app.notify.hooks import PART, Hooks, hooks
from tests.hostile.searching import forms, holding
from tests.processes import (
    PATIENCE_S,
    Place,
    Servers,
    ended,
    servers,
    until_running,
    until_stopping,
)

pytestmark = pytest.mark.process


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Serve two servers whose mounts take a moment, or that stall after so many of them."""
    with servers(stall_after=getattr(request, "param", None)) as found:
        yield found


@pytest.fixture
def told(running: Servers, tmp_path: Path) -> Iterator[Hooks]:
    """Serve webhooks beside them."""
    (tmp_path / "hooks").mkdir()
    with running.portal.wrap_async_context_manager(hooks(tmp_path / "hooks")) as found:
        yield found


def place_of(tmp_path: Path, told: Hooks, *manners: str) -> Place:
    """Return a place whose environment holds the addresses of these webhooks."""
    (tmp_path / "run").mkdir(exist_ok=True)
    addresses = {f"HOOK_{n}": told.url(manner) for n, manner in enumerate(manners)}
    return Place(tmp_path / "run", {**addresses, "PYTHONASYNCIODEBUG": ""})


def plan_of(running: Servers, place: Place, told: Hooks, *kinds: str, targets: int = 6) -> Path:
    """Write a plan that tells webhooks of these kinds, the first HOOK_0."""
    path = running.plan(place.directory, targets=targets)
    lines = ["notifications:"]
    for number, kind in enumerate(kinds):
        lines.append(
            f"  - webhook: {{url: {{env: HOOK_{number}}}, kind: {kind}, ca_file: {told.ca_file}}}"
        )
    path.write_text(path.read_text() + "\n".join(lines) + "\n")
    return path


def assert_untold(place: Place, *said: str) -> None:
    """Check that no address stands in anything that was written or said."""
    secret = forms(PART)
    for path in place.directory.rglob("*"):
        assert not path.is_file() or not holding(secret, path.read_bytes()), path
    for text in said:
        assert not holding(secret, text.encode()), text


def test_everybody_is_told_after_the_reports_and_nothing_gives_an_address_away(
    running: Servers, told: Hooks, tmp_path: Path
) -> None:
    """Three kinds of webhooks, a broken one, a command: exit code 0, and one warning about it."""
    place = place_of(tmp_path, told, "good", "busy", "gone", "broken")
    plan = plan_of(running, place, told, "slack", "teams", "generic", "generic")
    seen = tmp_path / "seen.json"
    code = (
        "import json, os, sys; print('not for stdout'); "
        "files = sorted(os.listdir(os.environ['BULK_RESTORE_REPORT'])); "
        "leaked = [k for k in os.environ if k.startswith('HOOK') or 'PASSWORD' in k]; "
        f"json.dump([files, leaked, json.load(sys.stdin)], open({str(seen)!r}, 'w'))"
    )

    done = place.call(
        "run", plan, "--yes", "-vv", "--on-finish", shlex.join([sys.executable, "-c", code])
    )

    assert done.returncode == 0, done.stderr
    files, leaked, message = json.loads(seen.read_text())
    assert {"report.json", "report.html", "junit.xml"} <= set(files)
    assert leaked == []
    assert message["run"]["exit_code"] == 0
    assert "not for stdout" in done.stderr
    assert "not for stdout" not in done.stdout
    assert [body["event"] for body in told.taken("gone")] == ["finished"]
    assert len(told.taken("good")) == len(told.taken("busy")) - 2 == 1
    warnings = place.values()["warnings"]
    assert any("notification 3 (generic): 'finished' was not delivered" in w for w in warnings)
    assert any("notification 4 (generic)" in w and "500" in w for w in warnings)
    assert_untold(place, done.stdout, done.stderr)
    written = (place.report / "report.json").read_bytes()
    assert place.call("report", "last", "--report", place.directory / "again").returncode == 0
    assert (place.directory / "again" / "report.json").read_bytes() == written
    facts = place.values()["run"]
    end = datetime.fromisoformat(facts["started_at"]) + timedelta(seconds=facts["duration_s"])
    assert end < told.posted_at[0], "the retries of a broken webhook are no part of the run"


def test_a_missed_objective_is_told_in_the_words_of_the_report(
    running: Servers, told: Hooks, tmp_path: Path
) -> None:
    """Nobody has to reckon with seconds."""
    place = place_of(tmp_path, told, "good")
    plan = plan_of(running, place, told, "slack", targets=2)
    plan.write_text(plan.read_text() + "objectives: {rpo: 1m}\n")

    done = place.call("run", plan, "--yes", "--state", place.directory / "state")

    (line,) = [line for line in done.stdout.splitlines() if "run RPO: " in line]
    wanted = line.strip().removesuffix(", MISSED")
    assert wanted.endswith(" of 1 min")
    assert f"`{wanted}`" in json.dumps(told.taken("good"))


def test_a_failing_command_is_told_and_changes_nothing(running: Servers, tmp_path: Path) -> None:
    """Exit code 0 stays 0; stderr and the JSON events say what failed."""
    place = Place(tmp_path)
    plan = running.plan(place.directory, targets=2)
    failing = shlex.join([sys.executable, "-c", "raise SystemExit(5)"])

    done = place.call("run", plan, "--yes", "--json", "--on-finish", failing)

    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["message"] for e in events if e["type"] == "error"] == [
        f"--on-finish: {sys.executable} ended with exit code 5"
    ]
    assert events[-1]["type"] == "summary"
    assert "ended with exit code 5" in done.stderr


def test_a_command_that_a_signal_ended_is_told(running: Servers, tmp_path: Path) -> None:
    """Whoever has no more time for it learns that it did not come to its end."""
    place = Place(tmp_path)
    plan = running.plan(place.directory, targets=2)
    begun = tmp_path / "begun"
    code = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(600)"
    hanging = shlex.join([sys.executable, "-c", code])
    process = place.start("run", plan, "--yes", "--on-finish", hanging)
    until = time.monotonic() + PATIENCE_S
    while not begun.exists():
        assert time.monotonic() < until
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    ending, _, err = ended(process)

    assert ending == 0, err
    assert "bulk-restore: a signal stopped the messages about the run's end" in err


@pytest.mark.parametrize("command", ["'unbalanced", "", "''"])
def test_a_command_that_cannot_be_meant_is_a_usage_error(command: str, tmp_path: Path) -> None:
    """Before anything is sent."""
    done = Place(tmp_path).call("run", "plan.yaml", "--yes", "--on-finish", command)

    assert done.returncode == 2
    assert "--on-finish" in done.stderr


def test_a_signal_ends_the_waiting_for_slow_webhooks(
    running: Servers, told: Hooks, tmp_path: Path
) -> None:
    """A run that has ended is reported at once when a person has no more time."""
    place = place_of(tmp_path, told, "slow")
    plan = plan_of(running, place, told, "generic", targets=2)
    process = place.start("run", plan, "--yes")
    until = time.monotonic() + PATIENCE_S
    while not told.taken("slow"):
        assert time.monotonic() < until
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)

    assert len(told.taken("slow")) == 1, "it waited for the answer, and asked again"
    assert code == place.values()["run"]["exit_code"] == 0, err
    assert any("were not delivered" in warning for warning in place.values()["warnings"])


def test_a_run_that_breaks_off_is_told_with_the_exit_code_of_its_process(
    running: Servers, told: Hooks, tmp_path: Path
) -> None:
    """The reports cannot go where they should: the webhook hears so, and once, with code 74."""
    place = place_of(tmp_path, told, "good")
    plan = plan_of(running, place, told, "generic", targets=2)
    place.report.symlink_to("/proc/nowhere/reports")

    done = place.call("run", plan, "--yes")

    assert done.returncode == 74
    codes = [body["run"]["exit_code"] for body in told.taken("good") if body["event"] == "finished"]
    assert codes == [74]
    assert place.call("report", "last", "--report", tmp_path / "again").returncode == 0
    assert place.call("unmount", "last").returncode == 0
    assert place.call("resume", "last").returncode in {0, 74}
    assert len(told.taken("good")) == 1
    assert "cannot be written" in told.taken("good")[-1]["text"]


@pytest.mark.parametrize("running", [0], indirect=True)
def test_a_resume_tells_the_end_of_the_whole(running: Servers, told: Hooks, tmp_path: Path) -> None:
    """Stopped by a person and gone on with: both processes tell how they ended."""
    place = place_of(tmp_path, told, "good")
    plan = plan_of(running, place, told, "generic", targets=12)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 1)
    process.send_signal(signal.SIGTERM)
    until_stopping(process)
    running.go_on()
    code, _, err = ended(process)
    assert code == 143, err

    done = place.call("resume", "last")

    assert done.returncode == 0, done.stderr
    bodies = [body for body in told.taken("good") if body["event"] == "finished"]
    assert [body["run"]["exit_code"] for body in bodies] == [143, 0]
    assert bodies[0]["id"] != bodies[1]["id"]
    assert bodies[1]["totals"]["cancelled"] == 0
    assert State(place.directory / "state").runs()
