"""The list of runs: what a glance says is what the whole fold would say."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.core.events import Event, MountKept, RunFinished, RunStarted, UnmountStarted
from orchestrator.core.run_state import fold
from orchestrator.journal import State
from orchestrator.report.exit_codes import exit_code
from orchestrator.report.history.overview import overview_of
from tests.journal.sample import database
from tests.report.builders import Fate, journals, life
from tests.report.history.runs import beginning, called, keep, run_id


def ended_as_it_was(events: list[Event]) -> list[Event]:
    """Return events with the exit code that a run with them would have had."""
    return [
        replace(event, exit_code=int(exit_code(fold(events))))
        if isinstance(event, RunFinished)
        else event
        for event in events
    ]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_glance_says_what_the_fold_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Over random runs: the same end, targets, mounts that may be open, and report directory."""
    directory = tmp_path_factory.mktemp("state")
    first, *rest = ended_as_it_was(data.draw(journals()))
    assert isinstance(first, RunStarted)
    keep(directory, first, [rest], ended=False)
    kept = State(directory)
    found = kept.replay(first.run)

    seen = overview_of(kept, kept.summary("last"))

    assert seen.finished == found.finished
    assert seen.targets == len(found.records)
    assert seen.report_dir == found.report_dir
    assert seen.open == found.left_open


def test_a_kept_mount_is_seen_although_the_run_ended_well(tmp_path: Path) -> None:
    """A mount that the plan keeps is open, whatever the exit code says."""
    lived = life("sql01", Fate.MOUNTED)
    place = next(n for n, event in enumerate(lived) if isinstance(event, UnmountStarted))
    kept = MountKept(at=lived[place].at, key=lived[place].key, reason="the plan keeps it")  # type: ignore[attr-defined]
    keep(tmp_path, beginning(1), [[*lived[:place], kept]])

    (row,) = json.loads(called(tmp_path, "status", "--json").output)

    assert (row["state"], row["may_be_mounted"]) == ("finished", 1)


def test_the_list_still_finds_damage(tmp_path: Path) -> None:
    """A record that is not what was written is named, in the list of runs too."""
    keep(tmp_path, beginning(1), [life("sql01")])
    with closing(sqlite3.connect(database(State(tmp_path)), isolation_level=None)) as connection:
        connection.execute("UPDATE events SET body = body || ' ' WHERE seq = 3")

    done = called(tmp_path, "status")

    assert done.exit_code == 74
    assert f"record 3 (SubmissionStarted) of run {run_id(1)} is not what was written" in done.output


def test_a_damaged_run_hides_no_other_one(tmp_path: Path) -> None:
    """What an earlier run may have left mounted is still found; the damage is told beside it."""
    keep(tmp_path, beginning(1), [life("sql01", Fate.RUNNING)], ended=False)
    keep(tmp_path, beginning(2), [life("sql01")])
    with closing(sqlite3.connect(database(State(tmp_path)), isolation_level=None)) as connection:
        connection.execute("UPDATE events SET body = body || ' ' WHERE run = ?", (run_id(2),))

    done, as_json = called(tmp_path, "status"), called(tmp_path, "status", "--json")

    assert f"{run_id(1)}  payments-tier1  dead, 1 target, 1 MAY BE MOUNTED" in done.stdout
    assert f"{run_id(2)}  payments-tier1  DAMAGED" in done.stdout
    assert "record 1 (RunStarted)" in done.stderr
    assert [row["state"] for row in json.loads(as_json.stdout)] == ["damaged", "interrupted"]
    assert done.exit_code == as_json.exit_code == 74


def test_a_run_that_ended_is_not_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of many good runs costs their chains, and no more."""
    keep(tmp_path, beginning(1), [life("sql01")])
    monkeypatch.setattr(State, "replay", None)

    assert "1 target" in called(tmp_path, "status").output
