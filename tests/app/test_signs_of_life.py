"""Signs of life: one at once, then one every few seconds, as long as the event loop moves."""

from __future__ import annotations

import anyio

from orchestrator.app.signs_of_life import signs_of_life
from orchestrator.core.policy import SIGN_EVERY, STALLED_AFTER_SIGNS
from tests.virtual.clock import freeze, run_virtual


async def shown(seconds: float, *, frozen_s: float = 0.0, inline: bool = False) -> list[float]:
    """Return when signs were given by a process that worked for a while and stood still."""
    signs: list[float] = []
    with signs_of_life(lambda: signs.append(anyio.current_time()), inline=inline):
        freeze(frozen_s)
        await anyio.sleep(seconds)
    await anyio.sleep(10 * SIGN_EVERY)
    return signs


def test_a_loop_that_moves_gives_a_sign_in_time() -> None:
    """The first one at once, and none after the end."""
    assert run_virtual(shown, 3.5 * SIGN_EVERY) == [SIGN_EVERY * n for n in range(4)]


def test_one_that_stood_still_gives_the_next_as_soon_as_it_moves() -> None:
    """It is not said to stall for longer than it did."""
    still = SIGN_EVERY * (STALLED_AFTER_SIGNS + 2)

    async def stood_still() -> list[float]:
        return await shown(1.0, frozen_s=still)

    assert run_virtual(stood_still) == [0.0, still]


def test_in_virtual_time_nobody_looks() -> None:
    """A story has no timers that only tell that it goes on."""

    async def inline() -> list[float]:
        return await shown(60.0, inline=True)

    assert run_virtual(inline) == []
