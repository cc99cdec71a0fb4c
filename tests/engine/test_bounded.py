"""A block that a timer ends: what passes through it, and for how long it may go on."""

from __future__ import annotations

import gc
import weakref

import anyio
import pytest

from orchestrator.engine.bounded import EndedAfter

pytestmark = pytest.mark.anyio


class Failed(Exception):
    """What the work in the block raises."""


async def test_a_block_ends_when_no_more_time_is_granted() -> None:
    """Each grant follows the one before it, and none after the last is asked for."""
    grants = [4.0, 2.5, 0.0]
    began = anyio.current_time()

    with EndedAfter(10.0, lambda late: grants.pop(0)):
        await anyio.sleep_forever()

    assert anyio.current_time() - began == 16.5
    assert not grants


async def test_no_time_that_only_rounding_leaves_is_granted() -> None:
    """It would be over at once, again and again."""
    grants = [4.0, 1e-16, 0.0]

    with EndedAfter(1e6, lambda late: grants.pop(0)):
        await anyio.sleep_forever()

    assert grants == [0.0]


async def test_a_block_that_is_done_leaves_no_timer() -> None:
    """Nothing is asked or cancelled afterwards."""
    asked: list[float] = []

    def more(late: float) -> float:
        asked.append(late)
        return 0.0

    with EndedAfter(10.0, more):
        await anyio.sleep(9.0)
    await anyio.sleep(20.0)

    assert not asked


async def test_an_error_at_the_end_of_the_time_passes_through() -> None:
    """Work that is cancelled may still have something to say."""

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            raise Failed from None

    with pytest.raises(Failed), EndedAfter(10.0, lambda late: 0.0):
        await work()


async def test_an_outer_cancellation_is_no_end_of_the_time() -> None:
    """What follows the block is not reached then."""
    reached = False

    with anyio.CancelScope() as outer:

        def more(late: float) -> float:
            outer.cancel()
            return 0.0

        with EndedAfter(10.0, more):
            await anyio.sleep_forever()
        reached = True

    assert outer.cancelled_caught
    assert not reached


async def test_a_block_that_is_left_keeps_nothing_alive() -> None:
    """There is one for every mount: no search for garbage is needed to be rid of it."""

    def more(late: float) -> float:
        return 0.0

    kept = weakref.ref(more)
    gc.disable()
    try:
        with EndedAfter(10.0, more):
            await anyio.sleep(1.0)
        del more
        assert kept() is None
    finally:
        gc.enable()
