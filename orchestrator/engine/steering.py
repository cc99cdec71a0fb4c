"""What people ask of a run while it lives: `ctl`, `browse`. Recorded, then done, then answered.

A request is judged when it is taken: what it asks for may have become impossible since it was made.
What is recorded is done again by whoever resumes the run; what was not answered may be recorded or
not, and the journal tells.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from orchestrator.core.control_rules import why_refused
from orchestrator.core.controls import LOOKS, Answer, Control, Verb, limit_change
from orchestrator.core.events import ControlApplied
from orchestrator.core.model import MountKey
from orchestrator.core.ports.controls import Controls
from orchestrator.engine.conductor import Conductor
from orchestrator.engine.held_files import HeldFiles
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.limits import Limits
from orchestrator.engine.orders import Orders
from orchestrator.log import Log

log = Log(__name__)

CONTROL_TICK = 1.0
"""Seconds between looks whether somebody asks for anything."""


WAITS_FOR_PEOPLE = (
    "targets wait for a limit that ctl has lowered, and mounts that stay open use it up: raise it, "
    "as in: bulk-restore ctl RUN limits hq.mounts=4, or stop the run"
)
"""What is said of a run that goes on only once somebody raises a limit."""

AT_ONCE = frozenset({Verb.SKIP, Verb.RETRY, Verb.APPROVE})
"""What is done before it is durable: else a target might get a slot, or its wave or gate might end.

Whatever follows from it is behind it in the journal, so nothing of it is kept without it.
"""


class SteeredShard(Protocol):
    """A shard, as far as people can steer it, and look into its mounts."""

    @property
    def held_files(self) -> HeldFiles:
        """The files of the mounts that are held."""

    def pause(self, *, paused: bool) -> None:
        """Begin no mount while `paused`."""

    def limit_to(self, limits: Limits) -> None:
        """Change the limits from the next grant on."""

    @property
    def waits_for_higher_limits(self) -> bool:
        """True while targets wait for a lowered limit that only mounts without an end use up."""

    def is_waiting(self, key: MountKey) -> bool:
        """Return whether a target has no slot yet."""

    def why_no_retry(self, key: MountKey) -> str | None:
        """Return why a concluded target cannot be tried once more now; None: it can."""

    def retry(self, key: MountKey) -> None:
        """Try a concluded target once more."""

    def skip(self, key: MountKey, why: str) -> None:
        """Never submit a target that has no slot yet; it is concluded in its wave's turn."""


class Steering:
    """Carries out the requests to one run."""

    def __init__(
        self,
        orders: Orders,
        ledger: Ledger,
        shard: SteeredShard,
        conductor: Conductor,
        controls: Controls | None,
    ) -> None:
        """`controls` is where people ask; None: nobody can."""
        self._orders, self._ledger, self._shard = orders, ledger, shard
        self._controls, self._limits = controls, orders.limits
        self._conductor = conductor
        self._has_told_of_waiting = False

    def recall(self) -> None:
        """Do again what was asked of earlier processes of the run and still holds."""
        earlier = self._orders.earlier
        if earlier is None:
            return
        for event in earlier.controls:
            if event.verb == Verb.APPROVE:
                self._conductor.gates.recall(event.asked)
            elif event.verb == Verb.RETRY:
                continue  # what came of it is in the target's own records
            elif event.verb != Verb.SKIP or MountKey(event.words[0]) in earlier.skipped:
                self._do(event.asked)

    async def watch(self) -> None:
        """Take requests, one after another, for as long as the run lives."""
        if self._controls is None:
            return
        async with anyio.create_task_group() as looks:
            while True:
                await anyio.sleep(CONTROL_TICK)
                self._tell_what_waits()
                for control in self._controls.take():
                    if control.verb in LOOKS:
                        looks.start_soon(self._answer, control, self._controls, self._look)
                    else:
                        await self._answer(control, self._controls, self._carry_out)

    def _tell_what_waits(self) -> None:
        """Note, once each time, that a lowered limit keeps targets waiting for people only."""
        waits = self._shard.waits_for_higher_limits
        if waits and not self._has_told_of_waiting:
            self._ledger.note(WAITS_FOR_PEOPLE)
        self._has_told_of_waiting = waits

    async def _answer(
        self, control: Control, controls: Controls, work: Callable[[Control], Awaitable[Answer]]
    ) -> None:
        """Do what is asked for, and tell who asked."""
        try:
            answer = await work(control)
        except Exception as exc:
            log.exception("control.internal_error", control=control.id)
            why = f"internal error: {type(exc).__name__}; see the log of the run"
            answer = Answer(id=control.id, refused=why)
        controls.answer(answer)
        if control.verb in LOOKS and not controls.is_awaited(control.id):
            controls.drop(control.id)

    async def _look(self, control: Control) -> Answer:
        """Record that somebody looks into a held mount, and read what they ask for."""
        why, held = self._why_refused(control), self._shard.held_files
        if why is None and self._controls is not None and MountKey(control.words[0]) in held:
            self._ledger.record(ControlApplied.of(control, at=self._ledger.now()))
            if await self._ledger.saved():
                return await held.answer(control, self._controls)
            why = f"the journal takes nothing any more: {self._ledger.broken}"
        return Answer(id=control.id, refused=why or "its mount is not taken up yet: try again soon")

    async def _carry_out(self, control: Control) -> Answer:
        """Record a request and do it, if that is possible."""
        return Answer(id=control.id, refused=await self._why_not_done(control))

    async def _why_not_done(self, control: Control) -> str | None:
        why = self._why_refused(control)
        if why is not None:
            return why
        self._ledger.record(ControlApplied.of(control, at=self._ledger.now()))
        if control.verb in AT_ONCE:
            self._do(control)
        if not await self._ledger.saved():
            return f"the journal takes nothing any more: {self._ledger.broken}"
        if control.verb not in AT_ONCE:
            self._do(control)
        return None

    def _why_refused(self, control: Control) -> str | None:
        if self._ledger.broken is not None:
            return f"the journal takes nothing any more: {self._ledger.broken}"
        why = why_refused(control, self._orders.started, self._ledger.records)
        if why is None and control.verb == Verb.SKIP:
            key = MountKey(control.words[0])
            if not self._shard.is_waiting(key):
                return f"{key} is about to be submitted: it has its slot already"
        if why is None and control.verb == Verb.RETRY:
            return self._shard.why_no_retry(MountKey(control.words[0]))
        if why is None and control.verb == Verb.APPROVE:
            return self._conductor.gates.why_not(control)
        return why

    def _do(self, control: Control) -> None:
        match control.verb:
            case Verb.PAUSE:
                self._shard.pause(paused=True)
            case Verb.CONTINUE:
                self._shard.pause(paused=False)
            case Verb.LIMITS:
                for word in control.words:
                    self._limits = self._limits.changed(limit_change(word))
                self._shard.limit_to(self._limits)
            case Verb.SKIP:
                why = f"skipped by {control.who}: {control.reason}"
                self._shard.skip(MountKey(control.words[0]), why)
            case Verb.APPROVE:
                self._conductor.gates.decide(control)
            case Verb.RETRY:
                self._conductor.take_back(MountKey(control.words[0]))
                self._shard.retry(MountKey(control.words[0]))
