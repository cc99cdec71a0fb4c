"""The chains of a run's records: where each ends, and what the run's own chain pins of the others.

Nobody signs the end of a chain, so what was cut off there leaves no gap. The run's own chain covers
the others: a pin (`ChainPinned`) names the last record of a chain at that time, and before the run
ends every chain is pinned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from orchestrator.core.events import ChainPinned, Event, RunFinished, RunResumed
from orchestrator.core.records import RUN_CHAIN, Record
from orchestrator.core.text import counted, printable
from orchestrator.report.evidence.lines import chain_words


class ChainEnd(Struct, frozen=True, kw_only=True):
    """How many records a chain has, and the last one's hash; `name` as in `Record.chain`."""

    name: str
    records: int
    head: str


class Chains:
    """The chains of a run, as far as their records have come by now; each comes in its order."""

    def __init__(self) -> None:
        """No record has come."""
        self._last: Record | None = None
        """Of the run's own chain."""
        self._hashes: dict[str, list[bytes]] = {}
        """Of each record of the other chains: any of them may be pinned."""
        self._pins: list[tuple[int, ChainPinned]] = []
        """With the number of the record in the run's own chain."""
        self._finished: int | None = None
        """Number of the record with which the run ended; None: it goes on."""

    def add(self, record: Record) -> None:
        """Take the next record of a chain."""
        if record.chain == RUN_CHAIN:
            self._last = record
        else:
            self._hashes.setdefault(record.chain, []).append(record.hash)

    def heed(self, event: Event) -> None:
        """Take in what the record that was added last says of other chains."""
        if isinstance(event, ChainPinned):
            self._pins.append((self._own.records, event))
        elif isinstance(event, RunFinished):
            self._finished = self._own.records
        elif isinstance(event, RunResumed):
            self._finished = None

    @property
    def _own(self) -> ChainEnd:
        """Where the run's own chain ends."""
        if self._last is None:
            return ChainEnd(name=RUN_CHAIN, records=0, head="")
        return ChainEnd(name=RUN_CHAIN, records=self._last.seq, head=self._last.hash.hex())

    @property
    def head(self) -> str:
        """The hash of the last record of the run's own chain, as hex."""
        return self._own.head

    @property
    def records(self) -> int:
        """How many records there are in all chains."""
        return self._own.records + sum(map(len, self._hashes.values()))

    @property
    def ends(self) -> tuple[ChainEnd, ...]:
        """Where each chain ends, the run's own first, then by name; nothing for a single chain."""
        if not self._hashes:
            return ()
        others = (
            ChainEnd(name=name, records=len(hashes), head=hashes[-1].hex())
            for name, hashes in sorted(self._hashes.items())
        )
        return (self._own, *others)

    def unlike(self, ends: Sequence[ChainEnd]) -> Iterator[str]:
        """Yield how the ends of the chains differ from those that the manifest names."""
        actual = {each.name: each for each in self.ends} or {RUN_CHAIN: self._own}
        for wanted in ends:
            of, end = chain_words(wanted.name), actual.get(wanted.name)
            if end is None:
                records = counted(wanted.records, "record")
                yield f"all {records}{of} are missing: they were taken away"
            elif end.records < wanted.records:
                cut = f"record {end.records + 1}{of} and what followed were cut off"
                yield f"{cut}, of {wanted.records}"
            elif end.records > wanted.records:
                yield f"record {wanted.records + 1}{of} and what follows were added afterwards"
            elif end.head != wanted.head:
                where = f"chain {printable(wanted.name, 60)}" if wanted.name else "the chain"
                said = printable(wanted.head, 80)
                yield f"{where} ends in {end.head}, but the evidence says {said}"

    def unpinned(self) -> Iterator[str]:
        """Yield where the chains are not what the run's own chain says of them.

        In a run that has ended each chain must end with the record that was pinned last before
        that. In one that goes on, or was killed, records may follow the last pin.
        """
        sealed: dict[str, ChainPinned] = {}
        for place, pin in self._pins:
            fault = self._fault(pin)
            if fault is not None:
                yield f"{fault}, which record {place} of the run itself pins"
            if self._finished is not None and place < self._finished:
                sealed[pin.chain] = pin
        if self._finished is not None:
            yield from self._not_sealed(sealed)

    def _fault(self, pin: ChainPinned) -> str | None:
        """Return what is wrong with the record that a pin names; None: it is there."""
        hashes = self._hashes.get(pin.chain, [])
        named = f"record {pin.seq}{chain_words(pin.chain)}"
        if not 1 <= pin.seq <= len(hashes):
            return f"{named} is missing"
        return None if hashes[pin.seq - 1].hex() == pin.hash else f"{named} is not the one"

    def _not_sealed(self, sealed: Mapping[str, ChainPinned]) -> Iterator[str]:
        for name, hashes in sorted(self._hashes.items()):
            pin = sealed.get(name)
            if pin is None:
                yield f"no record of the run itself pins chain {printable(name, 60)} before its end"
            elif pin.seq < len(hashes):
                yield (
                    f"record {pin.seq + 1} of chain {printable(name, 60)} and what follows are "
                    "behind its last pin: they were added after the run had ended"
                )

    @property
    def behind_pins(self) -> int:
        """How many records are behind the last pin of their chain: only the evidence names them."""
        last: dict[str, int] = {pin.chain: pin.seq for _, pin in self._pins}
        behind = (len(hashes) - last.get(name, 0) for name, hashes in self._hashes.items())
        return sum(max(0, each) for each in behind)
