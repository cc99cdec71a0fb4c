"""The virtual clock moves on, as a real one does."""

from __future__ import annotations

import anyio
import pytest

from tests.simulation.sites.processes import ProcessLoop
from tests.virtual.clock import VirtualTimeLoop


@pytest.mark.parametrize("loop", [VirtualTimeLoop, ProcessLoop])
def test_whoever_waits_for_what_rounding_has_left_finds_it_gone(loop: type) -> None:
    """So small a time added to the clock's would be lost, and waited for without end."""

    async def story() -> int:
        await anyio.sleep(32.0142419724314)
        left, waits = 3.5e-15, 0
        while left > 0:
            began = anyio.current_time()
            await anyio.sleep(left)
            left -= anyio.current_time() - began
            waits += 1
            assert waits < 10
        return waits

    assert anyio.run(story, backend="asyncio", backend_options={"loop_factory": loop}) == 1
