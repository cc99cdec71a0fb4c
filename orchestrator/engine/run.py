"""One run in one process, from its first event to its last: a shard and its conductor.

The shard mounts what it has on its servers, and accounts for it; the conductor decides which wave
has its turn and when nothing more is submitted. The run ends when the last hold does. The servers
log off last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import anyio
from anyio.abc import TaskGroup

from orchestrator.core.events import RunFinished
from orchestrator.core.exit_codes import DECLINED, ExitCode
from orchestrator.core.ports.journal import Journal, Observer
from orchestrator.core.ports.server import EnterpriseManager
from orchestrator.engine.conductor import Conductor
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.orders import EarlierRun, Orders
from orchestrator.engine.shard import Shard
from orchestrator.engine.steering import Steering
from orchestrator.engine.surroundings import Surroundings


class Run:
    """A run from its first event to its last."""

    def __init__(
        self,
        orders: Orders,
        clients: Sequence[EnterpriseManager],
        journal: Journal,
        observers: Sequence[Observer] = (),
        *,
        exit_code: Callable[[], int],
        around: Surroundings,
        on_holding: Callable[[], None],
    ) -> None:
        """`exit_code` returns the exit code of the recorded events.

        `on_holding` is called once all that remains of the run are mounts that are held.
        """
        self._orders, self._exit_code, self._on_holding = orders, exit_code, on_holding
        self._start = 0.0
        self._time: Callable[[], float] = anyio.current_time
        known = orders.earlier.records if orders.earlier else ()
        self.ledger = Ledger(journal, observers, self._now, known)
        self._conductor = Conductor(orders, self.ledger)
        self.shard = Shard(orders, clients, self._conductor, self.ledger, around)
        self._conductor.join(self.shard)
        self._steering = Steering(orders, self.ledger, self.shard, self._conductor, around.controls)

    def _start_clock(self) -> None:
        """Begin the run's clock; every event asks for it, so it is the loop's, without a detour."""
        self._time = asyncio.get_running_loop().time
        self._start = self._time()

    def _now(self) -> float:
        return self._time() - self._start

    @property
    def failure(self) -> Exception | None:
        """An internal error that was contained in one target or server; the run exits 70."""
        return self.shard.failure

    @property
    def may_have_left_mounts(self) -> bool:
        """Return whether a mount may be open, of a target or in a session that was not ended."""
        return self.shard.may_have_left_mounts

    @property
    def is_forced(self) -> bool:
        """True after the second signal."""
        return self._conductor.forced_end.is_wanted

    def stop(self, signal: str) -> None:
        """Submit nothing more and let running mounts finish; the second time, cancel them."""
        self._conductor.stop(signal)

    async def execute(self) -> int:
        """Carry out the orders and return the exit code that was recorded.

        Raises:
            JournalError: not even the beginning can be kept; nothing was sent.
        """
        self._start_clock()
        earlier = self._orders.earlier
        if earlier is not None:
            self._start -= earlier.begins.at
            self.ledger.record(earlier.begins)
        else:
            self.ledger.record(self._orders.started)
        await self.ledger.durable()
        work = self._carry_out if earlier is None else partial(self._carry_on, earlier)
        await self.shard.execute(work, self._conductor.watch_deadline, self._steering.watch)
        return await self._finish()

    async def _carry_out(self, background: TaskGroup) -> None:
        expansion, silent = await self.shard.plan_targets(background)
        if (
            not self.ledger.records
            and not self._conductor.waves.wait_for_servers
            and not self._orders.selection.is_elsewhere(expansion)
        ):
            self._conductor.halt("selection", "no target is selected: nothing would be proven")
        confirm = self._orders.confirm
        if self._conductor.accepting and confirm is not None:
            agreed = await self._conductor.unless_ended(lambda: confirm(expansion, silent))
            if not agreed and self._conductor.accepting:
                self.stop(DECLINED)
        await self.ledger.saved()
        if self._conductor.accepting and not silent:
            background.start_soon(self.shard.forecast, expansion.requests, self._now())
        await self.shard.mount(silent, self._conduct)

    async def _carry_on(self, earlier: EarlierRun, background: TaskGroup) -> None:
        """Continue after an earlier process."""
        self._steering.recall()
        if earlier.broken_guard is not None:  # it was judged once, over all that was listed then
            self._conductor.halt("expect", earlier.broken_guard)
        remains = self.shard.sort_out(earlier)
        self._conductor.react_to_earlier(earlier.accepted)
        await self.shard.carry_on(earlier, remains, background, self._conduct)

    async def _conduct(self) -> None:
        """Conduct the waves; once they are over, all that remains is what is held."""
        await self._conductor.conduct()
        if self.shard.holds_any:
            await self.ledger.saved()
            self._on_holding()

    async def _finish(self) -> int:
        await self.ledger.saved()  # the code tells whether the journal holds all that it is about
        code = self._exit_code() if self.failure is None else ExitCode.INTERNAL
        ended = self._orders.started.started_at + timedelta(seconds=self._now())
        self.ledger.record(
            RunFinished(
                at=self._now(),
                exit_code=code,
                finished_at=ended,
                interrupted=self._conductor.is_stopped,
            )
        )
        await self.ledger.saved()
        return code
