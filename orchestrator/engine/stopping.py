"""When a run submits nothing more: a signal, its budget, its deadline, a critical target."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from orchestrator.core.events import RunHalted, StopRequested, TargetPlanned
from orchestrator.core.lifecycle import FIRM_RESULTS
from orchestrator.core.model import MountKey, MountRequest, Result, ServerName
from orchestrator.core.text import counted
from orchestrator.engine.bounded import before
from orchestrator.engine.forced_end import ForcedEnd
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.mount.holds import Holds
from orchestrator.engine.orders import Orders
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.waves import Waves
from orchestrator.log import Log

log = Log(__name__)

T = TypeVar("T")

HOLD_TICK = 1.0
"""Seconds between looks whether somebody wants the holds ended; none while nothing is held."""


class Stopping:
    """Stopping and halting a run, and the messages of targets that were never submitted."""

    ledger: Ledger
    servers: dict[ServerName, ServerConnection]
    """Where new mounts are asked for."""
    _orders: Orders
    _scheduler: Scheduler
    _end_of_holds_requested: Callable[[], bool]
    _holds: Holds
    _waves: Waves

    def __init__(self) -> None:
        """Everything is submitted until something stops it."""
        self._start = 0.0
        self._time: Callable[[], float] = anyio.current_time
        self._forced_end = ForcedEnd()
        self._scopes: dict[anyio.CancelScope, tuple[ServerConnection, ...]] = {}
        self._accepting = True
        self._not_accepting = anyio.Event()
        self._halted: str | None = None
        self._stopped_by: str | None = None
        self._stopped = anyio.Event()
        self._failed = 0

    def _start_clock(self) -> None:
        """Begin the run's clock; every event asks for it, so it is the loop's, without a detour."""
        self._time = asyncio.get_running_loop().time
        self._start = self._time()

    def _now(self) -> float:
        return self._time() - self._start

    def stop(self, signal: str) -> None:
        """Submit nothing more and let running mounts finish; the second time, cancel them."""
        forced = self._stopped_by is not None
        self._stopped_by = self._stopped_by or signal
        self._stopped.set()
        self.ledger.record(StopRequested(at=self._now(), signal=signal, forced=forced))
        self._submit_nothing_more()
        self._holds.close()
        if forced:
            self._forced_end.want()
            for scope in tuple(self._scopes):
                scope.cancel()

    @property
    def is_forced(self) -> bool:
        """True after the second signal."""
        return self._forced_end.is_wanted

    async def _unless_stopped(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer, or None once nothing more is to be submitted."""
        return await before(self._not_accepting.wait, ask)

    def _decide(self, key: MountKey) -> None:
        """React, once, to the result of a target: budget, critical targets, wave.

        For one whose mount is held it is the verdict: nothing waits for the end of the hold.
        """
        record = self.ledger[key]
        if self._waves.decide(key):
            result = self._waves.answer(record)
            if result in {Result.FAILED, Result.UNKNOWN}:
                self._failed += 1
            if self._accepting and result not in FIRM_RESULTS:
                self._consider_halting(record.planned, result)
        self._waves.look_at(record.planned.wave)

    def _consider_halting(self, target: TargetPlanned, result: Result | None) -> None:
        if target.critical or self._waves.is_critical(target.wave):
            self._halt("critical", f"{target.key} is critical and ended {result}")
            return
        self._watch_budget()

    def _watch_budget(self) -> None:
        """Halt when more has failed than the plan allows.

        A share of the targets is judged once every server has said which it has.
        """
        budget = self._orders.failures
        if budget is None or (budget.fraction is not None and self._waves.wait_for_servers):
            return
        if budget.is_spent(failed=self._failed, targets=len(self.ledger)):
            self._halt(
                "failures", f"{counted(self._failed, 'target')} failed; the plan allows {budget}"
            )

    async def _watch_journal(self) -> None:
        """Without a journal no intent is durable, so nothing more is submitted."""
        self._halt("journal", await self.ledger.breaks())
        self._holds.close()  # nobody would find them again

    async def _watch_hold_requests(self) -> None:
        """End the present holds when `unmount` asks for it."""
        while True:
            await self._holds.begun()
            await anyio.sleep(HOLD_TICK)
            if self._end_of_holds_requested() and len(self._holds):
                self.ledger.note(f"{counted(len(self._holds), 'hold')} ended on request")
                self._holds.end()

    def _halt(self, reason: str, detail: str) -> None:
        if self._accepting:
            self._halted = detail
            self.ledger.record(RunHalted(at=self._now(), reason=reason, detail=detail))
            self._submit_nothing_more()

    def _submit_nothing_more(self) -> None:
        self._accepting = False
        self._not_accepting.set()
        self._scheduler.close()

    def _unsubmitted(self, request: MountRequest) -> tuple[Result, str]:
        why = self._waves.why_skipped(request.wave)
        if why is not None:
            return Result.SKIPPED, why
        return self._why_never(request.server)

    def _why_never(self, server: ServerName) -> tuple[Result, str]:
        """Return result and reason for a target that was never submitted."""
        if self._halted is not None:
            return Result.SKIPPED, f"the run halted first: {self._halted}"
        if self._stopped_by is not None:
            return Result.CANCELLED, f"the run was stopped first ({self._stopped_by})"
        trouble = self.servers[server].trouble_now
        if trouble is not None:
            return Result.SKIPPED, f"{server} could not be used: {trouble}"
        if self._scheduler.is_held_full:
            return Result.SKIPPED, "no slot was left: held mounts have them all"
        return Result.SKIPPED, "no slot was left: mounts that cannot be released hold them all"
