"""A call that is cancelled at any instant leaves no connection open: a database has few."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Awaitable, Callable

import anyio
import pytest

from orchestrator.database.address import Address, read_address
from orchestrator.database.examination import examine
from orchestrator.database.hearing import notifications_are_heard
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer

pytestmark = pytest.mark.anyio

INSTANTS = 60


async def listens(address: Address) -> None:
    """Wait for what is written."""
    async for _run in PostgreSQL(address).changes():
        pass


async def hears(address: Address) -> None:
    """Notify itself."""
    await notifications_are_heard(address)


async def asks(address: Address) -> None:
    """Ask one thing after another."""
    await examine(address)


@pytest.mark.parametrize("call", [listens, hears, asks])
async def test_a_cancelled_call_closes_its_connections(
    server: PrivateServer, name: str, call: Callable[[Address], Awaitable[None]]
) -> None:
    """At whatever instant: while it connects, while it asks, and while it hangs up."""
    address = read_address(server.url(name))
    began = time.monotonic()
    with anyio.move_on_after(1):
        await call(address)
    lasts = min(time.monotonic() - began, 0.1)

    gc.collect()
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", ResourceWarning)
        for instant in range(INSTANTS):
            with anyio.move_on_after(lasts * instant / INSTANTS):
                await call(address)
        gc.collect()

    assert [str(each.message) for each in left] == []
