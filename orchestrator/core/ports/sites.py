"""The database of a run over several machines; `core.sites` has its values and their words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from orchestrator.core.model import RunId, ServerName, SessionId
from orchestrator.core.records import Record
from orchestrator.core.sites import (
    Appended,
    Ask,
    ChainHead,
    Held,
    Holder,
    Lease,
    Piece,
    Quota,
    Request,
    RunRow,
    SealedToken,
    ShardRow,
    Standing,
    Submission,
    Taken,
    WorkerFacts,
    WorkerId,
)


class SitesDatabase(Protocol):
    """What workers, conductors and readers ask of the database.

    Every call is one transaction and may be repeated, also when its answer was lost. All raise
    DatabaseAway (it may have happened; repeat it) and DatabaseUnusable (no right to it, or not
    our tables).
    """

    async def now(self) -> datetime:
        """Return the database's clock, which is the only one that decides."""

    async def submit(self, submission: Submission) -> None:
        """Make a run with its shards and its first record, RunStarted. Needs no secret.

        Its limits and its deadline are those of `started`. The deadline counts from now.

        Raises:
            RunLocked: a run of this plan is open.
        """

    async def submission(self, run: RunId) -> Submission:
        """Return what was submitted.

        Raises:
            RunNotFound: there is no such run.
        """

    async def enter(self, worker: WorkerFacts) -> None:
        """Say that a worker is there. Before it has entered, it can take nothing."""

    async def leave(self, worker: WorkerId) -> None:
        """Say that a worker has ended: all that it still held is given back."""

    async def take(
        self,
        worker: WorkerId,
        sites: Sequence[str],
        room: int,
        *,
        run: RunId | None = None,
        expired: bool = True,
    ) -> Sequence[Taken]:
        """Take all conductors, and up to `room` shards of these sites, that nobody serves.

        Those that were given back in turn come last, longest ago first; else those of runs in
        recovery mode come first, then the oldest. Of shards that have one address only one has
        the right to post, until it is done or only holds; the others are not offered. Shards that
        only hold are always offered. `run` takes those of one run only.

        Leases that have expired are taken if `expired`, and for one lease life after the
        database began to run not at all, so that living holders renew first. A worker that could
        not reach the database waits as long by itself, with `expired` False.
        If the answer is lost, what was taken expires.

        Raises:
            NotEntered: the worker has to enter first; a database that failed over has lost that.
        """

    async def renew(self, worker: WorkerId, held: Sequence[Held]) -> Sequence[Standing]:
        """Renew the leases that are still this worker's; return those and no others.

        Also one that has expired, if nobody took it. Without leases: say that the worker lives.
        """

    async def give_back(
        self, worker: WorkerId, leases: Sequence[Lease], *, in_turn: bool = False
    ) -> None:
        """Offer shards to others at once. Those that another worker holds are left alone.

        `in_turn`: others that wait for a worker are to be taken before them.
        """

    async def append(
        self, worker: WorkerId, attempt: int, pieces: Sequence[Piece]
    ) -> Sequence[Appended]:
        """Continue several chains in one commit; return what became of each piece, in order.

        `attempt` rises with every call of a worker, also when it repeats one: what arrives late
        writes nothing. An intent is granted only while the run is open, neither halted nor
        stopped, within its deadline, its wave open, the right to post this shard's and quota left.
        """

    async def share(
        self, worker: WorkerId, conductor: Lease, wanted: Mapping[ServerName, int]
    ) -> Mapping[ServerName, Quota]:
        """Give the shards of a run their parts of its limit; return what they have now.

        Lowered first, but to no fewer than are used; then raised, in the order of `wanted`, as
        far as the limit allows. The sum never exceeds it. A run without a limit has no quotas.
        For one lease life after a failover nothing changes: it may have lost what is open.

        Raises:
            Fenced: another worker conducts.
        """

    async def ask(self, run: RunId, ask: Ask, details: Mapping[str, object]) -> int:
        """Ask something of a run; return the request's number.

        Repeated, it is recorded once more and changes nothing more.

        Raises:
            RunNotFound: there is no such run.
            RunLocked: to resume, while another run of its plan is open.
        """

    async def requests(self, run: RunId, after: int = 0) -> Sequence[Request]:
        """Return the requests about a run whose numbers are higher, in order."""

    async def keep_token(
        self, worker: WorkerId, lease: Lease, session: SessionId, sealed: bytes
    ) -> None:
        """Store a session's sealed token until `drop_token`, or the end of the shard.

        Raises:
            Fenced: another worker has the lease, or the shard is done.
        """

    async def tokens(self, worker: WorkerId, lease: Lease) -> Sequence[SealedToken]:
        """Return the sealed tokens of a shard, also those that earlier workers stored.

        Raises:
            Fenced: another worker has the lease.
        """

    async def drop_token(self, worker: WorkerId, lease: Lease, session: SessionId) -> None:
        """Delete a token: its session has ended.

        Raises:
            Fenced: another worker has the lease.
        """

    async def runs(self) -> Sequence[RunRow]:
        """Return all runs, the newest first."""

    async def shards(self, run: RunId) -> Sequence[ShardRow]:
        """Return the shards of a run, the conductor first, then by name."""

    async def undone(self, sites: Sequence[str], *, run: RunId | None = None) -> Sequence[ShardRow]:
        """Return what is left to do of runs that are open, or to be unmounted, in any order.

        The conductors, and the shards of these sites; with `run`, of one run only.
        """

    async def workers(self) -> Sequence[Holder]:
        """Return the workers that have entered and not left, with how long ago each was seen."""

    async def heads(self, run: RunId) -> Mapping[ServerName, ChainHead]:
        """Return where each chain of a run ends, all at one instant; without records: its start."""

    async def records(
        self, run: RunId, after: Mapping[ServerName, int], *, most: int = 5000
    ) -> Mapping[ServerName, Sequence[Record]]:
        """Return of several chains the records behind a number of each, in order, in one question.

        At most `most` of each; chains without any are left out. They are not checked.
        """

    def changes(self) -> AsyncIterator[RunId]:
        """Yield the runs about which something was written, from now on; "" when one is offered.

        Only a hint: some are never heard, so look now and then as well.

        Raises:
            DatabaseAway: the connection is lost; what came meanwhile is not heard.
        """

    async def aclose(self) -> None:
        """Close every connection."""
