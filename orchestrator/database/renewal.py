"""Renewing the leases of a worker, in a thread of its own with a connection of its own.

A busy loop is late, and then its leases would expire although the worker lives. A loop that hangs
must lose them: nothing is renewed once it has not answered for three seconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import anyio
import anyio.to_thread
from msgspec import Struct

from orchestrator.core.sites import RENEW_EVERY_S, Held, Lease, Standing, WorkerId
from orchestrator.database import rows
from orchestrator.database.address import Address
from orchestrator.database.link import Link

HUNG_AFTER_S = 3.0
"""Seconds without an answer of the loop after which it counts as hung."""

HUNG_TICK_S = 0.05
"""Seconds between two looks whether a hung loop has answered: a short freeze must cost no lease."""

LEAST_S = 0.2
"""Seconds between two renewals at the least, however much changes."""

ASK_S = 0.25
"""Seconds for which a busy loop is waited for, to say what it holds; then it is what it was."""

ANSWER_S = 4.0
"""Seconds for which the answer to a renewal is waited for; later it would be of no use."""


class Renewed(Struct, frozen=True, kw_only=True):
    """What one renewal found.

    `sent_at` is when it was sent, by `boot_clock`: whatever the answer's way, the leases live for
    at least their life from then on. `standings` are those of the leases that are still ours.
    `lost` are those that another worker has by now: nothing more may be sent for them.
    """

    sent_at: float
    standings: tuple[Standing, ...]
    lost: tuple[Lease, ...]


def boot_clock() -> float:
    """Return seconds by the clock that goes on while this machine sleeps.

    Source: clock_gettime(2). On systems without CLOCK_BOOTTIME the monotonic one does so.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Renewal:
    """Renews what is held every 1.5 s, until it is stopped. The loop is asked before each time.

    It reports on the loop that has started it. While the database is away nothing is reported:
    who knows when the last renewal was sent knows how long that is bearable.
    """

    def __init__(
        self,
        address: Address,
        worker: WorkerId,
        *,
        renewed: Callable[[Renewed], None],
        failed: Callable[[Exception], None],
        every_s: float = RENEW_EVERY_S,
        hung_after_s: float = HUNG_AFTER_S,
    ) -> None:
        """`renewed` and `failed` are called on the loop, with each answer or what was raised."""
        self._address, self._worker = address, worker
        self._renewed, self._failed = renewed, failed
        self._every_s, self._hung_after_s = every_s, hung_after_s
        self._ask: Callable[[], Sequence[Held]] = tuple
        self._held: tuple[Held, ...] = ()
        self._answered_at = boot_clock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = threading.Event()
        self._wake: Callable[[], object] = lambda: None
        self._hurry: Callable[[], object] = lambda: None
        self._heard: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)

    def hold(self, held: Callable[[], Sequence[Held]]) -> None:
        """Renew what `held` returns from the next time on, and nothing else; called on the loop."""
        self._ask = held

    def now(self) -> None:
        """Renew soon, and not only when it is time: what a renewal tells may have changed."""
        self._hurry()

    def start(self) -> None:
        """Begin, on the running loop. Only once."""
        self._loop = asyncio.get_running_loop()
        self._answered_at = boot_clock()
        self._thread.start()

    async def stop(self) -> None:
        """End; no report comes after this returns. What is held expires, or is given back."""
        self._stopped.set()
        self._wake()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join)

    def _run(self) -> None:
        anyio.run(self._until_stopped)

    async def _until_stopped(self) -> None:
        link = Link(self._address, answer_s=ANSWER_S, longest_s=ANSWER_S)
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(woken.set)
        self._soon = asyncio.Event()
        self._hurry = lambda: loop.call_soon_threadsafe(self._soon.set)
        self._told = asyncio.Event()
        self._heard = lambda: loop.call_soon_threadsafe(self._told.set)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._renew_on_and_on, link)
                if not self._stopped.is_set():
                    await woken.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._wake = self._hurry = self._heard = lambda: None
            await link.aclose()

    async def _renew_on_and_on(self, link: Link) -> None:
        while True:
            began = anyio.current_time()
            await self._ask_the_loop()
            while boot_clock() - self._answered_at >= self._hung_after_s:  # noqa: ASYNC110 - by a thread
                await anyio.sleep(HUNG_TICK_S)
            await self._renew(link)
            await anyio.sleep_until(began + min(LEAST_S, self._every_s))
            with anyio.move_on_after(began + self._every_s - anyio.current_time()):
                await self._soon.wait()
            self._soon.clear()

    async def _ask_the_loop(self) -> None:
        """Have the loop say that it lives and what it holds; one that is busy does so later."""
        self._told.clear()
        self._tell(self._answer)
        with anyio.move_on_after(min(ASK_S, self._hung_after_s / 4)):
            await self._told.wait()

    async def _renew(self, link: Link) -> None:
        held, sent_at = self._held, boot_clock()
        try:
            found = await link.rows(rows.RENEW, rows.renewal(self._worker, held))
        except Exception as exc:  # noqa: BLE001 - the next one may succeed; the loop is told
            self._tell(partial(self._failed, exc))
            return
        standings = tuple(rows.standing(each) for each in found)
        ours = {each.lease for each in standings}
        lost = tuple(each.lease for each in held if each.lease not in ours)
        report = Renewed(sent_at=sent_at, standings=standings, lost=lost)
        self._tell(partial(self._renewed, report))

    def _answer(self) -> None:
        """Note that the loop is alive, and what it holds; called on it."""
        self._answered_at = boot_clock()
        self._held = tuple(self._ask())
        self._heard()

    def _tell(self, what: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._unless_stopped, what)

    def _unless_stopped(self, what: Callable[[], None]) -> None:
        if not self._stopped.is_set():
            what()
