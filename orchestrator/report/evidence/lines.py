"""journal.jsonl: one line per record, and reading it back with its chain checked.

A line holds the text that was hashed, not a rendering of it, so that the chain can be
computed again with any SHA-256: hash = SHA-256(hash before + "\n" run "\n" seq "\n" type "\n" +
body), the hash before the first record being 32 zero bytes. A run over several machines has more
chains: the lines of each name it, and the hash before its first record is `records.genesis`. They
stand in the order of `records.merged`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from math import isfinite
from typing import BinaryIO

from orchestrator.core.model import RunId
from orchestrator.core.records import RUN_CHAIN, Position, Record, beginning_of, chain_hash
from orchestrator.core.text import printable

MAX_LINE = 64 * 1024 * 1024
"""Bytes of a line; no record of ours is nearly that long."""


_quoted = json.JSONEncoder().encode
"""Return a value as JSON. To encode a line as a whole takes three times as long."""


class RecordsChanged(Exception):
    """A record was changed, dropped, moved or inserted; the message names it."""


def line(record: Record) -> bytes:
    """Return a record as its line: ASCII, so that nothing in it steers a terminal."""
    chain = f'"chain":{_quoted(record.chain)},' if record.chain != RUN_CHAIN else ""
    return (
        f'{{"run":{_quoted(record.run)},{chain}"seq":{record.seq},"type":{_quoted(record.kind)},'
        f'"at":{_number(record.at)},"body":{_quoted(record.body.decode("utf-8"))},'
        f'"hash":"{record.hash.hex()}"}}\n'
    ).encode("ascii")


def _number(at: float) -> str:
    """Return a time as JSON has it; what a journal cannot hold, but a damaged one may, as well."""
    return repr(at) if type(at) is float and isfinite(at) else _quoted(at)


def read(file: BinaryIO, run: RunId, chains: Collection[str] = (RUN_CHAIN,)) -> Iterator[Record]:
    """Yield the records of `run` in `file`, each one only after it was found in its place.

    Raises:
        RecordsChanged: names the first record that was changed, dropped, moved or inserted, or
            belongs to none of these chains.
    """
    ends = {chain: beginning_of(chain) for chain in chains}
    number = 0
    while raw := file.readline(MAX_LINE):
        number += 1
        record = _record(raw, f"record {number}" if len(ends) == 1 else f"line {number}")
        if record.run != run:
            raise RecordsChanged(
                f"{_named(record)} is one of another run, {printable(record.run, 60)}"
            )
        end = ends.get(record.chain)
        if end is None:
            raise RecordsChanged(
                f"{_named(record)} is of a chain that is not named: records were added or moved"
            )
        _require_place(record, end, ends)
        yield record
        ends[record.chain] = Position(record.seq, record.hash)


def _require_place(record: Record, end: Position, ends: dict[str, Position]) -> None:
    """Check that a record is the next one of its chain, which has come to `end`."""
    expected, of = end.seq + 1, chain_words(record.chain)
    if record.seq > expected:
        raise RecordsChanged(
            f"record {expected}{of} is missing: record {record.seq} is in its place"
        )
    if record.seq < expected:
        raise RecordsChanged(
            f"{_named(record)} is where record {expected}{of} should be: repeated or moved"
        )
    if _follows(record, end):
        return
    other = next((chain for chain, each in ends.items() if _follows(record, each)), None)
    if other is not None:
        raise RecordsChanged(f"{_named(record)} is one{chain_words(other) or ' of the run itself'}")
    raise RecordsChanged(
        f"{_named(record)} is not what was written, or not what was written after record {end.seq}"
    )


def _follows(record: Record, end: Position) -> bool:
    return record.hash == chain_hash(end.hash, record.run, record.seq, record.kind, record.body)


def chain_words(chain: str) -> str:
    """Return what follows on the number of a record: of which chain it is, unless the run's own."""
    return f" of chain {printable(chain, 60)}" if chain != RUN_CHAIN else ""


def _named(record: Record) -> str:
    return f"record {record.seq} ({printable(record.kind, 60)}){chain_words(record.chain)}"


def _record(raw: bytes, named: str) -> Record:
    """Return the record of a line that is, byte for byte, how its record is written."""
    try:
        values = json.loads(raw)
        record = Record(
            run=values["run"],
            seq=values["seq"],
            kind=values["type"],
            at=values["at"],
            body=values["body"].encode("utf-8"),
            hash=bytes.fromhex(values["hash"]),
            chain=values.get("chain", RUN_CHAIN),
        )
        texts = (record.run, record.kind, record.chain)
        is_typed = type(record.seq) is int and all(type(each) is str for each in texts)
        if is_typed and line(record) == raw:
            return record
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise RecordsChanged(f"{named} is not written as it was: its line was changed")
