"""A run's records as they are kept: chained by hashes, so that a change is found.

The journal writes them, the evidence copies and checks them, the history counts them. A run may
have several chains, each with a writer of its own; what a record says belongs to one of them.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct, field

from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import Event, RunStarted, from_json
from orchestrator.core.model import RunId

GENESIS = b"\x00" * 32
"""What the first record of a chain is chained to."""

RUN_CHAIN = ""
"""The chain of the run itself, which begins with RunStarted. A journal in a directory has only
this one."""


class Record(Struct, frozen=True, kw_only=True):
    """One record as it was chained: `body` is the very bytes that its `hash` covers.

    `seq` counts the records of its `chain`, from 1.
    """

    run: str
    seq: int
    kind: str
    at: float
    body: bytes
    hash: bytes
    chain: str = RUN_CHAIN


class Position(NamedTuple):
    """A place in one chain: the number of the last record before it, and that record's hash."""

    seq: int
    hash: bytes


START = Position(0, GENESIS)
"""Before the first record of the run's own chain."""


def genesis(chain: str) -> bytes:
    """Return what the first record of a chain is chained to.

    A run over several machines has a chain for the run itself, called "", and one per server,
    called as the plan calls the server. The name is in every hash through the first one, and the
    run through each, so no record of one chain fits into another. The run chain, and the only
    chain of a run on one machine, begins with zeros.
    """
    return hashlib.sha256(b"chain\n" + chain.encode()).digest() if chain else GENESIS


def beginning_of(chain: str) -> Position:
    """Return the place before the first record of a chain."""
    return Position(0, genesis(chain))


class Mark(Struct, frozen=True):
    """A place in the records of a run: how far each of its chains was read.

    A store makes it and takes it back; who reads looks at nothing but `head`. Marks are equal if
    nothing was recorded in between.
    """

    positions: Mapping[str, Position] = field(default_factory=dict)

    def of(self, chain: str) -> Position:
        """Return how far a chain was read."""
        return self.positions.get(chain) or beginning_of(chain)

    @property
    def head(self) -> str:
        """Hash of the last record of the run's own chain, as hex: what reports name."""
        return self.of(RUN_CHAIN).hash.hex()

    def past(self, records: Iterable[Record]) -> Mark:
        """Return the mark behind `records`, which begin at this one and have no gap."""
        last = {record.chain: record for record in records}
        read = {chain: Position(each.seq, each.hash) for chain, each in last.items()}
        return Mark({**self.positions, **read})


BEGINNING = Mark()
"""Before the first record of a run."""

Row = tuple[int, float, str, bytes, bytes | None]
"""A record as it is kept: seq, at, type, body, and its hash; None: it is not as it was written."""


def chain_hash(before: bytes, run: str, seq: int, kind: str, body: bytes) -> bytes:
    """Return the hash that ties a record to everything before it in its run."""
    digest = hashlib.sha256(before)
    digest.update(f"\n{run}\n{seq}\n{kind}\n".encode())
    digest.update(body)
    return digest.digest()


Entry = TypeVar("Entry", Record, Event)
"""A record, or the event in it."""


def merged(chains: Mapping[str, Iterable[Entry]]) -> Iterator[Entry]:
    """Yield what several chains of a run hold in one order: by time, then by the chain's name.

    Each chain stays in its own order, and RunStarted comes first. The clocks of two writers differ
    a little, so what one did because of the other may come before it: the fold of a run must not
    depend on it, see `RunState`. The chains are read as they are needed.
    """
    return heapq.merge(*(chains[name] for name in sorted(chains)), key=_turn)


def _turn(entry: Record | Event) -> tuple[bool, float]:
    kind = entry.kind if isinstance(entry, Record) else type(entry).__name__
    return kind != RunStarted.__name__, entry.at


class RunSummary(Struct, frozen=True, kw_only=True):
    """One line of the list of runs."""

    run: RunId
    plan: str
    plan_path: str
    started_at: datetime
    report_dir: str


class Stall(Struct, frozen=True, kw_only=True):
    """Who works on a run and does not move: `since` when, as far as can be seen from here.

    `who` is a process and its machine, in words. It may move again, and then goes on.
    """

    since: datetime
    who: str


def checked(
    run: RunId, rows: Iterable[Row], after: Position | None = None, chain: str = RUN_CHAIN
) -> Iterator[Record]:
    """Yield the records of one chain behind `after`, each only after it was found in its place.

    None: from its first one. What their bodies say is not looked at.

    Raises:
        JournalDamaged: names the first record that is not what was written.
    """
    after = after or beginning_of(chain)
    head, expected, where = after.hash, after.seq + 1, _place(run, chain)
    for seq, at, kind, body, stored in rows:
        if seq != expected:
            raise JournalDamaged(f"record {expected} of {where} is missing")
        head = chain_hash(head, run, seq, kind, body)
        if head != stored:
            raise JournalDamaged(f"record {seq} ({kind}) of {where} is not what was written")
        yield Record(run=run, seq=seq, kind=kind, at=at, body=body, hash=head, chain=chain)
        expected += 1


def event_of(record: Record) -> Event:
    """Return the event in a record.

    Raises:
        JournalDamaged: it cannot be read, or its time is not the one in its body.
    """
    named = f"record {record.seq} ({record.kind}) of {_place(record.run, record.chain)}"
    event = read_event(record.kind, record.body, named)
    if event.at != record.at:  # the one column that the hash holds only within the body
        raise JournalDamaged(f"{named} is not what was written")
    return event


def _place(run: str, chain: str) -> str:
    return f"run {run}, chain {chain!r}" if chain else f"run {run}"


def read_event(kind: str, body: bytes, record: str) -> Event:
    """Return the event in a record's body; `record` names it.

    Raises:
        JournalDamaged: it cannot be read.
    """
    try:
        return from_json(kind, body)
    except JournalDamaged as exc:
        raise JournalDamaged(f"{record} cannot be read: {exc}") from exc


def as_mapping(body: bytes) -> Mapping[str, Any]:
    """Return a record's body, or nothing if it cannot be read."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@lru_cache(maxsize=256)
def server_address(url: str) -> str:
    """Return what identifies a server in every plan: its address, however it is written."""
    return re.sub(r"\.(?=(:\d+)?$)", "", url.rstrip("/").casefold())
