"""`report RUN --compare RUN2`: what changed between two runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.core.events import CheckMade
from orchestrator.core.proof import CheckOutcome
from tests.report.builders import HOSTILE, Fate, life
from tests.report.history.runs import beginning, called, keep, run_id


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two runs: one target each is new and gone, one failed, one check is another one."""
    state = tmp_path / "state"
    keep(state, beginning(1), [life("dc01"), life("sql01"), life("old")], seconds=60)
    unlike = [
        replace(
            event,
            outcome=CheckOutcome(
                name="boot", path="C:\\Windows", expected="exists", observed="gone", passed=False
            ),
        )
        if isinstance(event, CheckMade)
        else event
        for event in life("dc01", Fate.VERIFIED)
    ]
    failed = life("sql01", Fate.TASK_FAILED, words="disk is gone")
    # a check that failed and a verdict that is good cannot be: the verdict follows it here
    refuted = [*life("dc01", Fate.REFUTED)[:5], unlike[5], *life("dc01", Fate.REFUTED)[5:]]
    keep(state, beginning(2), [refuted, failed, life("new")], exit_code=1, seconds=90)
    return state


def test_everything_that_changed_is_told(state: Path) -> None:
    """New, gone, worse, and the checks, with the values of both runs."""
    done = called(state, "report", run_id(2), "--compare", run_id(1), "--json")

    assert done.exit_code == 0, done.output
    values = json.loads(done.output)
    assert [each["key"] for each in values["new"]] == ["databases/hq/new"]
    assert [each["key"] for each in values["gone"]] == ["databases/hq/old"]
    assert {(e["key"], e["before"], e["after"]) for e in values["results"]} == {
        ("databases/hq/dc01", "verified", "failed"),
        ("databases/hq/sql01", "verified", "failed"),
    }
    made = [each for each in values["checks"] if each["key"] == "databases/hq/dc01"]
    assert [(each["name"], each["before"], each["after"]) for each in made] == [
        ("boot", True, False)
    ]
    assert {(e["kind"], e["before_s"], e["after_s"]) for e in values["run"]} == {
        ("duration", 60.0, 90.0),
        ("rto", 47.0, None),
        ("rpo", 3600.0, None),
    }


def test_the_text_says_the_same(state: Path) -> None:
    """For people: the same changes, in sentences."""
    text = called(state, "report", run_id(2), "--compare", run_id(1)).output

    assert "databases/hq/sql01: verified -> failed (disk is gone)" in text
    assert "passed -> FAILED, gone" in text
    assert "duration: 1 min -> 1 min 30 s (+30 s)" in text
    assert "RTO: 47 s -> not measured" in text
    assert "New targets:\n  databases/hq/new: verified" in text


def test_without_a_run_the_last_one_is_compared(state: Path) -> None:
    """`report --compare RUN` alone is the question that people have after a run."""
    done = called(state, "report", "--compare", run_id(1))

    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"From run {run_id(1)} to run {run_id(2)} ")


def test_a_run_compared_with_itself_changed_nothing(state: Path) -> None:
    """And no report is written."""
    text = called(state, "report", "last", "--compare", "last").output

    assert "Same targets, same results, same checks." in text
    assert not list(state.rglob("report*"))


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    """What servers and plans say steers no terminal."""
    keep(tmp_path, beginning(1, plan=HOSTILE), [life(HOSTILE), life(HOSTILE + "1")])
    words = life(HOSTILE, Fate.TASK_FAILED, words=HOSTILE)
    keep(tmp_path, beginning(2, plan=HOSTILE), [words, life(HOSTILE + "2")])

    for more in ([], ["--json"]):
        done = called(tmp_path, "report", run_id(2), "--compare", run_id(1), *more)
        assert done.exit_code == 0
        assert done.output.replace("\n", "").isprintable()
        assert HOSTILE not in done.output
