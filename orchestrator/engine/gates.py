"""The gates of a run: a wave behind one starts once enough people have approved it.

Approvals are recorded, and count again where the run is resumed; the time to wait begins anew then.
A rejection is over once the run is resumed: the wave is asked for again.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio

from orchestrator.core.controls import Control
from orchestrator.core.events import ApprovalAwaited
from orchestrator.core.model import Gate, OnTimeout, WaveName
from orchestrator.core.text import counted, duration
from orchestrator.engine.ledger import Ledger

UnlessEnded = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Waits for something, or until the run submits nothing more."""


class _Wait:
    """What is known of one gate."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.approved: dict[str, Control] = {}
        """By the person: nobody approves twice."""
        self.rejected: Control | None = None
        self.is_reached = self.is_over = False
        self.until = math.inf
        """Until when it is waited, on the run's clock, once it is reached."""
        self.decided = anyio.Event()

    @property
    def is_open(self) -> bool:
        return len(self.approved) >= self.gate.approvals


class Gates:
    """Who has approved which wave."""

    def __init__(self, gates: Iterable[Gate], ledger: Ledger) -> None:
        """Nobody has approved anything yet."""
        self._waits = {gate.before: _Wait(gate) for gate in gates}
        self._ledger = ledger

    def recall(self, control: Control) -> None:
        """Count an approval that an earlier process recorded; a rejection takes all back."""
        wait = self._waits[WaveName(control.words[0])]
        if control.reject:
            wait.approved.clear()
        else:
            wait.approved[control.user] = control

    def why_not(self, control: Control) -> str | None:
        """Return why an answer cannot be given now; None: it can."""
        wave = WaveName(control.words[0])
        wait = self._waits[wave]
        if wait.rejected is not None or wait.is_open:
            return f"the gate before {wave} is decided already"
        if wait.is_over or self._ledger.now() > wait.until:
            return f"nobody waits for an approval of {wave} any more: its time is over"
        if not wait.is_reached:
            return f"{wave} does not wait for an approval yet: what comes before it goes on"
        if control.user in wait.approved and not control.reject:
            more = wait.gate.approvals - len(wait.approved)
            return f"{control.user} has approved {wave} already; {more} more must come from others"
        return None

    def decide(self, control: Control) -> None:
        """Count an approval, or a rejection; who waits goes on."""
        wait = self._waits[WaveName(control.words[0])]
        if control.reject:
            wait.rejected = control
        else:
            wait.approved[control.user] = control
        if wait.is_open or control.reject:
            wait.decided.set()

    async def opened(
        self, wave: WaveName, unless_ended: UnlessEnded, run_ends_at: float
    ) -> str | None:
        """Return once a wave may start, or why it may not: rejected, or nobody came in time.

        Nobody is waited for longer than the run lasts: to its deadline `run_ends_at`; and nobody is
        asked if that was before now, for a process that was frozen halts only after a look.
        """
        wait = self._waits.get(wave)
        if wait is None or wait.is_open:
            return None
        gate, now = wait.gate, self._ledger.now()
        wait.until = min(now + gate.timeout, run_ends_at)
        if now < wait.until:
            missing = gate.approvals - len(wait.approved)
            self._ledger.record(
                ApprovalAwaited(at=now, wave=wave, approvals=missing, until=wait.until)
            )
        wait.is_reached = True
        with anyio.move_on_after(gate.timeout):
            await unless_ended(wait.decided.wait)
        wait.is_reached, wait.is_over = False, True
        if wait.is_open:
            return None
        if wait.rejected is not None:
            return f"wave {wave} was rejected by {wait.rejected.who}: {wait.rejected.reason}"
        missing = gate.approvals - len(wait.approved)
        return (
            f"wave {wave} was not approved within {duration(gate.timeout)}: "
            f"{counted(missing, 'approval')} missing"
        )

    def is_skipped(self, wave: WaveName) -> bool:
        """Return whether only the wave is given up, and not the run, if nobody came in time."""
        wait = self._waits[wave]
        return wait.gate.on_timeout is OnTimeout.SKIP and wait.rejected is None
