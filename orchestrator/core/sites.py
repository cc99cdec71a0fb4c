"""One run over several machines: leases, chains, requests and tokens, as values.

A *shard* is one server's part of a run; the one called `CONDUCTOR` is the run itself. A *worker* is
a process that serves shards. Who holds a shard's *lease* alone writes its chain and changes its
server; every taking has a higher epoch. The database's clock decides which lease has expired.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType

from msgspec import Struct, field

from orchestrator.core.events import RunStarted
from orchestrator.core.model import MountKey, RunId, ServerName, SessionId, WaveName
from orchestrator.core.records import Record

WorkerId = NewType("WorkerId", str)
"""One process: unique, also among those of one machine."""

CONDUCTOR = ServerName("")
"""The shard of a run that is no server's. It conducts the run, and its chain is the run chain."""

LEASE_LIFE_S = 6.0
"""Seconds after a renewal, by the database's clock, after which others may take a lease."""

RENEW_EVERY_S = 1.5
"""Seconds between two renewals."""


class ChainHead(NamedTuple):
    """The last record of a chain: its number and its hash."""

    seq: int
    hash: bytes


class Lease(Struct, frozen=True, kw_only=True):
    """The right to serve a shard; `epoch` tells it from every other right to that server."""

    run: RunId
    server: ServerName
    epoch: int


# --- what a run consists of ------------------------------------------------------------------


class ShardFacts(Struct, frozen=True, kw_only=True):
    """One server of a run. `address` is what `records.server_address` returns for its URL."""

    server: ServerName
    site: str
    address: str


class Submission(Struct, frozen=True, kw_only=True):
    """A run as it is submitted: the plan's bytes and everything that it names.

    `documents` are the files that it names, by the names that the plan has for them. `options`
    are those of the command, as JSON; the database does not read them.
    """

    started: RunStarted
    plan: bytes
    documents: Mapping[str, bytes]
    shards: tuple[ShardFacts, ...]
    options: Mapping[str, object] = field(default_factory=dict)


class Stop(StrEnum):
    """How a run was asked to stop: as by a first signal, or by a second."""

    GENTLY = "gently"
    NOW = "now"


class RunRow(Struct, frozen=True, kw_only=True):
    """One run in the list of runs."""

    run: RunId
    plan: str
    submitted_at: datetime
    is_open: bool
    halted: str | None = None
    stopped: Stop | None = None
    unmount: bool = False


class ShardState(StrEnum):
    """What is left to do of a shard."""

    OPEN = "open"
    HOLDING = "holding"
    """It only keeps mounts open, or removes them: it posts none, and lets other runs post."""
    DONE = "done"


class Holder(Struct, frozen=True, kw_only=True):
    """A worker, as others see it. `seen_s`: seconds since it was last heard of."""

    worker: WorkerId
    host: str
    pid: int
    version: str
    sites: tuple[str, ...]
    seen_s: float


class ShardRow(Struct, frozen=True, kw_only=True):
    """A shard of a run, as anybody may see it.

    `worker` has its lease, which lives for `lease_s` seconds more; one that is not positive has
    expired. `site` is None for the conductor. `wants` is how many mounts it could begin, as its
    worker said; `used` how many it has in the making, open or in doubt; `quota` how many it may.
    `waits_for` is the run that has the right to post on the same server.
    """

    server: ServerName
    site: str | None
    address: str
    state: ShardState
    epoch: int
    worker: WorkerId | None = None
    since: datetime | None = None
    lease_s: float | None = None
    takeovers: int = 0
    quota: int | None = None
    used: int = 0
    wants: int = 0
    waits_for: RunId | None = None

    @property
    def is_served(self) -> bool:
        """True while a worker has its lease, and that lives."""
        return self.worker is not None and self.lease_s is not None and self.lease_s > 0


# --- what a worker does ----------------------------------------------------------------------


class WorkerFacts(Struct, frozen=True, kw_only=True):
    """Who a worker is and which sites it serves."""

    worker: WorkerId
    host: str
    pid: int
    version: str
    sites: tuple[str, ...]


class Held(Struct, frozen=True, kw_only=True):
    """A lease that its holder renews; `wants`: how many more mounts it could begin at once."""

    lease: Lease
    wants: int = 0


class Standing(Struct, frozen=True, kw_only=True):
    """What the holder of a lease has to know, as of a renewal.

    `at` is the run's clock in seconds, by the database. `waves` are open; of those `skipped`
    nothing is submitted any more, for the reason given. `deadline_s` is how much of the run's
    time is left. `posts` tells whether the shard has the right to post on its server. `quota` is
    how many mounts it may have in the making, open or in doubt; None: as many as it likes.
    `asked` is the number of the newest request about the run; 0: there is none. `head` is where the
    shard's chain ends: before what its holder has written, if the database has lost that.
    """

    lease: Lease
    at: float
    waves: frozenset[WaveName]
    posts: bool
    skipped: Mapping[WaveName, str] = field(default_factory=dict)
    halted: str | None = None
    stopped: Stop | None = None
    unmount: bool = False
    quota: int | None = None
    deadline_s: float | None = None
    asked: int = 0
    head: ChainHead = ChainHead(0, b"")


