"""A server that another worker takes over: no trouble of the server's, and nothing is recorded."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from orchestrator.core.errors import Fenced
from orchestrator.core.lease import Lease
from orchestrator.core.model import ServerName
from orchestrator.core.policy import KEEP_ALIVE_AFTER, WatchPolicy
from orchestrator.database.fence import LeaseFence
from orchestrator.engine.availability import Terms
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.server_connection import ServerConnection
from tests.em.logons import Desk, desk
from tests.engine.journals import MemoryJournal

pytestmark = pytest.mark.anyio

OUTAGE = 300.0


@dataclass(slots=True)
class Shard:
    """One server of a run, behind a lease."""

    at: Desk
    fence: LeaseFence
    server: ServerConnection
    journal: MemoryJournal

    @property
    def log(self) -> list[str]:
        """The methods of all requests."""
        return [request.method for request in self.at.requests]


@asynccontextmanager
async def shard(monkeypatch: pytest.MonkeyPatch, *, sure: bool) -> AsyncIterator[Shard]:
    """Make a connection to a simulated server, not served yet; the lease lasts, or has expired."""
    lease = Lease(3, sent_at=1e6 if sure else -1e6, clock=anyio.current_time)
    fence = LeaseFence(ServerName("hq"), lease)
    journal = MemoryJournal()
    async with desk(monkeypatch, fence=fence) as at:
        server = ServerConnection(
            at.client,
            Ledger(journal, (), anyio.current_time),
            Terms(outage=OUTAGE, watch=WatchPolicy(), rng=random.Random(1)),
        )
        yield Shard(at, fence, server, journal)


def unblamed(server: ServerConnection) -> bool:
    """Return whether nothing is said against the server, and nothing found wrong here."""
    return server.trouble_now is None and server.bug is None and server.gate.given_up is None


async def test_a_server_that_is_lost_is_left_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No logoff, no last look, no event: session and journal are the successor's."""
    async with shard(monkeypatch, sure=True) as hq:

        async def taken_over() -> None:
            await hq.server.decided()
            hq.fence.lose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(taken_over)
            with pytest.raises(Fenced):
                await hq.server.serve()

    assert KEEP_ALIVE_AFTER <= anyio.current_time() < KEEP_ALIVE_AFTER + OUTAGE  # its next request
    assert hq.log == ["POST"]
    assert hq.journal.kinds == ["SessionOpened"]
    assert unblamed(hq.server)


async def test_what_waits_for_an_answer_hears_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """As what it is: no trouble closes the gate, and no refusal is waited out."""
    async with shard(monkeypatch, sure=True) as hq, anyio.create_task_group() as tasks:
        tasks.start_soon(hq.server.serve)
        await hq.server.decided()
        connection = hq.server.open_connection()
        assert connection is not None
        hq.fence.lose()

        with pytest.raises(Fenced):
            await hq.server.persistently(connection, connection.session.keep_alive)

        assert hq.server.gate.is_open
        assert unblamed(hq.server)
        tasks.cancel_scope.cancel()

    assert hq.log == ["POST"]
    assert hq.journal.kinds == ["SessionOpened"]


async def test_a_logon_that_may_not_be_sent_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away for longer than a server may be costs no server."""
    async with shard(monkeypatch, sure=False) as hq, anyio.create_task_group() as tasks:
        tasks.start_soon(hq.server.serve)
        await anyio.sleep(10 * OUTAGE)
        assert (hq.log, hq.journal.kinds) == ([], [])
        assert unblamed(hq.server)

        hq.fence.renewed(1e6)
        await hq.server.decided()
        hq.server.close()

    assert hq.log == ["POST", "DELETE"]
    assert hq.journal.kinds == ["SessionOpened", "SessionEnded", "ServerMeasured"]


async def test_the_end_of_the_run_ends_the_wait_for_a_logon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing needs the server any more; nothing was sent."""
    async with shard(monkeypatch, sure=False) as hq, anyio.create_task_group() as tasks:
        tasks.start_soon(hq.server.serve)
        await anyio.sleep(5.0)
        hq.server.close()

    assert anyio.current_time() == 5.0
    assert hq.log == []


async def test_nobody_logs_on_where_another_worker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost while the logon waited: nothing is sent, and nobody is blamed."""
    async with shard(monkeypatch, sure=False) as hq:

        async def taken_over() -> None:
            await anyio.sleep(5.0)
            hq.fence.lose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(taken_over)
            with pytest.raises(Fenced):
                await hq.server.serve()

    assert (hq.log, hq.journal.kinds) == ([], [])
    assert unblamed(hq.server)
