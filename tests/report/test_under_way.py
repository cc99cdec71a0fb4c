"""The report of a run that goes on: it says so, and invents no results."""

from __future__ import annotations

import json

import pytest

from orchestrator.core.events import ControlApplied, MountKept, UnmountStarted
from orchestrator.core.run_state import RunState
from orchestrator.report import as_html, as_json, as_markdown
from orchestrator.report.history.trends import trend_of_plan
from orchestrator.report.summary import summarize
from orchestrator.report.text import asked_by_people, text
from orchestrator.report.values import Report
from tests.report.builders import Fate, life, run_of


def living() -> RunState:
    """Return a run with a target of each kind: mounted, under way, waiting, and held."""
    lived = life("held", Fate.MOUNTED)
    place = next(n for n, event in enumerate(lived) if isinstance(event, UnmountStarted))
    held = MountKept(at=lived[place].at, key=lived[place].key, reason="--hold")  # type: ignore[attr-defined]
    others = (life("good", Fate.MOUNTED), life("runs", Fate.RUNNING), life("waits", Fate.WAITING))
    return run_of([*(each for other in others for each in other), *lived[:place], held])


@pytest.fixture
def report() -> Report:
    """Return its report while somebody works on it."""
    return summarize(living(), goes_on=True)


def section(shown: str, title: str) -> str:
    """Return what stands under a title, up to the next empty line or title."""
    return shown.partition(title)[2].partition("\n\n")[0].partition("##")[0]


def test_the_text_says_that_the_run_goes_on(report: Report) -> None:
    """What is under way has no result, and what is held is called that."""
    shown = text(report)

    assert shown.splitlines()[0].endswith("; still running")
    assert "Exit code: none yet, the run is still running" in shown
    assert "4 targets: 0 verified, 2 mounted, 0 failed, 0 left, 2 without a result yet" in shown
    assert "runs" in section(shown, "Without a result yet:\n")
    assert "waits" in section(shown, "Without a result yet:\n")
    assert "held" in section(shown, "HELD OPEN, as requested:\n")
    for title in ("MAY BE MOUNTED", "LEFT MOUNTED", "Unknown:", "Cancelled:", "interrupted"):
        assert title not in shown


def test_markdown_names_held_mounts_as_held(report: Report) -> None:
    """And not as left or maybe mounted."""
    shown = as_markdown.render(report)

    assert ", still running" in shown
    assert "interrupted" not in shown
    assert "## Left or maybe mounted" not in shown
    assert "held" in shown.partition("## Held open, as requested: 1\n")[2]
    assert "## Without a result yet: 2" in shown
    assert "## Unknown" not in shown
    assert "## Cancelled" not in shown


def test_html_does_not_ask_for_a_person(report: Report) -> None:
    """Somebody works on it; nothing of it is left, or not good."""
    shown = as_html.render(report)

    assert "Still running." in shown
    assert "Interrupted." not in shown
    assert "Needs a person" not in shown


def test_json_has_the_phase_of_what_is_under_way(report: Report) -> None:
    """It is there only while somebody works on the run."""
    values = json.loads(as_json.render(report))
    dead = json.loads(as_json.render(summarize(living())))

    assert values["run"]["interrupted"] is False
    assert sorted(str(each.get("phase")) for each in values["targets"]) == [
        "None",
        "held",
        "queued",
        "running",
    ]
    assert dead["run"]["interrupted"] is True
    assert not any("phase" in each for each in dead["targets"])


def test_a_trend_counts_no_results_that_are_not_there() -> None:
    """Of a run that has not ended, whoever works on it or not."""
    (sample,) = trend_of_plan("payments-tier1", [living()]).samples

    assert sample.outcome == "not ended; 2 mounted, 2 without a result yet"


def test_what_people_asked_stands_in_order_of_time() -> None:
    """Of too much, who only looked is left out before what steered the run."""
    verbs = ("browse", "pause", "get", "continue", "browse")
    asked = [
        ControlApplied(at=float(place), control=str(place), verb=verb, user="ann", host="here")
        for place, verb in enumerate(verbs)
    ]
    report = summarize(run_of(asked))

    assert [each.verb for each in asked_by_people(report, 20)] == list(verbs)
    assert [each.verb for each in asked_by_people(report, 3)][:3] == ["browse", "pause", "continue"]
    assert len(asked_by_people(report, 3)) == len(verbs)
