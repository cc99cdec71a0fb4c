"""Connections of the page that come at a bad moment."""

from __future__ import annotations

import asyncio
from typing import cast

from orchestrator.views.web.connection_limits import ConnectionLimits


class _Transport:
    aborted = False

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


def test_a_connection_that_comes_after_the_end_is_ended_at_once() -> None:
    """The system had accepted it before, and nobody would ever close it."""
    limits = ConnectionLimits(asyncio.Protocol, lambda: 0.0, 8)
    before, after = _Transport(), _Transport()
    limits().connection_made(cast("asyncio.BaseTransport", before))

    limits.close()
    limits().connection_made(cast("asyncio.BaseTransport", after))

    assert (before.aborted, after.aborted) == (True, True)
    assert limits.refused == 0
