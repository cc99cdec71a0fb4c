"""How long a server may say nothing: up to its headers, and between two pieces of a body."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from orchestrator.core.errors import ResponseLost
from orchestrator.em.deadlines import GRACE_S
from orchestrator.em.limits import CONNECTIONS, Patience
from orchestrator.em.transport import Transport
from orchestrator.em.wire import XmlCodec
from orchestrator.simulator.faults import Fault
from tests.em.logons import desk

pytestmark = pytest.mark.anyio

CODEC = XmlCodec()
PATIENCE = Patience(total=120.0, silence=60.0)
DRIP = Fault(kind="drip", path="/tasks$", seconds=90.0)


async def outcomes(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, *, asked: int = 1, patience: Patience = PATIENCE
) -> Sequence[tuple[float, bool]]:
    """Read the tasks so many times at once; return when each read ended, and whether in silence."""
    found: list[tuple[float, bool]] = []

    async def read(transport: Transport) -> None:
        try:
            await transport.send("GET", "/api/tasks", CODEC.tasks, timeout=patience)
        except ResponseLost:
            found.append((anyio.current_time() - began, True))
        else:
            found.append((anyio.current_time() - began, False))

    async with desk(monkeypatch, faults=[fault]) as at, at.client.logon() as session:
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(asked):
                tasks.start_soon(read, session._requests.transport)
    return found


async def test_a_server_that_says_nothing_is_left_after_its_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long before the time of the whole request is over."""
    hole = Fault(kind="black_hole", path="/tasks$")

    assert await outcomes(monkeypatch, hole) == [(60.0 + GRACE_S, True)]


async def test_waiting_for_a_connection_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait for a slow server's others have been sent nothing, and heard nothing."""
    late = Fault(kind="late", path="/tasks$", seconds=50.0)

    found = await outcomes(monkeypatch, late, asked=3 * CONNECTIONS, patience=Patience(200.0, 60.0))

    assert found == [(took, False) for took in (50.0, 100.0, 150.0) for _ in range(CONNECTIONS)]


async def test_waiting_for_a_connection_counts_for_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many are before it."""
    late = Fault(kind="late", path="/tasks$", seconds=50.0)

    found = await outcomes(monkeypatch, late, asked=2 * CONNECTIONS + 1)

    assert found[-1] == (120.0 + GRACE_S, True)


async def test_an_answer_that_goes_on_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its body comes in pieces, each of them in time."""
    ((took, silent),) = await outcomes(monkeypatch, DRIP)

    assert not silent
    assert took > PATIENCE.silence


async def test_an_answer_that_goes_on_too_long_ends_by_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing that comes in time makes a request last longer than it may."""
    found = await outcomes(monkeypatch, DRIP, patience=Patience(70.0, 60.0))

    assert found == [(70.0 + GRACE_S, True)]
