"""`check` as people run it: a real process, HTTPS, exit codes; the servers say it only read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.app.readiness.desk import assert_only_read
from tests.processes import PASSWORD, Place, Servers, ended, servers, until_running

pytestmark = pytest.mark.process


@pytest.fixture
def running() -> Iterator[Servers]:
    """Serve two servers."""
    with servers() as found:
        yield found


def checked(place: Place, plan: Path, *more: str | Path) -> tuple[int, dict[str, Any]]:
    """Return exit code and the JSON form of a check."""
    state = place.directory / "state"
    done = place.call("check", plan, "--json", "--state", state, *more)
    assert PASSWORD not in done.stdout + done.stderr
    values: dict[str, Any] = json.loads(done.stdout)
    assert values["exit_code"] == done.returncode, done.stderr
    return done.returncode, values


def problems(values: dict[str, Any]) -> set[tuple[str, str]]:
    """Return name and item of everything that stands in the way."""
    return {(one["name"], one["item"]) for one in values["items"] if one["status"] == "problem"}


def test_a_plan_that_could_run_is_ready(running: Servers, place: Place) -> None:
    """Exit code 0; two logons, two logoffs, otherwise only reads; no file is made."""
    plan = running.plan(place.directory, targets=12)
    schema = json.loads(place.call("schema", "check").stdout)

    code, values = checked(place, plan)

    assert code == 0
    jsonschema.validate(values, schema)
    trust = next(one for one in values["items"] if one["item"] == "trust")
    shown = running.simulation.certificate.fingerprint_sha256
    assert f"fingerprint_sha256: certificate {shown}, valid until 20" in trust["detail"]
    truth = running.truth()
    assert_only_read(truth)
    assert truth.logons == truth.sessions_closed == 2
    assert max(truth.received.values()) <= 10
    assert [path.name for path in place.directory.iterdir()] == ["plan.yaml"]


def test_the_text_is_on_stdout_and_calm(running: Servers, place: Place) -> None:
    """The answer in the first line; nothing on stderr; -q is one line."""
    plan = running.plan(place.directory, targets=30)
    state = place.directory / "state"

    shown = place.call("check", plan, "--state", state)
    quiet = place.call("check", plan, "--state", state, "-q")

    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("ready: process-drill: 30 targets on 2 servers")
    assert len(shown.stdout.splitlines()) < 60
    assert len(quiet.stdout.splitlines()) == 1


def test_strict_takes_a_warning_for_a_problem(running: Servers, place: Place) -> None:
    """An insecure server is a warning, and with --strict exit code 4."""
    plan = running.plan(place.directory, targets=2)
    text = re.sub(r"tls: \{fingerprint_sha256: [^}]*\}", "tls: {insecure: true}", plan.read_text())
    plan.write_text(text)

    code, values = checked(place, plan)
    strict, _ = checked(place, plan, "--strict")

    assert (code, strict) == (0, 4)
    insecure = [one for one in values["items"] if one["item"] == "trust"]
    assert {one["status"] for one in insecure} == {"warning"}
    assert all("insecure: certificate " in one["detail"] for one in insecure)


def test_a_wrong_pin_is_a_problem_and_no_account_is_sent_there(
    running: Servers, place: Place
) -> None:
    """Exit code 4; the message names the certificate; the other server is answered for."""
    plan = running.plan(place.directory, targets=12)
    plan.write_text(re.sub(r"\['[0-9a-f]{64}'\]", f"['{'0' * 64}']", plan.read_text(), count=1))

    code, values = checked(place, plan)

    assert code == 4
    ((name, item),) = problems(values)
    assert item == "trust"
    assert running.truth().logons == 1
    asked_of = {one["name"] for one in values["items"] if one["item"] == "role"}
    assert len(asked_of) == 2
    assert {one["status"] for one in values["items"] if one["name"] == name} <= {
        "ok",  # it is reachable
        "problem",
        "not_visible",
    }


def test_a_wrong_password_is_tried_once(running: Servers, place: Place) -> None:
    """One logon per server, whatever comes of it."""
    plan = running.plan(place.directory, targets=4)
    place.environment = {"BULK_RESTORE_DEMO_PASSWORD": "not it"}

    code, values = checked(place, plan)

    assert code == 4
    assert {item for _, item in problems(values)} == {"logon"}
    assert running.truth().requests["POST /api/sessionMngr/"] == 2


def test_a_server_that_is_not_there_does_not_hide_the_other(running: Servers, place: Place) -> None:
    """A refused connection is unreachable, not a refused logon."""
    plan = running.plan(place.directory, targets=12)
    gone = re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:1", plan.read_text(), count=1)
    plan.write_text(gone)

    code, values = checked(place, plan)

    assert code == 4
    assert {item for _, item in problems(values)} == {"reachable"}
    assert running.truth().logons == 1
    points = [one["status"] for one in values["items"] if one["item"] == "point"]
    assert {"ok", "not_visible"} == set(points)


def test_a_plan_with_a_mistake_is_no_readiness(running: Servers, place: Place) -> None:
    """Exit code 2 and nothing was sent."""
    plan = running.plan(place.directory, targets=1)
    plan.write_text(plan.read_text().replace("targets:", "tragets:", 1))

    done = place.call("check", plan)

    assert done.returncode == 2
    assert "tragets" in done.stderr
    assert running.truth().requests == {}


def test_a_locked_plan_can_be_checked(running: Servers, place: Place) -> None:
    """A target is "ok" only where its locked point is still listed; --set is refused."""
    plan = running.plan(place.directory, targets=6)
    locked = place.directory / "locked.json"
    assert place.call("plan", plan, "-o", locked).returncode == 0

    code, values = checked(place, locked)

    assert code == 0
    assert values["totals"]["targets"] == 6
    assert place.call("check", locked, "--set", "a=b").returncode == 2


def test_a_living_run_holds_its_plan(tmp_path: Path) -> None:
    """A real run in another process; afterwards its history gives a duration."""
    place = Place(tmp_path)
    with servers(stall_after=0) as stalled:
        plan = stalled.plan(tmp_path, targets=12)
        process = place.start("run", plan, "--yes", "--json")
        try:
            until_running(process, 1)
            code, values = checked(place, plan)
        finally:
            stalled.go_on()
            done = ended(process)
        assert done[0] == 0, done[2]
        after, later = checked(place, plan)

    assert code == 4
    assert problems(values) == {("process-drill", "same_plan")}
    assert any(one["item"] == "other_run" for one in values["items"])
    assert after == 0
    (told,) = [one for one in later["items"] if one["item"] == "duration"]
    assert told["status"] == "ok"
