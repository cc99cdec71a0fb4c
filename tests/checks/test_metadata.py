"""What one entry says."""

from __future__ import annotations

import pytest

from orchestrator.checks.metadata import judge_path
from orchestrator.checks.outcomes import Unreadable
from orchestrator.core import text
from orchestrator.core.model import FileSystemEntry
from orchestrator.core.proof import PathCheck
from tests.checks.entries import LINUX, WINDOWS, directory, file

GIB = 2**30


@pytest.mark.parametrize(
    ("asked", "found", "expected", "observed", "passed"),
    [
        ({}, file(size=12), "exists", "a file of 12 bytes", True),
        ({}, file(size=None), "exists", "a file", True),
        ({}, directory(), "exists", "a directory", True),
        ({"min_size": 5 * GIB}, file(size=5 * GIB), "min_size 5GiB", "5.0 GiB", True),
        (
            {"min_size": 5 * GIB},
            file(size=5 * GIB - 1),
            "min_size 5GiB",
            "5.0 GiB (5368709119 bytes)",
            False,
        ),
        ({"max_size": 1500}, file(size=1500), "max_size 1500B", "1.5 KiB", True),
        ({"max_size": 0}, file(size=1), "max_size 0B", "1 byte", False),
        ({"min_size": 1}, file(size=None), "min_size 1B", "the server names no size", False),
        ({"min_size": 0}, directory(), "min_size 0B", "a directory, not a file", False),
        (
            {"modified_within": 60.0},
            file(age=60.0),
            "modified_within 1m",
            "2026-11-23 01:59:00 UTC, 1 min before the restore point",
            True,
        ),
        (
            {"modified_within": 60.0},
            file(age=61.0),
            "modified_within 1m",
            "2026-11-23 01:58:59 UTC, 1 min 1 s before the restore point",
            False,
        ),
        (
            {"modified_within": 60.0},
            file(age=None),
            "modified_within 1m",
            "the server names no usable date",
            False,
        ),
        ({"owner": "lab\\SQL"}, file(owner="LAB\\sql"), "owner lab\\SQL", "LAB\\sql", True),
        ({"owner": "x"}, file(), "owner x", "the server names no owner", False),
        ({"min_size": 1}, Unreadable("no such"), "min_size 1B", "no such", False),
    ],
)
def test_each_assertion_has_one_outcome(
    asked: dict[str, object],
    found: FileSystemEntry | Unreadable,
    expected: str,
    observed: str,
    passed: bool,
) -> None:
    """It says what was expected, what was observed, and whether that is good."""
    outcomes = judge_path(PathCheck(path="C:/x", **asked), found, WINDOWS)  # type: ignore[arg-type]

    assert [(each.expected, each.observed, each.passed) for each in outcomes] == [
        (expected, observed, passed)
    ]


def test_a_file_newer_than_its_point_passes_and_says_so() -> None:
    """One of the clocks was wrong; the file is not stale."""
    (outcome,) = judge_path(PathCheck(path="x", modified_within=1.0), file(age=-7260.0), WINDOWS)

    assert outcome.passed
    assert outcome.warning
    assert (
        outcome.observed
        == "2026-11-23 04:01:00 UTC, 2 h 1 min after the restore point (clock skew?)"
    )


def test_owners_are_compared_by_the_rules_of_the_system() -> None:
    """Windows accounts have no case, Linux accounts have."""
    check, found = PathCheck(path="x", owner="Root"), file(owner="root")

    assert judge_path(check, found, WINDOWS)[0].passed
    assert not judge_path(check, found, LINUX)[0].passed


def test_every_assertion_about_a_missing_file_fails() -> None:
    """None is left out, so none looks as if it had been good."""
    check = PathCheck(path="x", min_size=1, max_size=2, modified_within=1.0, owner="me")

    outcomes = judge_path(check, Unreadable("there is no such file"), WINDOWS)

    assert [each.passed for each in outcomes] == [False] * 4


def test_hostile_text_is_made_harmless() -> None:
    """An owner cannot steer a terminal, nor fill a report."""
    found = file(owner="\x1b[2J" + "x" * 10_000)

    (outcome,) = judge_path(PathCheck(path="x\u202e", owner="me"), found, WINDOWS)

    assert "\x1b" not in outcome.observed
    assert len(outcome.observed) <= 300
    assert outcome.path == "x\\u202e"


@pytest.mark.parametrize(
    ("count", "shown", "written"),
    [
        (0, "0 bytes", "0B"),
        (1, "1 byte", "1B"),
        (1023, "1023 bytes", "1023B"),
        (1024, "1.0 KiB", "1KiB"),
        (1024**2 - 1, "1.0 MiB", "1048575B"),
        (5_583_457_485, "5.2 GiB", "5583457485B"),
        (3 * 1024**6, "3.0 EiB", "3EiB"),
        (5000 * 1024**6, "5000.0 EiB", "5000EiB"),
    ],
)
def test_sizes_are_shown_readably_and_written_exactly(count: int, shown: str, written: str) -> None:
    """What a plan says is repeated without loss."""
    assert text.size(count) == shown
    assert text.plan_size(count) == written


@pytest.mark.parametrize(
    ("seconds", "shown", "written"),
    [
        (0.5, "0.5 s", "0.5s"),
        (59.0, "59 s", "59s"),
        (5400.0, "1 h 30 min", "90m"),
        (21_600.0, "6 h", "6h"),
        (90_000.0, "1 d 1 h", "25h"),
        (172_800.0, "2 d", "2d"),
    ],
)
def test_durations_are_shown_readably_and_written_exactly(
    seconds: float, shown: str, written: str
) -> None:
    """What a plan says is repeated without loss."""
    assert text.duration(seconds) == shown
    assert text.plan_duration(seconds) == written
