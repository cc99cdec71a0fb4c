"""Whether a run submits anything more, and why not: its shards are told at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import anyio

from orchestrator.core.exit_codes import DECLINED
from orchestrator.core.model import Result, WaveName
from orchestrator.engine.bounded import before
from orchestrator.engine.forced_end import ForcedEnd

T = TypeVar("T")


class ConductedShard(Protocol):
    """A shard, as its conductor sees it."""

    def offer(self, wave: WaveName) -> None:
        """Offer the targets of a wave: its turn has come, be it to be skipped."""

    def submit_nothing_more(self) -> None:
        """Take back what waits for a slot; it is concluded."""

    def end_holds(self) -> None:
        """End all holds, and hold nothing any more."""

    def cancel_all(self) -> None:
        """Cancel what is in work: a person wants the end at once."""

    async def look_once(self) -> None:
        """Have every server's tasks read once: this process was frozen, and saw none end."""


class Ending:
    """Everything is submitted until the run is halted or stopped."""

    def __init__(self) -> None:
        """Nothing has ended it yet."""
        self.shards: list[ConductedShard] = []
        self.accepting = True
        """False once the run submits nothing more."""
        self.forced_end = ForcedEnd()
        self._not_accepting = anyio.Event()
        self._halted: str | None = None
        self._stopped_by: str | None = None
        self._stopped = anyio.Event()

    def join(self, shard: ConductedShard) -> None:
        """Tell a shard, too."""
        self.shards.append(shard)

    @property
    def is_stopped(self) -> bool:
        """True once a person has stopped the run."""
        return self._stopped_by is not None

    async def stopped(self) -> None:
        """Return once a person has stopped the run."""
        await self._stopped.wait()

    async def unless_ended(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer, or None once nothing more is to be submitted."""
        return await before(self._not_accepting.wait, ask)

    def why_ended(self) -> tuple[Result, str] | None:
        """Return result and reason of what is never submitted because the run ended, if it did."""
        if self._halted is not None:
            return Result.SKIPPED, f"the run halted first: {self._halted}"
        if self._stopped_by == DECLINED:
            return Result.CANCELLED, "the run was declined, and nothing was mounted"
        if self._stopped_by is not None:
            return Result.CANCELLED, f"the run was stopped first ({self._stopped_by})"
        return None

    def _end_because(self, detail: str) -> None:
        """Submit nothing more: the run has halted."""
        self._halted = detail
        self._submit_nothing_more()

    def _end_by(self, signal: str, *, forced: bool) -> None:
        """Submit nothing more: a person has stopped the run; `forced`: for the second time."""
        self._stopped_by = self._stopped_by or signal
        self._stopped.set()
        self._submit_nothing_more()
        for shard in self.shards:
            shard.end_holds()
        if forced:
            self.forced_end.want()
            for shard in self.shards:
                shard.cancel_all()

    def _submit_nothing_more(self) -> None:
        self.accepting = False
        self._not_accepting.set()
        for shard in self.shards:
            shard.submit_nothing_more()
