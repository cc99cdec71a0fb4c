"""Directories that are read-only, missing, or something else: said plainly, code 74."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.host.namespaces import with_tmpfs
from tests.host.test_disk import check
from tests.processes import Place, Servers, ended, until_running

pytestmark = pytest.mark.process


def test_a_read_only_state_directory_sends_nothing(quick: Servers, place: Place) -> None:
    """The message names the directory and the reason, and what to do."""
    plan = quick.plan(place.directory, targets=4)
    state = place.directory / "state"

    process = place.start("run", plan, "--yes", through=with_tmpfs(state, "ro"))
    code, _, err = ended(process)

    assert code == 74
    assert f"{state} cannot be used: Read-only file system" in err
    assert "next: the state directory (--state) must be writable" in err
    assert quick.truth().logons == 0


def test_a_missing_state_directory_is_made(quick: Servers, place: Place) -> None:
    """However deep it is."""
    plan = quick.plan(place.directory, targets=2)
    deep = Place(place.directory / "a" / "b")

    done = deep.call("run", plan, "--yes")

    assert done.returncode == 0, done.stderr
    assert (deep.directory / "state" / "journal.sqlite").exists()
    assert deep.values()["totals"]["mounted"] == 2


@pytest.mark.parametrize(("file", "code"), [("state", 2), ("", 74)], ids=["itself", "above"])
def test_a_state_directory_that_is_a_file_is_left_alone(
    file: str, code: int, tmp_path: Path
) -> None:
    """It is named, and keeps its content."""
    plan = Path(__file__).parents[2] / "plans" / "minimal.yaml"
    place = Place(tmp_path / "somewhere")
    there = place.directory / file
    there.parent.mkdir(exist_ok=True)
    there.write_text("mine")

    done = place.call("run", plan, "--yes")

    assert done.returncode == code
    assert str(place.directory / "state") in done.stderr
    assert "Traceback" not in done.stderr
    assert there.read_text() == "mine"


def test_a_damaged_journal_is_refused_by_every_command(quick: Servers, place: Place) -> None:
    """Each names the record and ends with 74; not a byte of the file changes."""
    plan = quick.plan(place.directory, targets=3)
    assert place.call("run", plan, "--yes").returncode == 0
    file = place.directory / "state" / "journal.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET body = x'7b7d' WHERE seq = 5")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = file.read_bytes()

    for verb, *more in (
        ["status", "last"],
        ["report", "last", "--report", place.directory / "rebuilt"],
        ["unmount", "last"],
        ["run", plan, "--yes", "--retry-failed", "last"],
    ):
        done = place.call(str(verb), *more)
        assert done.returncode == 74, (verb, done.stderr)
        assert "record 5 " in done.stderr
        assert "next: keep the file as it is" in done.stderr

    assert file.read_bytes() == before


# --- reports ---------------------------------------------------------------------------------


def test_a_report_directory_that_is_gone_at_the_end_is_made_anew(
    stalled: Servers, place: Place
) -> None:
    """Somebody tidied up meanwhile: no reason to lose a report."""
    plan = stalled.plan(place.directory, targets=6)
    place.report.mkdir()
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 1)

    place.report.rmdir()
    stalled.go_on()
    code, _, err = ended(process)

    assert code == 0, err
    check(stalled, place, plan)


def test_reports_without_their_directory_are_written_beside_the_journal(
    stalled: Servers, place: Place
) -> None:
    """Code 74; the message names why, and where they are."""
    plan = stalled.plan(place.directory, targets=6)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 1)

    place.report.write_text("a file in its place")
    stalled.go_on()
    code, _, err = ended(process)

    assert code == 74
    assert f"the reports cannot be written to {place.report}: " in err
    (instead,) = (place.directory / "state" / "reports").iterdir()
    assert f"they are in {instead}" in err
    found = json.loads((instead / "report.json").read_text())
    assert found["run"]["exit_code"] == 74
    assert found["totals"]["mounted"] == 6
    assert (instead / "report.json").stat().st_mode & 0o777 == 0o600
    assert not stalled.truth().still_open()


@pytest.mark.parametrize("form", [["--json"], []], ids=["json", "text"])
def test_reports_that_nobody_can_write_are_printed(
    form: list[str], stalled: Servers, place: Place
) -> None:
    """Where neither directory can be written, the terminal still shows what was proven."""
    plan = stalled.plan(place.directory, targets=3)
    (place.directory / "state").mkdir(mode=0o700)
    (place.directory / "state" / "reports").write_text("in the way as well")
    process = place.start("run", plan, "--yes", *form)
    while not stalled.truth().mounts:
        assert process.poll() is None
        time.sleep(0.05)
    place.report.write_text("in the way")
    stalled.go_on()

    code, out, err = ended(process)

    assert code == 74
    printed = err if form else out
    assert "3 targets: 0 verified, 3 mounted" in printed
    assert "Exit code: 74" in printed
    assert "make them later: bulk-restore report " in err
    assert not stalled.truth().still_open()
