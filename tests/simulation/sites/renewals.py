"""What renews the leases of one simulated worker beside its loop, as a thread does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from orchestrator.core.errors import DatabaseAway
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.sites import RENEW_EVERY_S, Held, Standing, WorkerId
from tests.simulation.sites.processes import Process

LOOP_ANSWERS_S = 3.0
"""Seconds after which a loop that has not answered hangs: its leases are renewed no more."""

Tell = Callable[[Sequence[Held], Sequence[Standing], float], None]


class BesideLoop:
    """Renews in a thread of its own, over a connection of its own; implements `Renewals`."""

    def __init__(self, database: SitesDatabase, worker: WorkerId, process: Process) -> None:
        """`database` is its own connection."""
        self._database, self._worker, self._process = database, worker, process
        self._held: Callable[[], Sequence[Held]] = list
        self._main = process.context()

    def hold(self, held: Callable[[], Sequence[Held]]) -> None:
        """Renew from now on what `held` returns, asked for in the loop."""
        self._held = held

    def now(self) -> None:
        """Renew when it is time: nobody hears of changes here."""

    async def serve(self, tell: Tell) -> None:
        """Renew until cancelled."""
        loop, process = asyncio.get_running_loop(), self._process
        thread = loop.create_task(self._renew(tell), context=process.context(process.beside))
        try:
            await asyncio.shield(thread)
        finally:
            thread.cancel()

    async def _renew(self, tell: Tell) -> None:
        loop, clock = asyncio.get_running_loop(), self._process.boot_clock
        while True:
            began = clock()
            held = await self._asked()
            if held is not None:
                sent_at = clock()
                with suppress(DatabaseAway):
                    standings = await self._database.renew(self._worker, held)
                    loop.call_soon(tell, held, standings, sent_at, context=self._main)
            await asyncio.sleep(max(0.1, RENEW_EVERY_S - (clock() - began)))

    async def _asked(self) -> Sequence[Held] | None:
        """Return what the loop holds; None: it hangs."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[Held] | None] = loop.create_future()

        def look() -> None:
            if not answer.done():
                answer.set_result(self._held())

        def give_up() -> None:
            if not answer.done():
                answer.set_result(None)

        loop.call_soon(look, context=self._main)
        await asyncio.sleep(0)
        if answer.done():
            return answer.result()
        patience = loop.call_later(LOOP_ANSWERS_S, give_up)
        try:
            return await answer
        finally:
            patience.cancel()
