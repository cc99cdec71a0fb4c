"""`forecast` as people run it: real servers are asked and nothing is mounted."""

from __future__ import annotations

import json
import re

import pytest

from tests.app.readiness.desk import assert_only_read
from tests.processes import PASSWORD, Place, Servers

pytestmark = pytest.mark.process


def test_a_plan_is_forecast_before_and_after_its_first_run(quick: Servers, place: Place) -> None:
    """Before: 120 s a mount, and only reads. After: a run, and what it says of its own forecast."""
    plan = quick.plan(place.directory, targets=6)

    before = place.call("forecast", plan)

    assert before.returncode == 0, before.stderr
    assert "no history for 6 of 6 targets (100%): 120 s a mount" in before.stdout
    assert_only_read(quick.truth())
    assert [path.name for path in place.directory.iterdir()] == ["plan.yaml"]
    for _ in range(2):
        assert place.call("run", plan, "--yes").returncode == 0
    mounts = len(quick.truth().mounts)

    after = place.call("forecast", plan, "--json")

    values = json.loads(after.stdout)
    assert (after.returncode, values["without_history"], values["plays"]) == (0, 0, 2)
    assert values["makespan"]["about_s"] < 60
    assert len(quick.truth().mounts) == mounts == 12
    report = json.loads((place.report / "report.json").read_text())
    assert report["run"]["forecast"]["actual_s"] > 0
    assert PASSWORD not in before.stdout + after.stdout


def test_a_server_that_is_not_there_leaves_the_end_open(quick: Servers, place: Place) -> None:
    """Its targets are not known: exit code 4, and no objective is called met."""
    plan = quick.plan(place.directory, targets=6)
    text = re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:1", plan.read_text(), count=1)
    plan.write_text(text + "objectives: {rto: 3h}\n")

    done = place.call("forecast", plan, "--json")

    values = json.loads(done.stdout)
    assert done.returncode == 4
    assert list(values["missing"]) == ["hq"]
    assert "missing: hq: " in done.stderr
    assert values["objectives"][0]["status"] == "unknown"


def test_an_unknown_limit_is_refused_before_anything_is_sent(quick: Servers, place: Place) -> None:
    """Exit code 2 means so everywhere."""
    plan = quick.plan(place.directory, targets=6)

    done = place.call("forecast", plan, "--limit", "hq.mount=8")

    assert done.returncode == 2
    assert "did you mean 'hq.mounts'?" in done.stderr
    assert quick.truth().logons == 0
