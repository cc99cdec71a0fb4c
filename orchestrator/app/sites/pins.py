"""Pins: how the run's own chain covers the chains of its servers."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.core.events import ChainPinned, Event, ShardTaken, WaveFinished
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import ServerName
from orchestrator.core.sites import CONDUCTOR, ChainHead
from orchestrator.engine.ledger import Ledger


class Pins:
    """Pins chains as far as they were read: one when it is taken, all at the end of a wave.

    An observer of the ledger that it records in.
    """

    def __init__(self, ledger: Ledger, heads: Mapping[ServerName, ChainHead]) -> None:
        """`heads` is where each chain was read to, without those that cannot be pinned now."""
        self._ledger, self._heads = ledger, heads
        self._pinned: dict[ServerName, ChainHead] = {}

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Pin what the event asks for."""
        match event:
            case ShardTaken(server=server):
                self._pin(server)
            case WaveFinished():
                self.pin()
            case _:
                pass

    def pin(self) -> None:
        """Pin every chain that has gone on since it was pinned."""
        for chain in self._heads:
            if chain != CONDUCTOR:
                self._pin(chain)

    def _pin(self, chain: ServerName) -> None:
        head = self._heads.get(chain)
        if head is None or self._pinned.get(chain) == head:
            return
        self._pinned[chain] = head
        pin = ChainPinned(at=self._ledger.now(), chain=chain, seq=head.seq, hash=head.hash.hex())
        self._ledger.record(pin)
