"""What a run decides for all its servers together: the turn of each wave, and the end.

Nothing is submitted any more once the run is halted (budget, deadline, critical target) or
stopped (signal); what is open is still unmounted. A target whose mount is held is decided at its
verdict: the waves after it start, budget and critical targets react.
"""

from __future__ import annotations

import math
from collections.abc import Container

import anyio

from orchestrator.core.events import (
    RunHalted,
    StopRequested,
    TargetPlanned,
    WaveFinished,
    WaveStarted,
)
from orchestrator.core.lifecycle import FIRM_RESULTS, MountRecord, Phase
from orchestrator.core.model import MountKey, Result, ServerName, WaveName
from orchestrator.core.run_state import NOT_GOOD, RunState
from orchestrator.core.text import counted, duration
from orchestrator.engine.ending import Ending
from orchestrator.engine.gates import Gates
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.orders import Orders
from orchestrator.engine.silence import FROZEN_AFTER, overslept
from orchestrator.engine.waves import Waves


class Conductor(Ending):
    """Decides which wave has its turn, and when nothing more is submitted; implements `Board`."""

    def __init__(self, orders: Orders, ledger: Ledger) -> None:
        """Everything is submitted until something stops it."""
        super().__init__()
        self._orders, self._ledger = orders, ledger
        finished = orders.earlier.finished if orders.earlier else frozenset[WaveName]()
        self.waves = Waves(orders.started.waves, ledger, finished)
        self.gates = Gates(orders.started.gates, ledger)
        self._waves_over = False
        self._failed = 0

    # --- the end -------------------------------------------------------------------------------

    def stop(self, signal: str) -> None:
        """Submit nothing more and let running mounts finish; the second time, cancel them."""
        forced, now = self.is_stopped, self._ledger.now()
        self._ledger.record(StopRequested(at=now, signal=signal, forced=forced))
        self._end_by(signal, forced=forced)

    def halt(self, reason: str, detail: str) -> None:
        """Submit nothing more, for a reason that concerns the whole run. Safe to repeat."""
        if self.accepting:
            self._ledger.record(RunHalted(at=self._ledger.now(), reason=reason, detail=detail))
            self._end_because(detail)

    async def watch_deadline(self) -> None:
        """Halt when the run has taken as long as its plan allows."""
        deadline = self._orders.deadline
        if deadline is not None:
            late = await overslept(max(0.0, self._ends_at - self._ledger.now()))
            if late > FROZEN_AFTER:
                for shard in self.shards:
                    await shard.look_once()
            if not self._waves_over:
                self.halt("deadline", f"the run took longer than {duration(deadline)}")

    @property
    def _ends_at(self) -> float:
        """When the deadline is, on the run's clock: each process has it anew. inf: none."""
        deadline, earlier = self._orders.deadline, self._orders.earlier
        resumed_at = earlier.begins.at if earlier is not None else 0.0
        return math.inf if deadline is None else resumed_at + deadline

    def _halt_without_time(self) -> None:
        """Halt, now that all else is over, if there was no time for some targets."""
        earlier = self._orders.earlier
        since = earlier.begins.at if earlier is not None else 0.0
        late = [
            each
            for each in self._ledger.records
            if each.no_time and each.concluded_at is not None and each.concluded_at >= since
        ]
        if late:
            self.halt("deadline", f"no time was left for {counted(len(late), 'target')}")

    # --- results -------------------------------------------------------------------------------

    def decide(self, key: MountKey) -> None:
        """React, once, to the result of a target: budget, critical targets, wave.

        For one whose mount is held it is the verdict: nothing waits for the end of the hold.
        """
        record = self._ledger[key]
        if self.waves.decide(key):
            result = self.waves.answer(record)
            if result in {Result.FAILED, Result.UNKNOWN}:
                self._failed += 1
            if self.accepting and result not in FIRM_RESULTS and not _had_no_time(record):
                self._consider_halting(record.planned, result)
        self.waves.look_at(record.planned.wave)

    def take_back(self, key: MountKey) -> None:
        """Count the result of a target no more: it is tried once more."""
        if self._ledger[key].result in NOT_GOOD:
            self._failed -= 1

    def decided_before(self, key: MountKey) -> None:
        """Note that an earlier process has reacted to the verdict of a target."""
        self.waves.decide(key)

    def react_to_earlier(self, accepted: Container[MountKey]) -> None:
        """Halt at a critical target that ended badly while no process looked, or one that stopped.

        Where a halt has told of it, whoever resumes wants the run to go on: these are `accepted`.
        """
        for record in self._ledger.records:
            target = record.planned
            is_critical = target.critical or self.waves.is_critical(target.wave)
            is_bad = record.result in NOT_GOOD and not _had_no_time(record)
            if is_critical and is_bad and target.key not in accepted:
                self._consider_halting(target, record.result)

    def recall(self, state: RunState) -> None:
        """Go on where another process conducted: from what the run has recorded until now.

        Targets that are decided by then are reacted to once more, where no halt has told of them.
        """
        for record in state.records.values():
            target, is_decided = record.planned, record.is_final or record.phase is Phase.HELD
            if not is_decided:
                self.waves.await_end(target.wave, target.key)
                continue
            self.waves.decide(target.key)
            if self.waves.answer(record) in NOT_GOOD:
                self._failed += 1
        for stop in state.stops:
            self._end_by(stop.signal, forced=stop.forced)
        if state.halted is not None:
            self._end_because(state.halted.detail)
        for server in state.servers.values():
            if server.halt_asked is not None:
                self.halt(server.halt_asked.reason, server.halt_asked.detail)
        if self.accepting:
            self.react_to_earlier(state.accepted)
            self._watch_budget()

    def _consider_halting(self, target: TargetPlanned, result: Result | None) -> None:
        if target.critical or self.waves.is_critical(target.wave):
            self.halt("critical", f"{target.key} is critical and ended {result}")
            return
        self._watch_budget()

    def _watch_budget(self) -> None:
        """Halt when more has failed than the plan allows.

        A share of the targets is judged once every server has said which it has.
        """
        budget = self._orders.failures
        if budget is None or (budget.fraction is not None and self.waves.wait_for_servers):
            return
        if budget.is_spent(failed=self._failed, targets=len(self._ledger)):
            self.halt(
                "failures", f"{counted(self._failed, 'target')} failed; the plan allows {budget}"
            )

    # --- waves ---------------------------------------------------------------------------------

    async def conduct(self) -> None:
        """Let each wave have its turn; return when all are over."""
        async with anyio.create_task_group() as waves:
            for wave in self.waves:
                waves.start_soon(self._run_wave, wave)
        self._halt_without_time()
        self._waves_over = True  # nothing is left that a deadline could stop

    async def _run_wave(self, name: WaveName) -> None:
        """Have a wave's targets offered when the waves before it are over, and await its end."""
        await self.waves.turn(name)
        begun = self.accepting and self.waves.may_start(name) and await self._is_approved(name)
        if begun:
            self._ledger.record(WaveStarted(at=self._ledger.now(), wave=name))
        self.waves.open(name)
        for shard in self.shards:
            shard.offer(name)
        self.waves.look_at(name)
        await self.waves.is_over(name)
        if begun:
            self._ledger.record(WaveFinished(at=self._ledger.now(), wave=name))

    async def _is_approved(self, name: WaveName) -> bool:
        """Return whether a wave may start, once its gate is open or nobody waits for it any more.

        Where it stays closed, the run halts, or only the wave is skipped, as the plan says. Nobody
        is asked where this run, or this part of one, has no target behind the gate.
        """
        if self.waves.is_empty(name):
            return True
        why = await self.gates.opened(name, self.unless_ended, self._ends_at)
        if why is not None and self.accepting:
            if self.gates.is_skipped(name):
                self.waves.skip(name, why)
            else:
                self.halt("gate", why)
        return why is None and self.accepting

    def heard_of(self, server: ServerName) -> None:
        """Note that the targets of such a server are known now, or never will be."""
        self.waves.heard_of(server)
        self._watch_budget()
        for name in self.waves.under_way:
            self.waves.look_at(name)


def _had_no_time(record: MountRecord) -> bool:
    """Return whether a target was never begun because of the deadline: it has not gone wrong."""
    return record.no_time and record.result is Result.SKIPPED
