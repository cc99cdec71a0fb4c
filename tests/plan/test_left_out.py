"""Whom an entry leaves out is named: the first twenty, then how many more."""

from __future__ import annotations

from pathlib import Path

from orchestrator.core.text import inert
from orchestrator.plan.file.left_out import LeftOut, left_out_lines
from tests.plan.builders import expanded, load, point


def test_exclude_and_backup_server_name_whom_they_left_out() -> None:
    """Each with the place of its entry; an entry that takes everything says nothing."""
    body = (
        "targets:\n"
        "  - {job: web, exclude: ['w1', 'w[23]'], backup_server: vbr-01}\n"
        "  - {job: sql, exclude: [nobody]}\n"
    )
    points = [point(f"w{n}", job="web") for n in range(1, 5)]
    others = [point("w1", job="web", behind="vbr-02"), point("s1", job="sql")]

    expansion = expanded(body, *points, *others)

    assert left_out_lines(expansion.left_out) == [
        "6:5: job 'web': 'backup_server' leaves out 1 machine: w1 (behind vbr-02)",
        "6:5: job 'web': 'exclude' leaves out 3 machines: w1, w2, w3",
    ]
    assert [each.label for each in expansion.requests] == ["w4", "s1"]


def test_an_entry_of_which_nothing_is_left_says_so_too() -> None:
    """The reason why there is no restore point may be the `exclude` itself."""
    expansion = expanded("targets: [{match: 'w*', exclude: ['*']}]\n", point("w1"))

    (line,) = left_out_lines(expansion.left_out)
    assert line.endswith("match 'w*': 'exclude' leaves out 1 machine: w1")
    assert expansion.unresolved


def test_twenty_are_named_and_the_others_counted() -> None:
    """In the order of their names."""
    points = [point(f"w{n:03}", job="web") for n in range(100)]

    expansion = expanded("targets: [{job: web, exclude: ['w0[1-9]*']}]\n", *points)

    (line,) = left_out_lines(expansion.left_out)
    assert "'exclude' leaves out 90 machines: w010, w011, " in line
    assert line.endswith(", w029 and 70 more")


def test_rows_of_a_file_that_are_excluded_are_named(tmp_path: Path) -> None:
    """They are known before any server is asked, so they come with the plan."""
    (tmp_path / "list.csv").write_text("vm\ndc01\nold1\nold2\n")

    loaded = load("targets:\n  - {from_file: list.csv, exclude: ['old*']}\n", base=tmp_path)

    (line,) = left_out_lines(loaded.left_out)
    assert line == "6:5: from_file 'list.csv': 'exclude' leaves out 2 machines: old1, old2"


def test_of_many_entries_the_first_are_shown() -> None:
    """And names of machines steer no terminal and no CI system."""
    each = LeftOut(
        place="1:1",
        subject="job '::error::'",
        by="exclude",
        count=3,
        machines=("\x1b[31m", "##[x]"),
    )

    lines = left_out_lines([each] * 50)

    assert len(lines) == 21
    assert lines[-1] == "30 other entries leave out 90 machines"
    assert "\x1b" not in lines[0]
    assert inert(lines[0]) == lines[0]
