"""In which order the tests are played: those that wait for minutes begin first, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def side_by_side(tests: Sequence[T], first: Callable[[T], bool], processes: int) -> list[T]:
    """Return the tests so that each process begins with its part of those that come `first`.

    pytest-xdist gives every process as many tests that follow one another as every other (the
    first ones one less, where that leaves a rest), and takes from its end what others play.
    """
    early = [test for test in tests if first(test)]
    late = iter([test for test in tests if not first(test)])
    found: list[T] = []
    left = len(tests)
    for place in range(processes):
        size = left // (processes - place)
        left -= size
        mine = early[place::processes]
        found += [*mine, *islice(late, max(0, size - len(mine)))]
    return [*found, *late]
