"""Files of a later version: this program refuses what it cannot read whole, before it acts."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from click.testing import CliRunner

from orchestrator.cli import command

RECORDED = Path(__file__).parent / "0.1.0"


def call(*arguments: str | Path) -> tuple[int, str]:
    """Call the program as a user would; return its exit code and what it said."""
    result = CliRunner().invoke(command, [str(each) for each in arguments])
    return result.exit_code, result.output


def test_a_plan_with_a_key_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """A setting is never left out in silence."""
    plan = json.loads((RECORDED / "plan.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(plan | {"setting_of_tomorrow": True}), encoding="utf-8")

    code, output = call("validate", path)

    assert code == 2
    assert "unknown key 'setting_of_tomorrow'" in output


def test_a_locked_plan_of_a_later_format_is_refused(tmp_path: Path) -> None:
    """Its targets would not be what was locked."""
    document = json.loads((RECORDED / "plan.locked.json").read_text(encoding="utf-8"))
    path = tmp_path / "plan.locked.json"
    path.write_text(json.dumps(document | {"format_version": 99}), encoding="utf-8")

    code, output = call("run", path, "--state", tmp_path / "state")

    assert code == 2
    assert "written in a format this program cannot read" in output


def test_a_journal_of_a_later_schema_is_refused(tmp_path: Path) -> None:
    """It is neither read nor changed."""
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as journal:
        journal.executescript((RECORDED / "journal.sql").read_text(encoding="utf-8"))
        journal.execute("UPDATE meta SET schema_version = 99")
        journal.commit()

    code, output = call("status", "last", "--state", tmp_path)

    assert code == 74
    assert "was written by another version (schema 99)" in output


def test_an_event_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """A run of which one record is not understood is not reported, and not resumed."""
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as journal:
        journal.executescript((RECORDED / "journal.sql").read_text(encoding="utf-8"))
        (run,) = journal.execute("SELECT run FROM runs WHERE plan = 'killed'").fetchone()
        rows = journal.execute("SELECT seq, hash FROM events WHERE run = ? ORDER BY seq", (run,))
        seq, before = rows.fetchall()[-1]
        kind, body = "EventOfTomorrow", b'{"at":9.0}'
        digest = sha256(before)
        digest.update(f"\n{run}\n{seq + 1}\n{kind}\n".encode() + body)
        row = (run, seq + 1, 9.0, kind, body, digest.digest())
        journal.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
        journal.commit()

    code, output = call("report", run, "--state", tmp_path, "--report", tmp_path / "report")

    assert code == 74
    assert "EventOfTomorrow" in output
    assert not (tmp_path / "report").exists()
