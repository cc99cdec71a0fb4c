"""One worker: it takes shards of its sites that nobody serves, and serves them until stopped."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from orchestrator.app.sites.onlooker import Onlooker
from orchestrator.app.sites.served import Served
from orchestrator.app.sites.served_conductor import ServedConductor
from orchestrator.app.sites.served_shard import ServedShard
from orchestrator.app.sites.serving import Serving, SubmittedRun
from orchestrator.app.sites.turns import Turns
from orchestrator.core.errors import DatabaseAway, NotEntered
from orchestrator.core.model import RunId
from orchestrator.core.sites import CONDUCTOR, LEASE_LIFE_S, Held, Lease, ShardRow, Standing, Taken
from orchestrator.engine.bounded import set_within
from orchestrator.log import Log

log = Log(__name__)

LOOK_S = 1.0
"""Seconds between two looks for shards that nobody serves; a notification comes sooner."""

UNSEEN_S = LEASE_LIFE_S / 2
"""Seconds without an answer after which the database may have been away, and leases have expired
only because nobody could renew them."""

LAST_TRIES = 3
"""How often a worker that ends tries to say so; else its leases expire."""


class Renewals(Protocol):
    """What renews a worker's leases beside its event loop."""

    def hold(self, held: Callable[[], Sequence[Held]]) -> None:
        """Renew from now on what `held` returns, asked for in the event loop."""

    def now(self) -> None:
        """Renew soon: what a renewal tells may have changed. Safe to repeat."""

    async def serve(
        self, tell: Callable[[Sequence[Held], Sequence[Standing], float], None]
    ) -> None:
        """Renew until cancelled.

        `tell` is called in the event loop after each renewal: with what was to be renewed, what
        was, and when the statement was sent, on this machine's clock.
        """


class Terms(Struct, frozen=True, kw_only=True):
    """What a worker is to serve."""

    sites: tuple[str, ...]
    room: int = 50
    """Servers of runs at once. What it conducts takes none."""
    run: RunId | None = None
    """The only run of which it takes anything; None: of all."""
    until_idle: bool = False
    """Whether it ends when no open run has a shard for it."""


