"""Checks and their outcomes survive the journal."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orchestrator.core.events import CheckMade, from_json, to_json
from orchestrator.core.model import MountKey
from orchestrator.core.proof import (
    BaselineCheck,
    Check,
    CheckOutcome,
    CheckSets,
    DirCheck,
    ExecCheck,
    Measured,
    PathCheck,
)
from tests.journal.sample import started

CHECKS: tuple[Check, ...] = (
    PathCheck(path="C:\\"),
    PathCheck(path="/etc/hosts", min_size=1, contains="x", max_download=5),
    DirCheck(dir="D:\\"),
    DirCheck(dir="D:\\", glob="*.mdf", absent=("*.locked",)),
    BaselineCheck(baseline="D:\\"),
    BaselineCheck(baseline="D:\\", count=0.5),
    ExecCheck(argv=("judge",)),
    ExecCheck(argv=("judge", "--all"), timeout=5.0),
)


@pytest.mark.parametrize("check", CHECKS, ids=repr)
def test_a_check_is_read_as_what_was_written(check: Check) -> None:
    """Though a journal leaves out what is as it is by default."""
    begun = replace(started(), check_sets=CheckSets({"set": (check,), "other": CHECKS}))

    assert from_json("RunStarted", to_json(begun)) == begun


def test_an_outcome_is_read_as_what_was_written() -> None:
    """With its measurement."""
    outcome = CheckOutcome(
        name="set",
        path="D:\\",
        expected="as last time",
        observed="1 file",
        passed=True,
        warning=True,
        measured=Measured(files=1, bytes=2),
    )
    made = CheckMade(at=1.0, key=MountKey("w/hq/vm"), outcome=outcome)

    assert from_json("CheckMade", to_json(made)) == made
