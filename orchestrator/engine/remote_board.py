"""The board of a shard whose conductor is elsewhere: what the run's rows said last.

The shard's own decisions are in its chain, where the conductor finds them. What the conductor
has decided is told to the board with each renewal of the shard's lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import anyio
from msgspec import Struct, field

from orchestrator.core.model import MountKey, ServerName, WaveFacts, WaveName
from orchestrator.engine.ending import Ending
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.waves import Waves


class RunStatus(Struct, frozen=True, kw_only=True):
    """What a shard must know of its run: as `core.sites.Standing`, in the engine's words."""

    opened: frozenset[WaveName] = frozenset()
    """The waves whose targets may be submitted."""
    skipped: Mapping[WaveName, str] = field(default_factory=dict)
    """The waves of which nothing is submitted any more, and why."""
    halted: str | None = None
    stopped: str | None = None
    """Who or what has stopped the run."""
    at_once: bool = False
    """Whether that was for the second time."""


class RemoteBoard(Ending):
    """The board of a shard that is conducted from another process; implements `Board`."""

    def __init__(
        self,
        waves: Iterable[WaveFacts],
        ledger: Ledger,
        on_halt: Callable[[str, str], None],
        on_planned: Callable[[], None],
    ) -> None:
        """`on_halt` is told reason and detail where the shard wants the whole run to halt.

        `on_planned` is called when the targets of a server are known that listed late.
        """
        super().__init__()
        self.waves = Waves(waves, ledger, frozenset())
        self._ledger, self._on_halt, self._on_planned = ledger, on_halt, on_planned
        self._turns = {name: anyio.Event() for name in self.waves}

    # --- what the run says ---------------------------------------------------------------------

    def tell(self, status: RunStatus) -> None:
        """Take in what the run's rows say now. Safe to repeat."""
        for name, why in status.skipped.items():
            self.waves.skip(name, why)
        if status.halted is not None and self._halted is None:
            self._end_because(status.halted)
        if status.stopped is not None and not self.is_stopped:
            self._end_by(status.stopped, forced=False)
        if status.at_once and not self.forced_end.is_wanted:
            self._end_by(status.stopped or "", forced=True)
        for name, turn in self._turns.items():
            if name in status.opened or name in status.skipped or not self.accepting:
                turn.set()

    async def conduct(self) -> None:
        """Offer each wave's targets when its turn has come; return when all are over here."""
        async with anyio.create_task_group() as waves:
            for name in self.waves:
                waves.start_soon(self._run_wave, name)

    async def _run_wave(self, name: WaveName) -> None:
        await self._turns[name].wait()
        self.waves.open(name)
        for shard in self.shards:
            shard.offer(name)
        self.waves.look_at(name)
        await self.waves.is_over(name)

    # --- what the shard says -------------------------------------------------------------------

    def halt(self, reason: str, detail: str) -> None:
        """Submit nothing more here, and have the whole run halt. Safe to repeat."""
        if self.accepting:
            self._end_because(detail)
            self._on_halt(reason, detail)
            for turn in self._turns.values():
                turn.set()

    def heard_of(self, server: ServerName) -> None:
        """Note that the targets of a server are known now, or never will be."""
        self.waves.heard_of(server)
        self._on_planned()
        for name in self.waves.under_way:
            self.waves.look_at(name)

    def decide(self, key: MountKey) -> None:
        """Note that the answer of a target is known: nothing here waits for it any more."""
        self.waves.decide(key)
        self.waves.look_at(self._ledger[key].planned.wave)

    def decided_before(self, key: MountKey) -> None:
        """Note that an earlier process has reacted to the verdict of a target."""
        self.waves.decide(key)
