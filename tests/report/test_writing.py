"""Writing the report: owner-only, whole or not at all, and each rendering for itself."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.report import writing
from orchestrator.report.as_json import render
from orchestrator.report.summary import summarize
from orchestrator.report.text import text
from orchestrator.report.values import Report
from orchestrator.report.writing import write
from tests.report.builders import HOSTILE, Fate, finished, life, run_of

NAMES = list(writing.RENDERINGS)


def report(*labels: str) -> Report:
    """Return the report of a run with these targets, all failed, so that all are named."""
    lives = [life(label, Fate.TASK_FAILED) for label in labels or ("sql01",)]
    return summarize(run_of(*lives, [finished()]))


def listed(directory: Path) -> list[str]:
    """Return what lies in the directory, hidden files too."""
    return sorted(path.name for path in directory.iterdir())


def mode(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_every_rendering_is_written(tmp_path: Path) -> None:
    """The paths that come back are the files that lie there, and nothing else does."""
    written = write(report(), tmp_path)

    assert written == [tmp_path / name for name in NAMES]
    assert listed(tmp_path) == sorted(NAMES)


def test_the_directory_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    """A missing directory is made with all its parents; its last part is the owner's only."""
    directory = tmp_path / "reports" / "20261123T060000Z-7f3a"

    write(report(), directory)

    assert mode(directory) == 0o700


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_files_are_the_owner_s_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Reports name machines and paths: mode 0600, neither wider nor narrower."""
    before = os.umask(umask)
    try:
        write(report(), tmp_path)
    finally:
        os.umask(before)

    assert {name: mode(tmp_path / name) for name in NAMES} == dict.fromkeys(NAMES, 0o600)


def test_an_older_report_of_any_mode_is_replaced(tmp_path: Path) -> None:
    """Rebuilding makes the new report whole, and owner-only where the old one was not."""
    for name in NAMES:
        (tmp_path / name).write_text("old and longer than nothing" * 1000)
        (tmp_path / name).chmod(0o644)

    write(report("new"), tmp_path)

    assert (tmp_path / "report.txt").read_text() == text(report("new"))
    assert {mode(tmp_path / name) for name in NAMES} == {0o600}


def test_a_reader_never_sees_half_a_report(tmp_path: Path) -> None:
    """Replacing is one step: who has the old file open goes on reading the whole old one."""
    write(report("old"), tmp_path)
    with (tmp_path / "report.json").open() as reader:
        half = reader.read(100)

        write(report("new"), tmp_path)

        old = json.loads(half + reader.read())
    assert [target["label"] for target in old["targets"]] == ["old"]
    assert (tmp_path / "report.json").read_text() == render(report("new"))


def test_what_a_killed_writer_left_is_no_obstacle(tmp_path: Path) -> None:
    """An unfinished file of an earlier attempt is overwritten and gone."""
    (tmp_path / ".report.json.new").write_text("half a rep" * 10_000)
    (tmp_path / ".report.json.new").chmod(0o644)

    write(report(), tmp_path)

    assert listed(tmp_path) == sorted(NAMES)
    assert (tmp_path / "report.json").read_text() == render(report())
    assert mode(tmp_path / "report.json") == 0o600


def test_two_writers_hinder_one_another_in_nothing(tmp_path: Path) -> None:
    """A run ends while its report is rebuilt: each file is that of one of them, and whole."""
    path = tmp_path / "report.json"

    def interrupted() -> Iterator[bytes]:
        yield b"one "
        writing.replaced(path, [b"another"])
        assert path.read_bytes() == b"another"
        yield b"whole"

    writing.replaced(path, interrupted())

    assert path.read_bytes() == b"one whole"
    assert listed(tmp_path) == ["report.json"]


@pytest.mark.parametrize("blocked", NAMES)
def test_a_rendering_that_cannot_be_written_leaves_the_others(tmp_path: Path, blocked: str) -> None:
    """A fault of one file is raised, but only after the others are there; no debris stays."""
    (tmp_path / blocked).mkdir()

    with pytest.raises(IsADirectoryError):
        write(report(), tmp_path)

    others = [name for name in NAMES if name != blocked]
    assert all((tmp_path / name).stat().st_size for name in others)
    assert listed(tmp_path) == sorted(NAMES)


@pytest.mark.parametrize("broken", NAMES)
def test_a_rendering_that_fails_leaves_the_others_and_its_predecessor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A defect in one rendering costs neither the others nor the older file of its own name."""
    write(report("old"), tmp_path)
    before = (tmp_path / broken).read_bytes()

    def fails(_report: Report) -> str:
        raise ValueError(broken)

    monkeypatch.setattr(writing, "RENDERINGS", {**writing.RENDERINGS, broken: fails})
    with pytest.raises(ValueError, match=broken):
        write(report("new"), tmp_path)

    assert (tmp_path / broken).read_bytes() == before
    assert all(b"new" in (tmp_path / name).read_bytes() for name in NAMES if name != broken)
    assert listed(tmp_path) == sorted(NAMES)


def test_a_directory_that_cannot_be_made_is_an_io_error(tmp_path: Path) -> None:
    """Where no report can be written the caller is told by an OSError, for exit code 74."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OSError, match="file"):
        write(report(), tmp_path / "file" / "reports")


def test_hostile_names_are_written_in_every_rendering(tmp_path: Path) -> None:
    """No name that a journal can hold keeps a rendering from being written."""
    lived = life(HOSTILE, Fate.TASK_FAILED, words=HOSTILE)

    write(summarize(run_of(lived)), tmp_path)

    assert all((tmp_path / name).read_bytes().decode() for name in NAMES)


@pytest.mark.parametrize("umask", [0o000, 0o277])
def test_the_directories_above_are_the_owners_too(tmp_path: Path, umask: int) -> None:
    """Nobody else can list which runs there were, whatever the umask."""
    before = os.umask(umask)
    try:
        write(report(), tmp_path / "reports" / "run")
    finally:
        os.umask(before)

    assert mode(tmp_path / "reports") == 0o700
