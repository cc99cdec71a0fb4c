"""Which mounts stay open after their verdict, and what ends that.

A hold ends by its own time, by a person (`unmount` from another terminal), by a stop of the
run, with the logon session, or in time for the deadline of the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
from msgspec import Struct

from orchestrator.core.model import MountKey, Result, Unmount
from orchestrator.engine.bounded import before


class HoldRequest(Struct, frozen=True, kw_only=True):
    """A hold that the plan or the command line asks for: why, and for how many seconds."""

    reason: str
    seconds: float

    @property
    def is_endless(self) -> bool:
        """True if the hold has no end of its own."""
        return math.isinf(self.seconds)


class HoldRule(Struct, frozen=True, kw_only=True):
    """Which mounts are held: all of them `every_s` seconds, those that failed `failed_s`."""

    every_s: float | None = None
    failed_s: float | None = None
    unmount: Unmount = Unmount.ALWAYS

    def asked(self, verdict: Result | None) -> HoldRequest | None:
        """Return the hold of a mount with this verdict, the longest of several, or None."""
        failed = verdict in {Result.FAILED, Result.UNKNOWN}
        found: list[HoldRequest] = []
        if self.unmount is Unmount.NEVER:
            found.append(HoldRequest(reason="cleanup.unmount: never", seconds=math.inf))
        if self.unmount is Unmount.ON_SUCCESS and failed:
            found.append(HoldRequest(reason="cleanup.unmount: on_success", seconds=math.inf))
        if self.every_s:
            found.append(HoldRequest(reason="--hold", seconds=self.every_s))
        if self.failed_s and failed:
            found.append(HoldRequest(reason="cleanup.keep_failed", seconds=self.failed_s))
        return max(found, key=lambda each: each.seconds, default=None)


NO_HOLDS = HoldRule()
"""No mount is held."""


class Holds:
    """The holds of one run."""

    def __init__(
        self,
        rule: HoldRule = NO_HOLDS,
        on_hold: Callable[[MountKey], None] = lambda key: None,
    ) -> None:
        """`on_hold` is called for each target whose hold begins: its verdict is reached."""
        self.rule = rule
        self.on_hold = on_hold
        self.are_over = False
        """Nothing is held any more: the run was stopped, or cannot keep what it says."""
        self._ends: set[anyio.Event] = set()
        self._begun = anyio.Event()

    def __len__(self) -> int:
        """Return how many mounts are held now."""
        return len(self._ends)

    async def begun(self) -> None:
        """Return as soon as something is held."""
        if not self._ends:
            self._begun = anyio.Event()
            await self._begun.wait()

    def end(self) -> None:
        """End the present holds; later mounts are held again."""
        for each in self._ends:
            each.set()

    def close(self) -> None:
        """End all holds, and hold nothing any more."""
        self.are_over = True
        self.end()

    async def wait(self, seconds: float, over: anyio.Event) -> None:
        """Hold for so long, until a person ends the hold, or until `over` is set."""
        ended = anyio.Event()
        if self.are_over:
            return
        self._ends.add(ended)
        self._begun.set()
        try:
            with anyio.move_on_after(max(0.0, seconds)):
                await before(over.wait, ended.wait)
        finally:
            self._ends.discard(ended)
