"""What a worker serves: one shard of a run, be it a server's or the conductor, under a lease."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import anyio

from orchestrator.app.sites.chain import Chain
from orchestrator.app.sites.run_clock import RunClock
from orchestrator.app.sites.serving import Serving, SubmittedRun
from orchestrator.core.earlier_runs.durations import MountTimes
from orchestrator.core.errors import DatabaseAway, Fenced, JournalDamaged, JournalError
from orchestrator.core.events import Event
from orchestrator.core.lease import Lease as HeldLease
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.sites import ChainHead, Held, Standing, Taken
from orchestrator.database.fence import LeaseFence
from orchestrator.log import Log

log = Log(__name__)

T = TypeVar("T")

AGAIN_S = 1.0
"""Seconds after which a database that did not answer is asked again."""


class Served(ABC):
    """One shard while this worker has its lease: until it is done, lost or handed over."""

    chain: Chain | None = None
    """Where it is recorded, once it is open."""

    def __init__(self, taken: Taken, run: SubmittedRun, serving: Serving, sent_at: float) -> None:
        """`sent_at`: when the statement that took it was sent, on this machine's clock."""
        self.taken, self.run, self.serving = taken, run, serving
        self.lease = taken.standing.lease
        held = HeldLease(self.lease.epoch, sent_at=sent_at, clock=serving.clock)
        is_kept = serving.sealer is not None
        self.fence = LeaseFence(self.lease.server, held, reads_pass=is_kept)
        self.standing = taken.standing
        """What the newest renewal has said."""
        self.clock = RunClock(serving.clock)
        self.clock.set(taken.standing.at, heard=serving.clock())
        self.renewed_at = sent_at
        """When the newest renewal that was answered was sent, on this machine's clock."""
        self.is_done = False
        """Whether nothing of it is left to do."""
        self.damage: str | None = None
        """What is lost of its records, so that nobody can go on with it."""
        self._scope = anyio.CancelScope()

    @property
    def wants(self) -> int:
        """How many more mounts could begin here at once."""
        return 0

    @property
    def held(self) -> Held:
        """The lease, to be renewed."""
        return Held(lease=self.lease, wants=self.wants)

    @property
    def shard(self) -> tuple[RunId, ServerName]:
        """What it is called, whoever serves it."""
        return self.lease.run, self.lease.server

    @property
    def waits(self) -> bool:
        """True while nothing is in work: what it waits for is another shard's to give."""
        return False

    @property
    def has_mounted(self) -> bool:
        """Whether a mount was granted to it since it was taken."""
        return self.chain is not None and self.chain.has_granted

    @property
    def may_rest(self) -> bool:
        """True if it only waits and nothing of it is on its way to the database."""
        return self.waits and (self.chain is None or not self.chain.is_behind)

    @abstractmethod
    async def rest(self) -> None:
        """End what must not be left open until the next turn, of a shard that `may_rest`."""

    @property
    def is_posting(self) -> bool:
        """True while a mount was asked for and the answer is not recorded."""
        return False

    def is_unheard(self, now: float) -> bool:
        """Return whether no renewal was answered for longer than the run's `limits.outage`."""
        return now - self.renewed_at > self.run.source.plan.limits.outage

    def mounted(self) -> Iterator[str]:
        """Yield a line for each mount that may be open here, as far as it is known."""
        return iter(())

    def tell(self, standing: Standing, sent_at: float) -> None:
        """Take in what a renewal has said that was sent then, on this machine's clock."""
        self.fence.renewed(sent_at)
        self.renewed_at = sent_at
        self.standing = standing
        self.clock.set(standing.at, heard=self.serving.clock())
        if self.chain is not None:
            self.chain.compare(standing.head)
        self.heard()

    @abstractmethod
    def heard(self) -> None:
        """Act on what the newest renewal has said."""

    def lose(self) -> None:
        """Send nothing more and clean nothing up: another worker has the lease. Repeatable."""
        if not self.fence.lost:
            log.warning("shard.lost", run=self.lease.run, server=self.lease.server or "(conductor)")
            self._let_go()

    async def hand_over(self) -> None:
        """Mount nothing more, keep what answers say, and leave the rest to the next worker.

        Sessions stay open, with all that is mounted in them. Nothing is unmounted.
        """
        if self.chain is not None:
            self.chain.close_to_intents()
            while not self.fence.lost and (self.is_posting or self.chain.is_behind):
                self.serving.stream.wake()
                await self.chain.moves()  # the answer of a request is recorded
        self._let_go()

    def _let_go(self) -> None:
        self.fence.lose()
        if self.chain is not None:
            self.chain.lose()
        self._scope.cancel()

    async def serve(self) -> None:
        """Do what is left of the shard; return once it is done, lost or handed over.

        What nobody foresaw is raised.
        """
        try:
            with self._scope:
                await self.work()
                self.is_done = True
        except (Fenced, JournalError) as exc:
            self._note_damage(BaseExceptionGroup("", [exc]))
        except BaseExceptionGroup as exc:
            self._note_damage(exc)
            _, others = exc.split((Fenced, JournalError) if self.damage is not None else Fenced)
            if others is not None:
                raise others from None
        finally:
            if self.chain is not None:
                self.serving.stream.remove(self.chain)
                self.damage = self.damage or self.chain.damage

    def _note_damage(self, exc: BaseExceptionGroup[BaseException]) -> None:
        """Note what could not be read; a journal that breaks in between has no other reason."""
        damaged, _ = exc.split(JournalDamaged)
        if damaged is not None:
            self.damage = str(next(leaves(damaged)))
        elif self.chain is not None:
            self.damage = self.chain.damage

    async def close_damaged(self, damage: str) -> None:
        """Record that its records cannot be gone on with, so that nobody does.

        Behind what the database has by now. Nothing is recorded if another worker has the lease.
        """
        read = partial(self.serving.database.heads, self.lease.run)
        with suppress(Fenced):
            while True:
                heads = await self.asked(read)
                if await self._is_closed(damage, heads[self.lease.server]):
                    return
                await anyio.sleep(AGAIN_S)

    async def _is_closed(self, damage: str, head: ChainHead) -> bool:
        stream = self.serving.stream
        chain = Chain(
            self.lease,
            head,
            wake=stream.wake,
            shortly=stream.wake,
            soon=stream.soon,
            waves={},
            wave_limits={},
            times=MountTimes(),
            on_fenced=self.lose,
        )
        self.chain = chain
        stream.add(chain)
        try:
            for event in self.last_words(damage):
                chain.append(event)
            await chain.durable()
        except JournalDamaged:
            return False  # it has lost something more
        finally:
            stream.remove(chain)
        return True

    @abstractmethod
    def last_words(self, damage: str) -> Sequence[Event]:
        """Return what is recorded of a shard that nobody may go on with."""

    @abstractmethod
    async def work(self) -> None:
        """Do what is left of the shard.

        Raises:
            Fenced: another worker has the lease.
        """

    async def asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the database's answer, however long it is away.

        Raises:
            Fenced: another worker has the lease.
        """
        while True:
            try:
                return await ask()
            except DatabaseAway:
                await anyio.sleep(AGAIN_S)
            except Fenced:
                self.lose()  # before anything is cleaned up because of this error
                raise


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group of groups, or the one that it is."""
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from leaves(each)
    else:
        yield exc