class Worker:
    """Serves shards until it is stopped."""

    def __init__(
        self,
        serving: Serving,
        renewals: Renewals,
        terms: Terms,
        on_long_away: Callable[[Sequence[str]], object] = lambda mounted: None,
        onlooker: Onlooker | None = None,
    ) -> None:
        """Nothing is asked of the database before `serve`.

        `on_long_away` is told what is known to be mounted once a database has been away for longer
        than `limits.outage` of a run: nobody sees it anywhere else.
        """
        self._on_long_away = on_long_away
        self._onlooker = onlooker or Onlooker()
        self._left_open = 0
        """Mounts that may be open of what was handed over."""
        self._serving, self._renewals, self._terms = serving, renewals, terms
        self._served: dict[tuple[RunId, str], Served] = {}
        self._epochs: dict[tuple[RunId, str], int] = {}
        """Of each shard the latest that was served here."""
        self._runs: dict[RunId, SubmittedRun] = {}
        self._turns = Turns()
        self._is_outage_told = False
        self._leaving = anyio.Event()
        self._woken = anyio.Event()
        self._answered_at = serving.clock()
        self._may_take_expired_at = 0.0
        self.failed = False
        """Whether an error that nobody foresaw was met."""

    def leave(self) -> None:
        """Hand everything over and end. Safe to repeat."""
        self._leaving.set()
        self._woken.set()

    def mounted(self) -> Sequence[str]:
        """Return a line for each mount that may be open: server, machine, mount and task."""
        return [line for served in self._served.values() for line in served.mounted()]

    def wake(self) -> None:
        """Look now: something may want serving."""
        self._woken.set()

    def heard(self, run: RunId) -> None:
        """Note that something was written about a run: its shards here learn it now."""
        if any(served == run for served, _ in self._served):
            self._renewals.now()
        else:
            self.wake()

    async def serve(self) -> None:
        """Take and serve shards until `leave`, or until nothing is left with `until_idle`.

        Raises:
            DatabaseUnusable: this account may not, or it is none of ours.
        """
        serving = self._serving
        await self._enter(tries=math.inf)
        self._onlooker.entered()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serving.stream.serve)
            self._renewals.hold(lambda: [each.held for each in self._served.values()])
            tasks.start_soon(self._renewals.serve, self._tell)
            tasks.start_soon(self._watch_outages)
            async with anyio.create_task_group() as shards:
                await self._take_until_left(shards)
                for each in list(self._served.values()):
                    shards.start_soon(self._hand_over, each)
            if self._leaving.is_set():
                self._onlooker.handed_over(self._left_open)
            tasks.cancel_scope.cancel()
        leave = partial(serving.database.leave, serving.worker.worker)
        await self._patiently(leave, tries=LAST_TRIES)

    async def _watch_outages(self) -> None:
        """Say what is mounted, once each time that the database is away for too long."""
        while True:
            await anyio.sleep(LOOK_S)
            now = self._serving.clock()
            late = [each for each in self._served.values() if each.is_unheard(now)]
            if not late:
                self._is_outage_told = False
            elif not self._is_outage_told:
                self._is_outage_told = True
                self._on_long_away([line for each in late for line in each.mounted()])

    async def _take_until_left(self, shards: TaskGroup) -> None:
        while not self._leaving.is_set():
            self._woken = anyio.Event()
            taken = await self._taken()
            for each in taken:
                await self._begin(each, shards)
            if self._room <= 0 and not self._leaving.is_set():
                await self._take_turns(shards)
            is_through = self._terms.until_idle and not (taken or self._served)
            if is_through and await self._is_idle():
                return
            await set_within(self._woken, LOOK_S)

    @property
    def _room(self) -> int:
        """How many more servers it may serve."""
        return self._terms.room - sum(server != CONDUCTOR for _, server in self._served)

    async def _take_turns(self, shards: TaskGroup) -> None:
        """Give back the shard that waits longest, where others wait for a worker."""
        served = self._turns.look(self._served.values(), self._serving.clock())
        if served is not None and await self._others_wait() and served.may_rest:
            self._turns.end(served)
            shards.start_soon(self._give_turn, served)

    async def _give_turn(self, served: Served) -> None:
        try:
            await served.rest()
            await self._hand_over(served, in_turn=True)
        finally:
            self._turns.given(served)

    async def _others_wait(self) -> bool:
        """Return whether a server waits for a worker that this one could be."""
        try:
            undone = await self._undone()
        except DatabaseAway:
            return False
        return any(
            each.server != CONDUCTOR and not each.is_served and each.waits_for is None
            for each in undone
        )

    async def _undone(self) -> Sequence[ShardRow]:
        """Return what is left to do for this worker.

        Raises:
            DatabaseAway: try again.
        """
        terms = self._terms
        rows = await self._serving.database.undone(terms.sites, run=terms.run)
        now = self._serving.clock()
        self._mind_silence(now)
        self._answered_at = now
        return rows

    async def _taken(self) -> Sequence[tuple[Taken, float]]:
        """Return what was taken, and when that was asked for, on this machine's clock.

        Who has no room for a server takes conductors all the same: what it serves may wait for one.
        """
        serving, terms = self._serving, self._terms
        sent_at = serving.clock()
        self._mind_silence(sent_at)
        try:
            taken = await serving.database.take(
                serving.worker.worker,
                terms.sites,
                max(self._room, 0),
                run=terms.run,
                expired=sent_at >= self._may_take_expired_at,
            )
        except DatabaseAway:
            return []
        except NotEntered:  # a database that has failed over does not know it any more
            await self._enter(tries=1)
            return []
        self._answered_at = serving.clock()
        return [(each, sent_at) for each in taken]

    async def _enter(self, *, tries: float) -> None:
        """Say that this worker is there."""
        serving = self._serving
        await self._patiently(partial(serving.database.enter, serving.worker), tries=tries)

    def _mind_silence(self, now: float) -> None:
        """After a silence leave what has expired to its holders for the life of a lease.

        The database may have been away: the living could not renew either, and come first.
        """
        if now - self._answered_at > UNSEEN_S:
            self._may_take_expired_at = now + LEASE_LIFE_S

    async def _begin(self, found: tuple[Taken, float], shards: TaskGroup) -> None:
        taken, sent_at = found
        lease = taken.standing.lease
        try:
            if lease.run not in self._runs:
                submission = await self._serving.database.submission(lease.run)
                self._runs[lease.run] = SubmittedRun(submission)
        except DatabaseAway:
            return  # it expires
        kind = ServedConductor if lease.server == CONDUCTOR else ServedShard
        shard = lease.run, lease.server
        before = self._served.get(shard)
        if before is not None:
            before.lose()  # this worker was late to renew, and has taken it from itself
        if lease.epoch <= self._epochs.get(shard, 0):
            # A failover has lost that taking: what was sent then may yet be written under this one.
            await self._give_back(lease)
            return
        self._epochs[shard] = lease.epoch
        served = kind(taken, self._runs[lease.run], self._serving, sent_at)
        self._served[lease.run, lease.server] = served
        shards.start_soon(self._serve, served)

    async def _serve(self, served: Served) -> None:
        lease = served.lease
        log.info("shard.taken", run=lease.run, server=lease.server, epoch=lease.epoch)
        self._onlooker.taken(lease)
        try:
            await served.serve()
            if served.is_done:
                self._onlooker.finished(lease)
            if served.damage is not None and not served.fence.lost:
                # Its records are lost: whoever went on from what is left might mount twice.
                log.error("shard.damaged", run=lease.run, server=lease.server, why=served.damage)
                await served.close_damaged(served.damage)
        except Exception:
            self.failed = True
            log.exception("shard.internal_error", run=lease.run, server=lease.server)
        finally:
            if self._served.get((lease.run, lease.server)) is served:
                del self._served[lease.run, lease.server]
        if not served.fence.lost:
            await self._give_back(lease)
        self._woken.set()

    async def _hand_over(self, served: Served, *, in_turn: bool = False) -> None:
        is_lost = served.fence.lost
        await served.hand_over()
        mounted = sum(1 for _ in served.mounted())
        await self._give_back(served.lease, in_turn=in_turn)
        if not (is_lost or served.is_done):
            self._left_open += mounted
            self._onlooker.left(served.lease, mounted)

    async def _give_back(self, lease: Lease, *, in_turn: bool = False) -> None:
        """Offer a shard to others; if the database is away, its lease expires."""
        database, worker = self._serving.database, self._serving.worker.worker
        try:
            await database.give_back(worker, [lease], in_turn=in_turn)
        except DatabaseAway as exc:
            log.info("lease.expires", server=lease.server, why=str(exc))

    async def _is_idle(self) -> bool:
        """Return whether no open run has a shard for this worker."""
        try:
            return not await self._undone()
        except DatabaseAway:
            return False

    def _tell(self, asked: Sequence[Held], renewed: Sequence[Standing], sent_at: float) -> None:
        """Tell each shard what a renewal has said; who is not renewed has lost its lease."""
        standings = {each.lease: each for each in renewed}
        for each in asked:
            served = self._served.get((each.lease.run, each.lease.server))
            if served is None or served.lease != each.lease:
                continue
            standing = standings.get(each.lease)
            if standing is not None:
                served.tell(standing, sent_at)
            else:
                served.lose()

    async def _patiently(self, ask: Callable[[], Awaitable[None]], *, tries: float) -> None:
        """Ask the database until it answers, or so many times."""
        is_told = False
        while tries > 0:
            tries -= 1
            try:
                return await ask()
            except DatabaseAway as exc:
                if not is_told:
                    log.warning("database.away", why=str(exc))
                is_told = True
                await anyio.sleep(LOOK_S)
        return None
