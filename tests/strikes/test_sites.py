"""A few of the strikes of `make strikes-sites`: whoever is struck, the run tells the truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.strikes.sites.blows import BLOWS
from tests.strikes.sites.story import database_server, story

pytestmark = pytest.mark.process

KINDS = [kind for kind in BLOWS if kind != "short"]  # nothing follows that could be wrong


@pytest.mark.patient
def test_whatever_is_struck_nothing_is_doubled_or_left() -> None:
    """Killed, frozen, cut off, asked to leave, without database: side by side, for most is waiting.

    How soon another worker takes over is measured by `make strikes-sites`, not here.
    """
    with database_server() as server, ThreadPoolExecutor(len(KINDS)) as threads:
        ends = list(threads.map(partial(story, number=1, server=server), KINDS))

    assert [(end.again, end.verdict.wrong) for end in ends if end.verdict.wrong] == []
    assert any(end.verdict.takeover_s for end in ends)
