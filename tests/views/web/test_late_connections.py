"""Connections that reach the page's server while it ends."""

from __future__ import annotations

import gc
import socket

import anyio
import anyio.lowlevel
import pytest

from tests.views.web.visits import visited


@pytest.mark.parametrize("rounds", range(6))
def test_a_connection_at_the_end_leaves_nothing_open(rounds: int) -> None:
    """However far the system and the loop have come with it: a leak would be warned of."""

    async def end() -> socket.socket:
        async with visited(grace_s=0.0) as site:
            late = socket.create_connection(("127.0.0.1", site.address.port))
            for _ in range(rounds):
                await anyio.lowlevel.checkpoint()
        return late

    with anyio.run(end):
        gc.collect()
