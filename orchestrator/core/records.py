"""A run's records as they are kept: chained by hashes, so that a change is found.

The journal writes them, the evidence copies and checks them, the history counts them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from orchestrator.core.model import RunId
from orchestrator.core.run_state import RunState

GENESIS = b"\x00" * 32
"""What the first record of a run is chained to."""


class Record(Struct, frozen=True, kw_only=True):
    """One record as it was chained: `body` is the very bytes that its `hash` covers."""

    run: str
    seq: int
    kind: str
    at: float
    body: bytes
    hash: bytes


def chain_hash(before: bytes, run: str, seq: int, kind: str, body: bytes) -> bytes:
    """Return the hash that ties a record to everything before it in its run."""
    digest = hashlib.sha256(before)
    digest.update(f"\n{run}\n{seq}\n{kind}\n".encode())
    digest.update(body)
    return digest.digest()


class RunSummary(Struct, frozen=True, kw_only=True):
    """One line of the list of runs."""

    run: RunId
    plan: str
    plan_path: str
    started_at: datetime
    report_dir: str


class RecordedRuns(Protocol):
    """Where the records of runs are read; reading changes nothing.

    Raises:
        JournalDamaged: a record is not what was written.
    """

    def records(self, run: RunId) -> Iterator[Record]:
        """Yield the records of a run, each checked against the chain."""

    def replay(self, run: RunId) -> RunState:
        """Return what the records of a run add up to."""


def server_address(url: str) -> str:
    """Return what identifies a server in every plan: its address, however it is written."""
    return re.sub(r"\.(?=(:\d+)?$)", "", url.rstrip("/").casefold())
