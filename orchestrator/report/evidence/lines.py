"""journal.jsonl: one line per record, and reading it back with its chain checked.

A line holds the text that was hashed, not a rendering of it, so that the chain can be
computed again with any SHA-256: hash = SHA-256(hash before + "\n" run "\n" seq "\n" type "\n" +
body), the hash before the first record being 32 zero bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from orchestrator.core.model import RunId
from orchestrator.core.records import GENESIS, Record, chain_hash
from orchestrator.core.text import printable

MAX_LINE = 64 * 1024 * 1024
"""Bytes of a line; no record of ours is nearly that long."""


class RecordsChanged(Exception):
    """A record was changed, dropped, moved or inserted; the message names it."""


def line(record: Record) -> bytes:
    """Return a record as its line: ASCII, so that nothing in it steers a terminal."""
    values = {
        "run": record.run,
        "seq": record.seq,
        "type": record.kind,
        "at": record.at,
        "body": record.body.decode("utf-8"),
        "hash": record.hash.hex(),
    }
    return json.dumps(values, separators=(",", ":")).encode("ascii") + b"\n"


def read(file: BinaryIO, run: RunId) -> Iterator[Record]:
    """Yield the records of `run` in `file`, each one only after it was found in its place.

    Raises:
        Refuted: names the first record that was changed, dropped, moved or inserted.
    """
    head, expected = GENESIS, 1
    while raw := file.readline(MAX_LINE):
        record = _record(raw, expected)
        named = f"record {record.seq} ({printable(record.kind, 60)})"
        if record.run != run:
            raise RecordsChanged(f"{named} is one of another run, {printable(record.run, 60)}")
        if record.seq > expected:
            raise RecordsChanged(
                f"record {expected} is missing: record {record.seq} is in its place"
            )
        if record.seq < expected:
            raise RecordsChanged(f"{named} is where record {expected} should be: repeated or moved")
        head = chain_hash(head, record.run, record.seq, record.kind, record.body)
        if head != record.hash:
            raise RecordsChanged(
                f"{named} is not what was written, or not what was written after record "
                f"{expected - 1}"
            )
        yield record
        expected += 1


def _record(raw: bytes, expected: int) -> Record:
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
        )
        if type(record.seq) is int and line(record) == raw:
            return record
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise RecordsChanged(f"record {expected} is not written as it was: its line was changed")
