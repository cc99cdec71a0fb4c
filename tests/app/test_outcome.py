"""No file of a report directory says another exit code than the process ended with."""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.outcome import Outcome, write_reports
from orchestrator.app.runner import run_plan
from orchestrator.app.wiring import Choices
from orchestrator.core.exit_codes import ExitCode
from orchestrator.journal import State
from orchestrator.report import writing
from orchestrator.report.evidence.verifying import verify
from orchestrator.report.summary import summarize
from orchestrator.report.values import Report
from orchestrator.report.writing import RENDERINGS, Staging, rendered
from tests.report.builders import finished, life
from tests.report.history.runs import beginning, called, keep
from tests.scenarios.drill import Site, staged

ONE = [Site(machines=1, mount_s=1.0)]
FILES = len(RENDERINGS) + 2


def takes_only(monkeypatch: pytest.MonkeyPatch, directory: Path, count: int) -> None:
    """Let the disk of a directory be full when a report has so many files there."""
    add = Staging.add

    def until_full(self: Staging, name: str, content: Iterable[bytes]) -> None:
        add(self, name, content)
        if self.directory == directory and len(self.hashes) > count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Staging, "add", until_full)


def breaks(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Let one rendering fail."""

    def fails(report: Report) -> Iterator[str]:
        yield from itertools.islice(RENDERINGS[broken](report), 1)
        raise ValueError(broken)

    monkeypatch.setattr(writing, "RENDERINGS", {**RENDERINGS, broken: fails})


def listed(directory: Path) -> list[str]:
    """Return what lies in a directory."""
    return sorted(path.name for path in directory.iterdir())


def run_of(directory: Path) -> dict[str, Any]:
    """Return what report.json says of the run."""
    run: dict[str, Any] = json.loads((directory / "report.json").read_text())["run"]
    return run


def evidence_code(directory: Path) -> object:
    """Return the exit code that evidence.json has."""
    return json.loads((directory / "evidence.json").read_text())["run"]["exit_code"]


@pytest.mark.anyio
@pytest.mark.parametrize("whole", range(FILES))
async def test_a_disk_that_fills_up_takes_no_report(
    whole: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 74: the files that went there before it was full would say 0."""
    place = tmp_path / "report"
    takes_only(monkeypatch, place, whole)
    async with staged(tmp_path, monkeypatch, ONE) as stage:
        outcome = await run_plan(
            stage.loaded, Choices(state=stage.state, report=place), world=stage.world()
        )

    assert outcome.code == 74
    assert listed(place) == []
    assert outcome.directory.parent == stage.state / "reports"
    assert run_of(outcome.directory)["exit_code"] == evidence_code(outcome.directory) == 74
    assert verify(outcome.directory).is_good


@pytest.mark.anyio
@pytest.mark.parametrize("broken", RENDERINGS)
async def test_what_is_written_beside_a_broken_rendering_says_the_code_of_that(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect costs one file; the others, their evidence, the journal and the process say 70."""
    breaks(monkeypatch, broken)
    async with staged(tmp_path, monkeypatch, ONE) as stage:
        place = tmp_path / "report"
        outcome = await run_plan(
            stage.loaded, Choices(state=stage.state, report=place), world=stage.world()
        )

    kept = State(stage.state)
    state = kept.replay(kept.find("last"))
    assert state.finished is not None
    assert outcome.code == state.finished.exit_code == evidence_code(place) == 70
    assert outcome.directory == place
    assert sorted(path.name for path in outcome.written) == listed(place)
    assert set(RENDERINGS) - set(listed(place)) == {broken}
    report = summarize(state, chain_head=kept.chain_head(state.started.run))
    monkeypatch.setattr(writing, "RENDERINGS", RENDERINGS)
    for name in RENDERINGS.keys() - {broken}:
        assert (place / name).read_bytes() == b"".join(rendered(name, report))
    refuted = verify(place).refuted
    assert refuted
    assert all(broken in each or "about these records" in each for each in refuted)


@pytest.mark.anyio
async def test_a_broken_rendering_and_a_full_disk_are_each_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reports beside the journal say 70, the directory says nothing."""
    breaks(monkeypatch, "report.txt")
    place = tmp_path / "report"
    takes_only(monkeypatch, place, 2)
    async with staged(tmp_path, monkeypatch, ONE) as stage:
        outcome = await run_plan(
            stage.loaded, Choices(state=stage.state, report=place), world=stage.world()
        )

    assert outcome.code == run_of(outcome.directory)["exit_code"] == 70
    assert listed(place) == []
    assert outcome.trouble is not None
    assert outcome.trouble.count("cannot be written to") == 1
    assert outcome.trouble.count("internal error") == 1


def written(tmp_path: Path, **of_outcome: Any) -> tuple[Outcome, State]:
    """Return the outcome of a run whose report is in `report`, with code 0."""
    place = tmp_path / "report"
    keep(tmp_path / "state", beginning(1, report_dir=str(place)), [life("sql01")])
    state = State(tmp_path / "state")
    found, mark = state.replay_to_head(state.find("last"))
    report = summarize(found, chain_head=mark.head)
    outcome = Outcome(code=0, report=report, directory=place, **of_outcome)
    done = write_reports(outcome, state, found, Choices(state=state.directory))
    assert done.code == run_of(place)["exit_code"] == 0
    return done, state


@pytest.mark.parametrize("whole", [0, FILES - 1])
def test_an_older_report_of_another_end_does_not_stay(
    whole: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written while the run still went on, or by the process before: it would look like the end."""
    outcome, state = written(tmp_path)
    takes_only(monkeypatch, outcome.directory, whole)
    found = state.replay(state.find("last"))

    again = write_reports(outcome, state, found, Choices(state=state.directory))

    assert again.code == run_of(again.directory)["exit_code"] == 74
    assert again.directory != outcome.directory
    assert listed(outcome.directory) == []


def test_a_resume_of_nothing_leaves_the_report_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ended with that code, and nothing has changed since."""
    outcome, state = written(tmp_path, nothing_left=True)
    takes_only(monkeypatch, outcome.directory, 3)
    found = state.replay(state.find("last"))

    again = write_reports(outcome, state, found, Choices(state=state.directory))

    assert again.code == 74
    assert run_of(outcome.directory)["exit_code"] == 0
    assert verify(outcome.directory).is_good


def test_an_older_report_that_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that has become read-only."""
    outcome, state = written(tmp_path)
    takes_only(monkeypatch, outcome.directory, 0)
    found = state.replay(state.find("last"))

    def read_only(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "truncate", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    again = write_reports(outcome, state, found, Choices(state=state.directory))

    assert again.trouble is not None
    assert f"an older report in {outcome.directory} cannot be removed" in again.trouble


@pytest.mark.parametrize("code", [0, 74])
def test_a_report_that_cannot_be_rebuilt_leaves_what_is_still_true(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`report` ends with 74 of its own; an older report stays if it has the code of the run."""
    outcome, state = written(tmp_path)
    place = outcome.directory
    if code != ExitCode.GOOD:
        _end_with(state, code)
    takes_only(monkeypatch, place, 5)

    done = called(state.directory, "report", "last")

    assert done.exit_code == 74
    if code == ExitCode.GOOD:
        assert verify(place).is_good
    else:
        assert listed(place) == []


def test_a_report_of_another_run_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is true of its own run, whose id it has."""
    outcome, state = written(tmp_path)
    keep(state.directory, beginning(2), [life("sql01"), [finished(exit_code=1)]], ended=False)
    takes_only(monkeypatch, outcome.directory, 5)

    done = called(state.directory, "report", "last", "--report", outcome.directory)

    assert done.exit_code == 74
    assert verify(outcome.directory).is_good


def _end_with(state: State, code: int) -> None:
    """Record another exit code than the run's, as the end of its process does."""
    import anyio

    async def add() -> None:
        async with state.append_later(state.find("last")) as journal:
            journal.append(finished(exit_code=code))

    anyio.run(add)
