"""Rebuilding over a report that was written earlier: it may know more than the journal does."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.core.model import RunId
from orchestrator.core.records import BEGINNING, Mark
from orchestrator.core.run_state import RunState, fold
from orchestrator.journal import State
from orchestrator.report.evidence.verifying import verify
from orchestrator.report.evidence.writing import drop_evidence
from orchestrator.report.summary import summarize
from orchestrator.report.writing import write
from tests.journal.sample import database
from tests.report.builders import life
from tests.report.history.runs import beginning, called, keep


def cut_off(state: Path) -> None:
    """Take the last record out of a journal, which leaves its chain whole."""
    with closing(sqlite3.connect(database(State(state)), isolation_level=None)) as connection:
        connection.execute("DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A journal of one run, and its report in `report`."""
    keep(tmp_path / "state", beginning(1), [life("sql01")])
    done = called(tmp_path / "state", "report", "last", "--report", tmp_path / "report")
    assert done.exit_code == 0, done.output
    return tmp_path / "state"


def test_a_journal_whose_end_was_cut_off_replaces_no_evidence(state: Path, tmp_path: Path) -> None:
    """The report that knows of the last record stays as it was; another directory is free."""
    before = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    cut_off(state)

    done = called(state, "report", "last", "--report", tmp_path / "report")
    elsewhere = called(state, "report", "last", "--report", tmp_path / "elsewhere")

    assert done.exit_code == 74
    assert "was cut off or changed, or is an older copy" in done.output
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == before
    assert elsewhere.exit_code == 0, elsewhere.output


@pytest.fixture
def only_record(tmp_path: Path) -> Path:
    """The directory of a report that says of itself that the journal does not have all of it."""
    place = tmp_path / "reports" / "RUN"
    keep(tmp_path / "state", beginning(1, report_dir=str(place)), [life("sql01")])
    state = State(tmp_path / "state")
    write(summarize(state.replay(state.find("last"))), place, beside=drop_evidence)
    return place


def contents(directory: Path) -> dict[str, bytes]:
    """Return what is in a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_report_refuses_to_overwrite_the_only_record(only_record: Path, tmp_path: Path) -> None:
    """It says why, and writes to another directory."""
    before = contents(only_record)

    done = called(tmp_path / "state", "report", "last")
    elsewhere = called(tmp_path / "state", "report", "last", "--report", tmp_path / "elsewhere")

    assert done.exit_code == 74
    assert "it is the only record of that and is not overwritten" in done.output
    assert "next: read that report; --report writes to another directory" in done.output
    assert contents(only_record) == before
    assert elsewhere.exit_code == 0, elsewhere.output


def test_status_names_the_only_record(only_record: Path, tmp_path: Path) -> None:
    """What the journal has is not all; and a report that is gone is not named."""
    named = f"the report has the rest: {only_record}"

    assert named in called(tmp_path / "state", "status", "last").output
    shutil.rmtree(only_record)
    assert named not in called(tmp_path / "state", "status", "last").output


def test_unmount_reports_beside_the_only_record(only_record: Path, tmp_path: Path) -> None:
    """However often it is called: the new report is in one other directory, which it names."""
    before = contents(only_record)
    beside = only_record.with_name("RUN.2")

    for _ in range(2):
        done = called(tmp_path / "state", "unmount", "last")

        assert done.exit_code == 0, done.output
        assert f"reports updated: {beside}" in done.output
        assert f"the report in {only_record} has what the journal does not have" in done.output
        assert contents(only_record) == before
        assert verify(beside).is_good
        assert sorted(only_record.parent.iterdir()) == [only_record, beside]


def test_a_directory_with_something_else_is_not_taken(only_record: Path, tmp_path: Path) -> None:
    """The next number is, whatever has the first one."""
    (taken := only_record.with_name("RUN.2")).mkdir()
    (taken / "report.json").write_text("somebody's")

    done = called(tmp_path / "state", "unmount", "last")

    assert f"reports updated: {only_record.with_name('RUN.3')}" in done.output
    assert contents(taken) == {"report.json": b"somebody's"}


def test_a_report_of_another_run_or_of_none_is_replaced(state: Path, tmp_path: Path) -> None:
    """Only what this run's records say is kept from being lost."""
    keep(state, beginning(2), [life("sql01"), life("dc01")])
    called(state, "report", "last", "--report", tmp_path / "report")

    assert verify(tmp_path / "report").is_good
    (tmp_path / "report" / "evidence.json").write_bytes(b"rubbish")
    assert called(state, "report", "last", "--report", tmp_path / "report").exit_code == 0
    assert verify(tmp_path / "report").is_good


def test_a_run_that_ends_meanwhile_keeps_the_report_of_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before the end never stays in the place of what was written at the end."""
    run = keep(tmp_path / "state", beginning(1), [life("sql01")])
    whole = State.replay_to_head
    readings: list[RunId] = []

    def read(self: State, run: RunId) -> tuple[RunState, Mark]:
        readings.append(run)
        if len(readings) > 1:
            return whole(self, run)
        before_last = BEGINNING.past(list(self.records(run))[:-1])
        return fold(list(self.events(run))[:-1]), before_last

    monkeypatch.setattr(State, "replay_to_head", read)

    done = called(tmp_path / "state", "report", run, "--report", tmp_path / "report")

    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "report" / "report.json").read_bytes())["run"]["exit_code"] == 0
    assert verify(tmp_path / "report").is_good
    assert len(done.output.splitlines()) == len(list((tmp_path / "report").iterdir()))
