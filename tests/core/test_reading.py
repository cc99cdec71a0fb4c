"""Reading runs that have several hash chains: each has its own place in a mark."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest

from orchestrator.core import reading
from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import Event, to_json
from orchestrator.core.model import RunId
from orchestrator.core.reading import RunReader
from orchestrator.core.records import (
    BEGINNING,
    RUN_CHAIN,
    START,
    Mark,
    Position,
    Record,
    Row,
    RunSummary,
    beginning_of,
    chain_hash,
    checked,
    genesis,
    merged,
)
from orchestrator.core.run_state import fold
from tests.journal.sample import RUN, mounted, note, started

HQ, DR = "hq", "dr"
LIVES = {HQ: mounted("dc01"), DR: mounted("sql01")}


class Chains(RunReader):
    """One run in memory, with a chain of its own for each server."""

    place = "memory"

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {RUN_CHAIN: []}

    def append(self, chain: str, event: Event) -> None:
        """Add one record to a chain."""
        rows = self.rows.setdefault(chain, [])
        before = rows[-1][4] if rows else genesis(chain)
        assert before is not None
        kind, body, seq = type(event).__name__, to_json(event), len(rows) + 1
        rows.append((seq, event.at, kind, body, chain_hash(before, RUN, seq, kind, body)))

    def runs(self) -> list[RunSummary]:
        return []

    def records_between(
        self, run: RunId, after: Mark, upto: Mark | None = None, most: int | None = None
    ) -> Iterator[Record]:
        return islice(self._between(run, after, upto), most)

    def _between(self, run: RunId, after: Mark, upto: Mark | None) -> Iterator[Record]:
        return merged({chain: self._of(run, chain, after, upto) for chain in self.rows})

    def _of(self, run: RunId, chain: str, after: Mark, upto: Mark | None) -> Iterator[Record]:
        rows, begin = self.rows[chain], after.of(chain)
        last = len(rows) if upto is None else upto.of(chain).seq
        return checked(run, rows[begin.seq : last], begin, chain)


@pytest.fixture
def chains() -> Chains:
    """A run with two servers, each in a chain of its own."""
    found = Chains()
    found.append(RUN_CHAIN, started())
    for chain, life in LIVES.items():
        for event in life:
            found.append(chain, event)
    return found


def test_a_fold_over_several_chains_is_that_of_one(chains: Chains) -> None:
    """Targets belong to one server, so it does not matter in which order the chains come."""
    assert chains.replay(RUN) == fold([started(), *LIVES[HQ], *LIVES[DR]])
    assert chains.chain_head(RUN) == chains.replay_to_head(RUN)[1].head
    assert chains.chain_head(RUN) == Mark({RUN_CHAIN: START}).past(first(chains)).head


def first(chains: Chains) -> list[Record]:
    """Return the records of the run's own chain."""
    return [record for record in chains.records(RUN) if record.chain == RUN_CHAIN]


def test_records_up_to_a_mark_are_those_that_were_folded(chains: Chains) -> None:
    """In every chain, however each of them goes on."""
    state, mark = chains.replay_to_head(RUN)
    before = list(chains.records(RUN))
    for chain in (RUN_CHAIN, HQ, "one more"):
        chains.append(chain, note(1))

    assert list(chains.records(RUN, upto=mark)) == before
    assert len(before) == state.events
    assert len(list(chains.records(RUN))) == len(before) + 3


def test_each_look_returns_what_is_new_in_any_chain(
    chains: Chains, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark has the place in each chain, also where a part ends in the middle of one."""
    monkeypatch.setattr(reading, "BATCH", 4)
    seen: list[Event] = []
    mark = BEGINNING

    while new := chains.read_on(RUN, mark)[0]:
        seen += new
        mark = chains.read_on(RUN, mark)[1]
    for chain in (DR, RUN_CHAIN, "one more"):
        chains.append(chain, note(1))

    assert seen == [started(), *merged(LIVES)]
    assert chains.read_on(RUN, mark)[0] == [note(1)] * 3
    assert chains.read_on(RUN, chains.read_on(RUN, mark)[1])[0] == []


def test_chains_come_in_one_order() -> None:
    """By time, then by the chain's name; each in its own order, and the beginning first."""
    late, early = note(9), note(1)
    again = note(0)  # in its chain it comes later, whatever its time

    chains: dict[str, list[Event]] = {
        DR: [early, late],
        HQ: [early, again],
        RUN_CHAIN: [started(), late],
    }

    assert list(merged(chains)) == [started(), early, early, again, late, late]


def test_records_at_the_same_time_come_by_the_names_of_their_chains(chains: Chains) -> None:
    """So that everybody who reads a run reads it in the same order."""
    for chain in ("b", "a", RUN_CHAIN):
        chains.append(chain, note(1))

    assert [each.chain for each in chains.records(RUN)][:4] == [RUN_CHAIN, RUN_CHAIN, "a", "b"]
    assert [each.chain for each in chains.records(RUN)][4:6] == [DR, DR]


def test_a_chain_begins_with_its_name(chains: Chains) -> None:
    """A mark at the beginning of a chain is what the database begins it with."""
    assert BEGINNING.of(DR) == Position(0, genesis(DR)) == beginning_of(DR)
    assert BEGINNING.of(RUN_CHAIN) == START == beginning_of(RUN_CHAIN)
    assert genesis(DR) != genesis(HQ)

    chains.rows[HQ], chains.rows[DR] = chains.rows[DR], chains.rows[HQ]

    with pytest.raises(JournalDamaged, match=r"record 1 .* is not what was written"):
        chains.replay(RUN)


def test_damage_names_the_chain(chains: Chains) -> None:
    """A record's number alone would not say where it is."""
    seq, at, kind, body, stored = chains.rows[DR][2]
    chains.rows[DR][2] = seq, at, kind, body + b" ", stored

    with pytest.raises(JournalDamaged, match=f"record 3 .* of run {RUN}, chain 'dr' is not what"):
        chains.replay(RUN)


def test_a_mark_moves_only_in_the_chains_that_were_read(chains: Chains) -> None:
    """The others are where they were; the head is that of the run's own chain."""
    before = Mark({HQ: Position(7, b"x" * 32)})

    after = before.past(first(chains))

    assert after.of(HQ) == Position(7, b"x" * 32)
    assert after.of(RUN_CHAIN).seq == 1
    assert before.head == BEGINNING.head == "00" * 32
    assert after.head == first(chains)[0].hash.hex()
