"""Files that earlier versions wrote are read by this one, as docs/reference/compatibility.md says.

`record.py` made the files, with the code of that version.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from orchestrator.app.notify.composing import RunEnding, composed_end
from orchestrator.app.notify.shapes import as_values
from orchestrator.cli import command
from orchestrator.core.exit_codes import exit_words
from orchestrator.journal import State
from orchestrator.plan.file.settings import NotifyOn
from orchestrator.report.objective_values import Objective
from orchestrator.report.text import reached_of_wanted

VERSIONS = sorted(path for path in Path(__file__).parent.iterdir() if (path / "plan.yaml").exists())
pytestmark = pytest.mark.parametrize("recorded", VERSIONS, ids=lambda path: path.name)


def call(*arguments: str | Path) -> Result:
    """Call the program as a user would."""
    return CliRunner().invoke(command, [str(each) for each in arguments])


def journal_of(recorded: Path, directory: Path) -> Path:
    """Return a state directory with the recorded journal."""
    with closing(sqlite3.connect(directory / "journal.sqlite")) as journal:
        journal.executescript((recorded / "journal.sql").read_text(encoding="utf-8"))
    return directory


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file with one per line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def schema(name: str) -> Draft202012Validator:
    """Return a published schema as this version prints it."""
    return Draft202012Validator(json.loads(call("schema", name).stdout))


def lost(older: Any, newer: Any, place: str = "") -> Iterator[str]:
    """Yield where a newer document lacks or changes what the older one has."""
    if isinstance(older, dict):
        for key, value in older.items():
            if not isinstance(newer, dict) or key not in newer:
                yield f"{place}/{key} is gone"
            else:
                yield from lost(value, newer[key], f"{place}/{key}")
    elif isinstance(older, list) and isinstance(newer, list) and len(older) == len(newer):
        for number, (old, new) in enumerate(zip(older, newer, strict=True)):
            yield from lost(old, new, f"{place}/{number}")
    elif isinstance(older, list) and isinstance(newer, list):
        yield from (f"{place}: {each!r} is gone" for each in older if each not in newer)
    elif older != newer:
        yield f"{place}: {older!r} became {newer!r}"


def test_a_plan_is_still_valid(recorded: Path) -> None:
    """A plan that an earlier version took is taken."""
    result = call("validate", recorded / "plan.yaml")

    assert result.exit_code == 0, result.stderr


def test_a_locked_plan_still_names_the_same_targets(recorded: Path, tmp_path: Path) -> None:
    """Its hash holds, and no target and no restore point of it is lost."""
    from orchestrator.plan.choose.locked import load_locked

    path = recorded / "plan.locked.json"
    written = json.loads(path.read_text(encoding="utf-8"))["locked"]

    locked = load_locked(path.read_bytes(), path)

    assert locked.version == recorded.name
    assert [(each.key, each.point.id) for each in locked.requests] == [
        (each["key"], each["point"]["id"]) for each in written["requests"]
    ]
    assert [each.key for each in locked.unresolved] == [
        each["key"] for each in written["unresolved"]
    ]


def test_the_report_is_rebuilt_with_everything_that_it_said(recorded: Path, tmp_path: Path) -> None:
    """From a journal of the earlier version: fields may be new; none is gone or different."""
    state = journal_of(recorded, tmp_path)
    before = json.loads((recorded / "report" / "report.json").read_text(encoding="utf-8"))

    result = call("report", before["run"]["id"], "--state", state, "--report", tmp_path / "new")

    assert result.exit_code == 0, result.output
    after = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert list(lost(before, after)) == []


def test_a_killed_run_still_names_what_may_be_mounted(recorded: Path, tmp_path: Path) -> None:
    """`status` reads the journal of a process of the earlier version that died."""
    state = journal_of(recorded, tmp_path)

    result = call("status", "last", "--state", state, "--json")

    assert result.exit_code == 3
    targets = json.loads(result.stdout)["targets"]
    assert [target["mount"] for target in targets].count("unknown") == 3


def test_the_written_report_is_still_verified(recorded: Path) -> None:
    """Chain and hashes hold; what another version's renderings say is not compared."""
    result = call("report", "--verify", recorded / "report")

    assert result.exit_code == 0, result.output
    assert f"written by version {recorded.name}" in result.output


@pytest.mark.parametrize("kind", ["report", "events"])
def test_earlier_files_fit_the_schemas_of_today(recorded: Path, kind: str) -> None:
    """A field that was not there yet is not required; a value that was written is allowed."""
    rows = (
        lines(recorded / "events.jsonl")
        if kind == "events"
        else [json.loads((recorded / "report" / "report.json").read_text(encoding="utf-8"))]
    )

    for row in rows:
        schema(kind).validate(row)


def test_events_that_were_written_are_still_known(recorded: Path) -> None:
    """No type of event and no field of one has gone."""
    known = json.loads(call("schema", "events").stdout)["properties"]

    rows = lines(recorded / "events.jsonl")

    assert {row["type"] for row in rows} <= set(known["type"]["enum"])
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))


def test_messages_to_webhooks_still_have_every_field(recorded: Path, tmp_path: Path) -> None:
    """The generic message about the recorded run has all that the recorded one had."""
    before = lines(recorded / "webhook.jsonl")
    finished = next(row for row in before if row["event"] == "finished")
    run = finished["run"]["id"]
    state = State(journal_of(recorded, tmp_path)).replay(run)
    names = ("scope", "kind", "target_s", "actual_s")
    missed = tuple(
        Objective(**{name: each[name] for name in names}, met=False)
        for each in finished["objectives"]
    )
    code = finished["run"]["exit_code"]
    ending = RunEnding(exit_code=code, missed=missed, report=finished["report"])
    # Texts for people may say the same in other words.
    for row, objective in zip(finished["objectives"], missed, strict=True):
        row["words"] = reached_of_wanted(objective)
    meaning = finished["text"].partition(": drill ended with exit code 1: ")[2].partition(".")[0]
    finished["text"] = finished["text"].replace(meaning, exit_words(code))

    after = {notice.event: as_values(notice) for notice in composed_end(state, ending)}

    assert list(lost(finished, after[NotifyOn.FINISHED])) == []
