"""Writing the report: owner-only, all of its files or none."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report import writing
from orchestrator.report.as_json import render
from orchestrator.report.summary import summarize
from orchestrator.report.text import text
from orchestrator.report.values import Report
from orchestrator.report.writing import Staging, remove, write
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
    with Staging(tmp_path) as first:
        first.add(path.name, [b"one ", b"whole"])
        with Staging(tmp_path) as second:
            second.add(path.name, [b"another"])
            second.publish()
        assert path.read_bytes() == b"another"
        first.publish()
        with Staging(tmp_path) as third:
            third.add(path.name, [b"a third"])
            first.__exit__()
            third.publish()

    assert path.read_bytes() == b"a third"
    assert listed(tmp_path) == ["report.json"]


def contents(directory: Path) -> dict[str, bytes]:
    """Return what is in the directory, hidden files too; nothing of a directory in it."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("blocked", NAMES)
def test_a_name_that_is_taken_by_a_directory_leaves_everything(
    tmp_path: Path, blocked: str
) -> None:
    """The caller ends with code 74: no file of a report with another code is left beside it."""
    write(report("old"), tmp_path)
    (tmp_path / blocked).unlink()
    (tmp_path / blocked).mkdir()
    before = contents(tmp_path)

    with pytest.raises(IsADirectoryError):
        write(report("new"), tmp_path)

    assert contents(tmp_path) == before
    assert listed(tmp_path) == sorted(NAMES)


@pytest.mark.parametrize("whole", range(len(NAMES)))
@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("left_out", [None, []])
def test_a_disk_that_fills_up_leaves_the_older_report_or_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: int,
    older: bool,
    left_out: list[Exception] | None,
) -> None:
    """However many files are complete by then: none of them is given its name.

    It is no rendering that fails, also for who would leave one out.
    """
    if older:
        write(report("old"), tmp_path)
    before = contents(tmp_path)
    fails_after(monkeypatch, "fsync", whole)

    with pytest.raises(OSError, match="No space left"):
        write(report("new"), tmp_path, left_out=left_out)

    assert contents(tmp_path) == before
    assert not left_out


@pytest.mark.parametrize("moved", range(len(NAMES)))
def test_a_file_that_cannot_have_its_name_leaves_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """The directory becomes read-only meanwhile: the older report is there, whole, or nothing."""
    write(report("old"), tmp_path)
    before = contents(tmp_path)
    fails_after(monkeypatch, "rename", moved)

    with pytest.raises(OSError, match="No space left"):
        write(report("new"), tmp_path)

    assert contents(tmp_path) == (before if moved == 0 else {})


def test_a_file_that_cannot_be_removed_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes it for a report."""
    write(report("old"), tmp_path)
    fails_after(monkeypatch, "unlink", 2)

    assert remove(tmp_path, NAMES) == []

    assert contents(tmp_path) == dict.fromkeys(NAMES[2:], b"")


def fails_after(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    """Let a function of the system succeed so many times, and fail from then on."""
    real: Callable[..., Any] = getattr(os, name)
    names = {"rename": ("rename", "replace"), "unlink": ("unlink",), "fsync": ("fsync",)}[name]
    left = iter(range(count))

    def function(*args: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **options)

    for each in names:
        monkeypatch.setattr(os, each, function)


@pytest.mark.parametrize("broken", NAMES)
def test_a_rendering_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """The process ends with code 70 then: the caller writes the others with that."""
    write(report("old"), tmp_path)
    before = contents(tmp_path)
    breaks(monkeypatch, broken)

    with pytest.raises(ValueError, match=broken):
        write(report("new"), tmp_path)

    assert contents(tmp_path) == before


@pytest.mark.parametrize("broken", NAMES)
def test_a_rendering_that_fails_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """The others are written, and its older file is not left beside them."""
    write(report("old"), tmp_path)
    breaks(monkeypatch, broken)
    left_out: list[Exception] = []

    written = write(report("new"), tmp_path, left_out=left_out)

    others = [name for name in NAMES if name != broken]
    assert [str(exc) for exc in left_out] == [broken]
    assert written == [tmp_path / name for name in others]
    assert listed(tmp_path) == sorted(others)
    assert all(b"new" in (tmp_path / name).read_bytes() for name in others)


def breaks(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Let one rendering fail."""

    def fails(_report: Report) -> str:
        raise ValueError(broken)

    monkeypatch.setattr(writing, "RENDERINGS", {**writing.RENDERINGS, broken: fails})


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
