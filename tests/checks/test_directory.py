"""What one listing says."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.checks.directory import judge_baseline, judge_directory
from orchestrator.checks.outcomes import Unreadable
from orchestrator.core.model import OsKind
from orchestrator.core.names import PathRules
from orchestrator.core.proof import BaselineCheck, DirCheck, Measured
from tests.checks.entries import LINUX, WINDOWS, directory, file

LISTING = (
    file("a.mdf", size=100, age=7200.0),
    file("B.MDF", size=200, age=60.0),
    file("notes.txt", size=300, age=None),
    directory("logs"),
)


@pytest.mark.parametrize(
    ("asked", "expected", "observed", "passed"),
    [
        ({}, "readable", "4 entries", True),
        ({"glob": "*.mdf"}, "min_count 1 of *.mdf", "2 of 4 entries", True),
        ({"glob": "*.bak"}, "min_count 1 of *.bak", "0 of 4 entries", False),
        ({"min_count": 4}, "min_count 4", "4 entries", True),
        ({"min_count": 5}, "min_count 5", "4 entries", False),
        ({"glob": "*.mdf", "max_count": 1}, "max_count 1 of *.mdf", "2 of 4 entries", False),
        (
            {"glob": "*.mdf", "modified_within": 60.0},
            "newest of *.mdf modified_within 1m",
            "B.MDF: 2026-11-23 01:59:00 UTC, 1 min before the restore point",
            True,
        ),
        (
            {"glob": "a*", "modified_within": 3600.0},
            "newest of a* modified_within 1h",
            "a.mdf: 2026-11-23 00:00:00 UTC, 2 h before the restore point",
            False,
        ),
        (
            {"glob": "no*", "modified_within": 60.0},
            "newest of no* modified_within 1m",
            "the server names no usable date",
            False,
        ),
        (
            {"glob": "x*", "modified_within": 60.0},
            "newest of x* modified_within 1m",
            "nothing matches",
            False,
        ),
        ({"absent": ("*.locked",)}, "absent *.locked", "none of 4 entries", True),
        (
            {"absent": ("*.locked", "NOTES*")},
            "absent *.locked, NOTES*",
            "1 of 4 entries: notes.txt",
            False,
        ),
        ({"absent": ("LOGS",)}, "absent LOGS", "1 of 4 entries: logs", False),
    ],
)
def test_each_assertion_has_one_outcome(
    asked: dict[str, object], expected: str, observed: str, passed: bool
) -> None:
    """On Windows, names match patterns in any case."""
    check = DirCheck(dir="C:/", **asked)  # type: ignore[arg-type]

    outcomes = judge_directory(check, LISTING, WINDOWS)

    assert [(each.expected, each.observed, each.passed) for each in outcomes] == [
        (expected, observed, passed)
    ]


def test_linux_names_match_exactly() -> None:
    """Both what is counted and what must be absent."""
    counted = judge_directory(DirCheck(dir="/", glob="*.mdf", min_count=2), LISTING, LINUX)
    absent = judge_directory(DirCheck(dir="/", absent=("NOTES*",)), LISTING, LINUX)

    assert counted[0].observed == "1 of 4 entries"
    assert absent[0].passed


def test_every_assertion_about_an_unreadable_directory_fails() -> None:
    """Above all that nothing is absent from a directory that nobody has seen."""
    check = DirCheck(dir="x", min_count=0, modified_within=1.0, absent=("*",))

    outcomes = judge_directory(check, Unreadable("the server answered 500"), WINDOWS)

    assert [each.expected for each in outcomes] == [
        "min_count 0",
        "newest modified_within 1s",
        "absent *",
    ]
    assert not any(each.passed for each in outcomes)


def test_a_few_offenders_are_named_and_all_are_counted() -> None:
    """Ten thousand encrypted files make one line."""
    listing = [file(f"{number:05}\x07.locked") for number in range(10_000)]

    (outcome,) = judge_directory(DirCheck(dir="x", absent=("*.locked",)), listing, WINDOWS)

    assert outcome.observed.startswith("10000 of 10000 entries: 00000\\x07.locked, 00001")
    assert outcome.observed.endswith(", …")
    assert len(outcome.observed) < 200


def test_a_listing_of_long_hostile_names_is_matched_at_once() -> None:
    """A pattern with many stars does not search for years."""
    listing = [file("a" * 5000 + "b")] * 100

    (outcome,) = judge_directory(DirCheck(dir="x", absent=("*a*a*a*a*a*a*c",)), listing, LINUX)

    assert outcome.passed


@pytest.mark.parametrize(
    ("one", "other", "windows"),
    [
        ("README", "readme", True),
        ("straße", "STRASSE", False),
        ("straße", "STRAßE", True),
        ("ΣΊΣΥΦΟΣ", "σίσυφος", True),
        ("a", "b", False),
    ],
)
def test_windows_compares_names_character_by_character(one: str, other: str, windows: bool) -> None:
    """As NTFS does; Linux knows only equal names."""
    assert PathRules(OsKind.WINDOWS).same(one, other) is windows
    assert not PathRules(OsKind.LINUX).same(one, other)


# --- baselines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "size", "passed"),
    [
        (100, 1000, [True, True]),
        (90, 1000, [True, True]),
        (89, 1000, [False, True]),
        (111, 1000, [False, True]),
        (100, 1101, [True, False]),
        (100, 899, [True, False]),
        (0, 0, [False, False]),
    ],
)
def test_a_baseline_is_met_within_its_tolerances(files: int, size: int, passed: list[bool]) -> None:
    """Both bounds are inclusive, in both directions; directories count nothing."""
    before = Measured(files=100, bytes=1000)
    rest = size - max(0, files - 1)
    listing = [file("x", size=rest if number == 0 else 1) for number in range(files)]
    check = BaselineCheck(baseline="D:/", count=0.1, size=0.1)

    outcomes = judge_baseline(check, [*listing, directory()], before, WINDOWS)

    assert [each.passed for each in outcomes] == passed
    assert all(each.measured == Measured(files=files, bytes=size) for each in outcomes)


def test_nothing_to_compare_with_passes_with_a_warning() -> None:
    """What is measured now is what the next run compares with."""
    (outcome,) = judge_baseline(BaselineCheck(baseline="D:/"), LISTING, None, WINDOWS)

    assert (outcome.passed, outcome.warning) == (True, True)
    assert outcome.observed == "no earlier run to compare with: 3 files, 600 bytes"
    assert outcome.measured == Measured(files=3, bytes=600)


def test_what_was_empty_must_stay_empty() -> None:
    """A tolerance of nothing is nothing."""
    before = Measured(files=0, bytes=0)

    outcomes = judge_baseline(BaselineCheck(baseline="D:/"), [file(size=0)], before, WINDOWS)

    assert [each.passed for each in outcomes] == [False, True]


def test_files_without_a_size_cannot_be_compared() -> None:
    """Nor is what was seen of them a baseline for later."""
    (outcome,) = judge_baseline(BaselineCheck(baseline="x"), [file(size=None)], None, WINDOWS)

    assert not outcome.passed
    assert outcome.measured is None


@pytest.mark.parametrize(
    ("asked", "passed", "observed"),
    [
        ({}, True, "3 entries"),
        ({"min_count": 3}, True, "3 entries"),
        ({"max_count": 3}, True, "3 entries"),
        ({"max_count": 2}, False, "3 entries"),
        ({"glob": "*.mdf", "min_count": 1}, True, "1 of 3 entries"),
        ({"glob": "*.mdf", "max_count": 3}, True, "1 of 3 entries"),
        ({"glob": "*.mdf", "max_count": 1}, False, "the name of 2 entries cannot be read"),
        ({"absent": ("*.locked",)}, False, "the name of 2 entries cannot be read"),
        ({"absent": ("*.mdf",)}, False, "1 of 3 entries: a.mdf"),
    ],
)
def test_what_rests_on_a_name_that_cannot_be_read_has_failed(
    asked: dict[str, Any], passed: bool, observed: str
) -> None:
    """An entry without a name is one all the same, and might be any."""
    listing = (file("a.mdf"), file(""), directory(""))

    (outcome,) = judge_directory(DirCheck(dir="C:/", **asked), listing, WINDOWS)

    assert (outcome.passed, outcome.observed) == (passed, observed)
