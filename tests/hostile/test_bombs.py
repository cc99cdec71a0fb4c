"""What a server sends without end: refused in time, and without the memory of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.hostile.bombs import BOMBS

pytestmark = pytest.mark.process

MOST_MB = 64.0
MOST_CPU_S = 10.0
"""Hundreds of times less than a reader takes whose work grows with the square."""

NOT_AN_ANSWER = {"MalformedResponse", "ResponseLost"}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """Return what became of each bomb in a process that took them all in, one after another."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.bombs"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    return {row["bomb"]: row for row in rows}


def test_every_bomb_is_refused_in_time_and_within_64_mb(
    outcomes: dict[str, dict[str, Any]],
) -> None:
    """A clear class of error each; the process never grows by more than 64 MB, from the first
    bomb to the last; and none of them keeps the program busy.
    """
    assert set(outcomes) == set(BOMBS)
    for name, row in outcomes.items():
        refused = {"AnsweredByPage"} if name.startswith("an error") else NOT_AN_ANSWER
        assert row["error"] in refused, row
        assert row["growth_mb"] < MOST_MB, row
        assert row["cpu_s"] < MOST_CPU_S, row
