"""The exit code of the process is that of the run, also where its reports cannot be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.follow import RunFollower, watch
from orchestrator.app.runner import run_plan
from orchestrator.app.wiring import Choices
from orchestrator.core.events import RunFinished
from orchestrator.journal import State
from orchestrator.report.evidence.verifying import verify
from orchestrator.report.history.overview import overview_of
from orchestrator.report.summary import summarize
from orchestrator.views.view import View
from tests.report.builders import finished, life
from tests.report.history.runs import beginning, called, keep, run_id
from tests.scenarios.drill import Site, staged

ONE = [Site(machines=1, mount_s=1.0)]


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["report", "report/run"])
async def test_reports_that_cannot_be_written_are_told_by_the_journal(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 74 and why, in status, list, watch and rebuilt reports; the evidence agrees."""
    (tmp_path / "report").write_text("a file")
    async with staged(tmp_path, monkeypatch, ONE) as stage:
        choices = Choices(state=stage.state, report=tmp_path / place)
        outcome = await run_plan(stage.loaded, choices, world=stage.world())

    kept = State(stage.state)
    summary = kept.summary("last")
    state = kept.replay(summary.run)
    written = json.loads((outcome.directory / "report.json").read_text())
    assert outcome.code == written["run"]["exit_code"] == 74
    assert state.finished is not None
    assert state.finished.exit_code == 74
    assert overview_of(kept, summary).finished == state.finished
    report = summarize(state, chain_head=kept.chain_head(summary.run))
    assert report.run.exit_code == 74
    assert report.run.reasons == tuple(written["run"]["reasons"])
    assert "the reports cannot be written to" in report.run.reasons[0]
    assert report.run.journal_head == written["run"]["journal_head"]
    verdict = verify(outcome.directory)
    assert verdict.is_good
    assert any("ended with exit code 74" in note and "cannot be" in note for note in verdict.notes)
    assert not any("the records say" in note for note in verdict.notes)


@pytest.mark.anyio
async def test_a_run_whose_reports_are_written_has_one_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is added where nothing went wrong."""
    async with staged(tmp_path, monkeypatch, ONE) as stage:
        done = await stage.run()

    kept = State(stage.state)
    ends = [each for each in kept.events(kept.find("last")) if isinstance(each, RunFinished)]
    assert [(end.exit_code, end.trouble) for end in ends] == [(done.outcome.code, None)]


@pytest.mark.anyio
async def test_a_journal_that_does_not_take_the_code_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reports beside the journal and the process still say 74."""
    (tmp_path / "report").write_text("a file")
    monkeypatch.setattr("orchestrator.app.outcome.RECORD_WITHIN_S", 0.0)
    async with staged(tmp_path, monkeypatch, ONE) as stage:
        choices = Choices(state=stage.state, report=tmp_path / "report")
        outcome = await run_plan(stage.loaded, choices, world=stage.world())

    written = json.loads((outcome.directory / "report.json").read_text())
    assert outcome.code == written["run"]["exit_code"] == 74
    assert verify(outcome.directory).is_good


WHY = "the reports cannot be written to /r: Not a directory"


def troubled() -> RunFinished:
    """Return the end that says why the process ended with another code."""
    end = finished(exit_code=74)
    return RunFinished(at=end.at, exit_code=74, finished_at=end.finished_at, trouble=WHY)


def test_status_and_watch_say_the_code_of_the_process_and_why(tmp_path: Path) -> None:
    """The last end counts."""
    keep(tmp_path, beginning(1), [life("sql01"), [finished(), troubled()]], ended=False)

    status, runs = called(tmp_path, "status", "last"), called(tmp_path, "status")
    watched = called(tmp_path, "watch", "last")

    assert "Exit code: 74" in status.output
    assert WHY in status.output
    assert "finished, exit code 74" in runs.output
    assert "ended with exit code 74" in watched.output
    assert WHY in watched.output


def test_watch_waits_for_the_code_of_a_process_that_still_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the run's end and the end of its process its reports are written."""
    first = beginning(1)
    keep(tmp_path, first, [life("sql01"), [finished()]], ended=False)
    state = State(tmp_path)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            keep_more(tmp_path, troubled())

    monkeypatch.setattr("orchestrator.app.follow.time.sleep", sleep)
    with state.plan_lock("payments-tier1", run_id(1)):
        seen = watch(RunFollower(state, state.summary("last")), View())

    assert seen is not None
    assert seen.finished is not None
    assert seen.finished.exit_code == 74
    assert sum(slept) <= 3.0


def keep_more(directory: Path, event: Any) -> None:
    """Add one event to the run's journal."""
    import anyio

    async def add() -> None:
        async with State(directory).append_later(run_id(1)) as journal:
            journal.append(event)

    anyio.run(add)
