"""The tests that wait for minutes wait side by side."""

from __future__ import annotations

import pytest

from tests.order import side_by_side


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [20, 21, 22, 23])
def test_every_process_begins_with_a_test_that_waits(count: int, processes: int) -> None:
    """None has to wait for all of them while others have nothing left to play."""
    tests = list(range(count))
    waits = {3, 4, 5, 19}

    order = side_by_side(tests, waits.__contains__, processes)

    assert sorted(order) == tests
    size, begins = count // processes, 0
    for place in range(processes):
        mine = order[begins:][: (count - begins) // (processes - place)]
        begins += len(mine)
        assert len(mine) >= size
        share = sorted(waits)[place::processes]
        assert mine[: len(share)] == share
    assert begins == count


@pytest.mark.parametrize("count", range(6))
def test_none_is_left_out_where_there_are_few(count: int) -> None:
    """A run of one or two tests plays these."""
    tests = list(range(count))

    assert sorted(side_by_side(tests, lambda test: test < 2, 4)) == tests
