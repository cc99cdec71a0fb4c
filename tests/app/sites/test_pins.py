"""Pins: the run's own chain covers the others as they are taken, when waves end, and at its end."""

from __future__ import annotations

from orchestrator.app.sites.pins import Pins
from orchestrator.core.events import ChainPinned, RunNoted, ShardTaken, WaveFinished
from orchestrator.core.model import ServerName, WaveName
from orchestrator.core.sites import CONDUCTOR, ChainHead
from orchestrator.engine.ledger import Ledger
from tests.engine.test_ledger import ListJournal

HQ, DR = ServerName("hq"), ServerName("dr")
ENDED = WaveFinished(at=5.0, wave=WaveName("first"))


class Stage:
    """A run's own chain, and how far those of two servers were read."""

    def __init__(self) -> None:
        self.journal = ListJournal()
        self.heads = {
            CONDUCTOR: ChainHead(3, b"c" * 32),
            HQ: ChainHead(4, b"h" * 32),
            DR: ChainHead(7, b"d" * 32),
        }
        self.ledger = Ledger(self.journal, (), lambda: 9.0)
        self.pins = Pins(self.ledger, self.heads)
        self.ledger.watch(self.pins)

    @property
    def pinned(self) -> list[tuple[str, int, str]]:
        """What was pinned by now, in order."""
        events = (each for each in self.journal.events if isinstance(each, ChainPinned))
        return [(each.chain, each.seq, each.hash) for each in events]


def test_every_chain_is_pinned_when_a_wave_ends() -> None:
    """As far as it was read; the run's own chain pins itself by its hashes."""
    stage = Stage()

    stage.ledger.record(ENDED)

    assert stage.pinned == [("hq", 4, "68" * 32), ("dr", 7, "64" * 32)]
    assert stage.journal.events[0] == ENDED


def test_a_chain_is_pinned_when_another_worker_takes_it() -> None:
    """What the one before has written can be told from what the next one writes."""
    stage = Stage()

    stage.ledger.take_in(
        ShardTaken(at=1.0, server=DR, worker="w", host="h", epoch=2, used_until=1.0)
    )
    stage.ledger.record(RunNoted(at=2.0, message="nothing to pin"))

    assert stage.pinned == [("dr", 7, "64" * 32)]


def test_a_chain_that_was_read_and_lost_is_pinned_once_it_is_there_again() -> None:
    """A pin of what another worker writes otherwise would make the evidence look forged."""
    stage = Stage()

    lost = stage.heads.pop(HQ)
    stage.ledger.record(ENDED)
    stage.heads[HQ] = lost
    stage.pins.pin()

    assert [chain for chain, _, _ in stage.pinned] == ["dr", "hq"]


def test_a_chain_that_has_not_gone_on_is_not_pinned_again() -> None:
    """A hundred servers are not pinned a hundred times at each of a hundred takings."""
    stage = Stage()
    stage.ledger.record(ENDED)

    stage.heads[HQ] = ChainHead(6, b"i" * 32)
    stage.pins.pin()
    stage.pins.pin()

    assert stage.pinned[2:] == [("hq", 6, "69" * 32)]
