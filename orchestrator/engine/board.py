"""What the shards of one run are told, and what they tell: their side of the conductor.

A shard mounts what it has on its servers; which wave has its turn, and when nothing more is
mounted, is decided for all shards together. In one process the conductor is the board itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from orchestrator.core.model import MountKey, Result, ServerName
from orchestrator.engine.forced_end import ForcedEnd
from orchestrator.engine.waves import Waves

T = TypeVar("T")


class Board(Protocol):
    """The waves of a run, and whether anything more is mounted."""

    @property
    def accepting(self) -> bool:
        """False once the run submits nothing more: it was halted or stopped."""

    @property
    def forced_end(self) -> ForcedEnd:
        """Whether a person wants the end at once."""

    @property
    def waves(self) -> Waves:
        """The waves, as far as the targets of this process make them wait."""

    async def unless_ended(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer, or None once nothing more is to be submitted."""

    async def stopped(self) -> None:
        """Return once a person has stopped the run."""

    def halt(self, reason: str, detail: str) -> None:
        """Submit nothing more, for a reason that concerns the whole run. Safe to repeat."""

    def why_ended(self) -> tuple[Result, str] | None:
        """Return result and reason of what is never submitted because the run ended, if it did."""

    def heard_of(self, server: ServerName) -> None:
        """Note that the targets of such a server are known now, or never will be."""

    def decide(self, key: MountKey) -> None:
        """React, once, to the result of a target: budget, critical targets, wave.

        For one whose mount is held it is the verdict: nothing waits for the end of the hold.
        """

    def decided_before(self, key: MountKey) -> None:
        """Note that an earlier process has reacted to the verdict of a target."""