class Taken(Struct, frozen=True, kw_only=True):
    """A shard that was taken, and where its chain ends.

    `taken_from` is the worker whose lease had expired; None: it was given back, or never served.
    """

    standing: Standing
    site: str | None
    address: str
    state: ShardState
    head: ChainHead
    taken_from: WorkerId | None = None


# --- what is written -------------------------------------------------------------------------


class Intent(Struct, frozen=True, kw_only=True, tag="intent"):
    """About to post: allowed or refused in the transaction that records it. Takes a slot.

    `wave_limit` is how many slots its wave may have over all shards; None: the plan names no limit.
    `granted`: it was allowed, and acted on, before the database lost that; nothing is asked then.
    """

    key: MountKey
    wave: WaveName
    wave_limit: int | None = None
    granted: bool = False


class Freed(Struct, frozen=True, kw_only=True, tag="freed"):
    """The slot of a target is free. `seconds` of its mount, if later runs should expect them."""

    key: MountKey
    vm: str = ""
    seconds: float | None = None
    simulated: bool = False


class WaveOpened(Struct, frozen=True, kw_only=True, tag="opened"):
    """From now on intents of this wave are granted. Only in the run chain."""

    wave: WaveName


class WaveSkipped(Struct, frozen=True, kw_only=True, tag="skipped"):
    """No intent of this wave is granted any more; shards learn why. Only in the run chain."""

    wave: WaveName
    reason: str


class Halted(Struct, frozen=True, kw_only=True, tag="halted"):
    """From now on no intent of the run is granted. Only in the run chain."""

    reason: str


class Ended(Struct, frozen=True, kw_only=True, tag="ended"):
    """The run is over: its plan may be submitted again. Only in the run chain."""


class OnlyHolds(Struct, frozen=True, kw_only=True, tag="holding"):
    """The shard posts no more and only keeps mounts open: other runs may post on its server."""


class ShardDone(Struct, frozen=True, kw_only=True, tag="done"):
    """Nothing of the shard is left to do; nobody need serve it.

    The tokens of the sessions that are `over` are deleted: one of them may have been stored late,
    or be back since a failover.
    """

    over: tuple[SessionId, ...] = ()


Effect = Intent | Freed | WaveOpened | WaveSkipped | Halted | Ended | OnlyHolds | ShardDone
"""What a record changes beside the chain, in the same transaction."""


class Entry(Struct, frozen=True, kw_only=True):
    """A record to append, and what it changes beside the chain."""

    record: Record
    effect: Effect | None = None


class Piece(Struct, frozen=True, kw_only=True):
    """The next records of one chain, which is called as the lease's server."""

    lease: Lease
    entries: tuple[Entry, ...]


class Outcome(StrEnum):
    """What became of a piece."""

    WRITTEN = "written"
    REPEATED = "repeated"
    """All of it was there already."""
    REFUSED = "refused"
    """An intent is not granted: nothing from it on was written."""
    FENCED = "fenced"
    """Another worker has the lease by now: nothing was written."""
    STALE = "stale"
    """It came after a later attempt: nothing was written."""
    UNFIT = "unfit"
    """It does not continue the chain: nothing from the first wrong record on was written."""


class Refusal(StrEnum):
    """Why an intent is not granted, or a pin not recorded."""

    CLOSED = "closed"
    """The run is over."""
    HALTED = "halted"
    STOPPED = "stopped"
    DEADLINE = "deadline"
    WAVE = "wave"
    """Its wave is not open, or is skipped."""
    WAVE_LIMIT = "wave limit"
    ADDRESS = "address"
    """Another run has the right to post on this server, or the shard only holds."""
    SETTLING = "settling"
    """The database has just failed over: what is open is written again before more is given.

    Also of a pin: what it covers is not there, or not the same.
    """
    QUOTA = "quota"


class Misfit(StrEnum):
    """Why a piece does not continue its chain."""

    GAP = "gap"
    """The chain is shorter than the writer thinks; so after a failover that lost records."""
    FORK = "fork"
    """Another record is there under this number."""
    HASH = "hash"
    """A record's hash does not follow from the record before it."""
    EFFECT = "effect"
    """An intent without its effect, or an effect that this chain may not have."""


class Appended(Struct, frozen=True, kw_only=True):
    """What became of one piece, and where its chain ends now.

    With `REFUSED` and `UNFIT`, `head` is the last record before the one that was not written;
    what comes before that one is in the chain. `head` is None for who is fenced.
    """

    lease: Lease
    outcome: Outcome
    head: ChainHead | None = None
    refusal: Refusal | None = None
    misfit: Misfit | None = None


class Quota(NamedTuple):
    """How many mounts a shard may have, and how many it has in the making, open or in doubt."""

    quota: int | None
    used: int


class Ask(StrEnum):
    """What anybody with the role may ask of a run."""

    STOP = "stop"
    STOP_NOW = "stop-now"
    UNMOUNT = "unmount"
    RESUME = "resume"


class Request(Struct, frozen=True, kw_only=True):
    """A request about a run: who asked for it, and when. `details` are as they were given."""

    number: int
    ask: Ask
    who: str
    at: datetime
    details: Mapping[str, object]


class SealedToken(Struct, frozen=True, kw_only=True):
    """A session's token, sealed, and the epoch in which it was; both are needed to unseal it."""

    session: SessionId
    epoch: int
    sealed: bytes
