"""A lease that is waited for."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from orchestrator.core.errors import Fenced
from orchestrator.core.lease import Lease
from orchestrator.core.model import ServerName
from orchestrator.core.ports.fence import NO_FENCE, Fence
from orchestrator.database.fence import LeaseFence

pytestmark = pytest.mark.anyio


def fence_of(*, sent_at: float) -> LeaseFence:
    """Return the fence of a lease that was taken by a statement sent then, on virtual time."""
    return LeaseFence(ServerName("hq"), Lease(3, sent_at=sent_at, clock=anyio.current_time))


async def test_who_is_sure_waits_for_nothing() -> None:
    """As in a process without a fence."""
    for fence in (fence_of(sent_at=0.0), NO_FENCE):
        some: Fence = fence
        assert some.sure
        assert not some.lost
        await some.until_sure()
    assert anyio.current_time() == 0.0


async def test_everybody_who_waits_goes_on_with_a_renewal_that_makes_it_sure() -> None:
    """And with no other one."""
    fence, passed = fence_of(sent_at=-60.0), list[float]()

    async def wait() -> None:
        await fence.until_sure()
        passed.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.sleep(10.0)
        fence.renewed(5.0)  # five seconds on its way
        await anyio.sleep(10.0)
        fence.renewed(19.5)

    assert passed == [20.0] * 3
    assert fence.epoch == 3


async def test_everybody_who_waits_is_told_of_the_loss() -> None:
    """At once, with the server's name, and each time again."""
    fence = fence_of(sent_at=-60.0)

    async def wait() -> None:
        with pytest.raises(Fenced, match="taken over hq"):
            await fence.until_sure()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(1.0)
        fence.lose()
    await wait()

    assert fence.lost
    assert anyio.current_time() == 1.0


async def test_the_loss_is_told_once_to_those_who_still_want_to_know() -> None:
    """Also to one who asks afterwards."""
    fence, told = fence_of(sent_at=0.0), list[str]()
    fence.when_lost(partial(told.append, "first"))
    forget = fence.when_lost(partial(told.append, "second"))
    forget()
    forget()

    assert told == []
    fence.lose()
    fence.lose()
    fence.when_lost(partial(told.append, "late"))

    assert told == ["first", "late"]


async def test_without_a_fence_nobody_is_ever_told() -> None:
    """And taking it back is nothing."""
    told: list[str] = []

    NO_FENCE.when_lost(partial(told.append, "lost"))()

    assert told == []
