"""A death at every step: resumed, the run tells the truth, mounts nothing twice, leaves nothing."""

from __future__ import annotations

from functools import cache

import pytest

from tests.simulation.crashes import SHAPES, died_at, steps_of

PARTS = 8
"""Tests per shape, so that several processes can share the work."""

FOUND = (("slow", 98), ("waves", 1), ("purged", 55), ("failing", 15))
"""Stories that once showed a bug: a session found again that nobody needed any more was held
open for ever, a run that died before its first record, a clock that rounding stopped, and a
failed task whose POST a crash had swallowed."""

_steps_of = cache(steps_of)


@pytest.mark.parametrize(("shape", "step"), FOUND)
def test_what_was_found_once_stays_mended(shape: str, step: int) -> None:
    """The invariants hold in stories that broke them before."""
    died_at(shape, step)


def test_the_sweep_is_wide() -> None:
    """There are at least a thousand steps to die at."""
    assert sum(_steps_of(shape) for shape in SHAPES) >= 1000


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("shape", SHAPES)
def test_no_death_makes_the_run_lie(shape: str, part: int) -> None:
    """Wherever it dies, a resume in time leaves at most 2 % unknown, and a late one says so."""
    wrong: list[str] = []
    targets = unknown = 0
    for step in range(1 + part, _steps_of(shape) + 1, PARTS):
        try:
            story = died_at(shape, step)
        except AssertionError as exc:
            wrong.append(str(exc))
            continue
        if story.session_lived:
            targets += story.targets
            unknown += story.unknown
            if shape == "purged":  # only a server that forgets tasks leaves that open
                unknown -= story.unaccounted

    assert not wrong, "\n".join(wrong)
    assert unknown <= 0.02 * targets
