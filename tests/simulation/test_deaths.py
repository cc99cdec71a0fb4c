"""A run dies at random among faults: what `resume` or `unmount` says after it is true."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.deaths import died
from tests.simulation.troubles import ALL

STORIES = 200
IN_ONE_TEST = 20


@pytest.mark.parametrize("first", range(1, STORIES + 1, IN_ONE_TEST))
def test_nobody_lies_after_a_death(first: int) -> None:
    """Whatever died where, nothing is open that nobody names, and no limit was exceeded."""
    wrong: list[str] = []
    hits: Counter[str] = Counter()
    for number in range(first, first + IN_ONE_TEST):
        try:
            hits += died(number).hits
        except AssertionError as exc:
            wrong.append(str(exc))

    assert not wrong, "\n".join(wrong)
    assert hits["run"] > 0
    assert hits["ended_resume"] + hits["ended_unmount"] > 0


@pytest.mark.parametrize("number", [53, 93, 112, 213, 694, 837])
def test_stories_that_once_ended_with_a_lie_do_so_no_more(number: int) -> None:
    """A task's link into another family, an audit that could not read, an unmount that died."""
    died(number, ALL)
