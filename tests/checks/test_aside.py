"""A long search holds nothing up: made in a thread, the loop goes on meanwhile. Real time."""

from __future__ import annotations

import asyncio
import random
import time

from orchestrator.app.wiring import in_a_thread
from orchestrator.core.expressions import compiled

SLOW = "(a|b)*a(a|b){300}z"


def test_the_loop_goes_on_while_a_pattern_is_searched_for() -> None:
    """The longest pause of a task that ticks is a fraction of what the search takes."""
    rng = random.Random(1)
    text = "".join(rng.choice("ab") for _ in range(400_000))
    pauses: list[float] = []

    async def ticking() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            pauses.append(time.monotonic() - began)

    async def search() -> float:
        ticks = asyncio.create_task(ticking())
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await in_a_thread(lambda: compiled(SLOW).line_in(text)) is None
        ticks.cancel()
        return time.monotonic() - began

    took = asyncio.run(search())

    assert max(pauses) < max(0.25, took / 3)
    assert len(pauses) > 10
