"""A few of the strikes of `make strikes`: killed or stopped anywhere, a run tells the truth."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.strikes.strike import Struck, strike

pytestmark = pytest.mark.process

FEW = range(1, 7)


def struck(kind: str) -> Sequence[Struck]:
    """Make a few strikes side by side: looking for what is in doubt takes time, not work."""
    with ThreadPoolExecutor(len(FEW)) as threads:
        return list(threads.map(strike, [kind] * len(FEW), FEW))


@pytest.mark.patient
def test_killed_runs_are_resumed_to_their_end() -> None:
    """Their sessions live, so nothing is unknown, doubled or left."""
    ends = struck("kill")

    assert any(end.hit for end in ends)
    assert [(end.unknown, end.left) for end in ends] == [(0, 0)] * len(FEW)


def test_signalled_runs_always_report() -> None:
    """Once or twice, INT, TERM or HUP: there is a report, and it names what is left."""
    ends = struck("stop")

    assert any(end.hit for end in ends)
    assert all(end.began for end in ends)
