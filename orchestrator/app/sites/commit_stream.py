"""The commits of one worker: one at a time, each with all that its shards have to write.

While one is under way the next gathers, so a worker of a hundred shards makes no more commits
than a worker of one. An intent is written at once, and with many shards after a moment in which
those of others come, too. An unmount waits a moment for others, or for an intent to go with; what
nobody waits for goes with either, or half a second later. A commit whose answer is lost is
repeated: what is there is found.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import anyio

from orchestrator.app.sites.chain import Chain
from orchestrator.core.errors import DatabaseAway
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.sites import Appended, Piece, WorkerId
from orchestrator.engine.bounded import set_within
from orchestrator.log import Log

log = Log(__name__)

AGAIN_S = 1.0
"""Seconds after which a commit is repeated that the database did not answer."""

FLUSH_S = 0.5
"""Seconds after which is written what nobody waits for."""

NEWEST = 8
"""Commits by which is known how long one takes at its best: an unmount waits as long for an intent
to go with. Sent by itself, the next mount would wait for it, and then for its own commit."""

GATHER_AT_MOST_S = 0.25
"""However long a commit takes."""

FEW, SHARE_S, CROWDED_S = 10, 0.0025, 0.1
"""Where more than so many shards had something to write lately, an intent waits so many seconds
for each one above that, and no longer than the last. A commit for each would be costly."""

LATELY_S = 30.0


class CommitStream:
    """Writes the chains of a worker."""

    def __init__(
        self, database: SitesDatabase, worker: WorkerId, clock: Callable[[], float]
    ) -> None:
        """Nothing is written before `serve`."""
        self._database, self._worker, self._clock = database, worker, clock
        self._chains: list[Chain] = []
        self._attempt = 0
        self._write_at = math.inf
        self._sooner = anyio.Event()
        self._took: deque[float] = deque(maxlen=NEWEST)
        self._written_at: dict[Chain, float] = {}
        self._gathers_s = 0.0
        """For how long an intent waits for those of other shards."""
        self.commits = 0
        """How many were made."""
        self.away_since: float | None = None
        """Since when the database has not answered, on this machine's clock."""

    def wake(self) -> None:
        """Write what the chains have, at once or nearly: a mount waits for it."""
        self._write_within(self._gathers_s)

    def shortly(self) -> None:
        """Write what the chains have, with what others have in a moment: somebody waits for it."""
        best = min(*self._took, GATHER_AT_MOST_S) if self._took else 0.0
        self._write_within(max(best, self._gathers_s))

    def soon(self) -> None:
        """Write what the chains have, with what follows: nobody waits for it."""
        self._write_within(FLUSH_S)

    def _write_within(self, seconds: float) -> None:
        at = anyio.current_time() + seconds
        if at < self._write_at:
            self._write_at = at
            self._sooner.set()

    def add(self, chain: Chain) -> None:
        """Write a chain, too."""
        self._chains.append(chain)
        self.wake()

    def remove(self, chain: Chain) -> None:
        """Write nothing more of a chain."""
        self._chains.remove(chain)
        self._written_at.pop(chain, None)

    async def serve(self) -> None:
        """Write until cancelled.

        Raises:
            DatabaseUnusable: this account may not write there any more.
        """
        while True:
            while (left := self._write_at - anyio.current_time()) > 0:
                await set_within(self._sooner, left)
                self._sooner = anyio.Event()
            self._write_at = math.inf
            chains = [(chain, piece) for chain in self._chains if (piece := chain.piece())]
            if chains:
                await self._commit(chains)

    async def _commit(self, chains: list[tuple[Chain, Piece]]) -> None:
        """Write some pieces, as often as it takes."""
        began = anyio.current_time()
        answers = await self._answers([piece for _, piece in chains])
        self._took.append(anyio.current_time() - began)
        self.commits += 1
        if self.away_since is not None:
            log.info("database.back", after_s=round(self._clock() - self.away_since, 1))
            self.away_since = None
        now, at = self._clock(), anyio.current_time()
        self._written_at.update((chain, at) for chain, _ in chains if chain in self._chains)
        busy = sum(at - written < LATELY_S for written in self._written_at.values())
        self._gathers_s = min(max(busy - FEW, 0) * SHARE_S, CROWDED_S)
        for (chain, piece), answer in zip(chains, answers, strict=True):
            chain.answered(piece, answer, now)
            if chain.is_owed:
                self._write_within(0.0)
            elif chain.is_behind:
                self.soon()
        if any(chain.is_put_off for chain, _ in chains):
            await anyio.sleep(AGAIN_S)

    async def _answers(self, pieces: list[Piece]) -> Sequence[Appended]:
        while True:
            self._attempt += 1
            try:
                return await self._database.append(self._worker, self._attempt, pieces)
            except DatabaseAway as exc:
                if self.away_since is None:
                    self.away_since = self._clock()
                    log.warning("database.away", why=str(exc))
            await anyio.sleep(AGAIN_S)
