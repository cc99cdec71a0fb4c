"""Many workers do all that they may at once: no two statements wait for each other in a circle."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import aclosing

import anyio
import pytest

from orchestrator.core.errors import DatabaseAway, OrchestratorError
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.sites import (
    CONDUCTOR,
    Ask,
    Lease,
    OnlyHolds,
    Outcome,
    ShardDone,
    ShardFacts,
)
from orchestrator.database.address import read_address
from orchestrator.database.postgresql import PostgreSQL
from tests.database.owner import Owner
from tests.database.workers import (
    FIRST,
    SECOND,
    Change,
    Worker,
    freed,
    intent,
    note,
    opened,
    piece,
    submission,
)

pytestmark = [pytest.mark.anyio, pytest.mark.process]

WORKERS, ROUNDS, ACTS = 6, 5, 50
RUNS = (RunId("one"), RunId("two"))
SERVERS = [ServerName(f"em{number}") for number in range(9)]
ASKS = (Ask.RESUME, Ask.RESUME, Ask.UNMOUNT, Ask.STOP)


async def test_nothing_waits_in_a_circle(url: str, owner: Owner) -> None:
    """Two runs with limits of their own and of waves; the database fails over between rounds."""
    async with aclosing(PostgreSQL(read_address(url))) as database:
        for run in RUNS:
            shards = [
                ShardFacts(server=each, site="east", address=f"https://{run}-{each}:9398")
                for each in SERVERS
            ]
            await database.submit(submission(run, f"plan {run}", shards=shards, mounts_limit=5))
        hammers = [_Hammer(url, number) for number in range(WORKERS)]
        for _ in range(ROUNDS):
            async with anyio.create_task_group() as tasks:
                for hammer in hammers:
                    tasks.start_soon(hammer.act)
            owner.rows("UPDATE run SET timeline = timeline - 1")
            async with anyio.create_task_group() as tasks:
                for hammer in hammers:
                    tasks.start_soon(hammer.act)
            owner.rows("UPDATE run SET failed_over_at = failed_over_at - lease_life()")

    seen = sum([hammer.seen for hammer in hammers], Counter[str]())
    assert not [each for hammer in hammers for each in hammer.circles]
    assert min(seen["written"], seen["refused"]) > 100
    assert seen["share"] > 10


class _Hammer:
    """A worker that does anything at any time."""

    def __init__(self, url: str, number: int) -> None:
        self.seen = Counter[str]()
        self.circles: list[str] = []
        self._url, self._number = url, number
        self._rng, self._held = random.Random(number), set[Lease]()

    async def act(self) -> None:
        """Do one thing after another, with connections of its own."""
        acts = {
            self._append: 10,
            self._take: 4,
            self._renew: 3,
            self._share: 3,
            self._give_back: 1,
            self._ask: 1,
        }
        async with aclosing(PostgreSQL(read_address(self._url))) as database:
            worker = self._worker = Worker(database, f"w{self._number}")
            await worker.enter("east")
            self._held.clear()
            for _ in range(ACTS):
                (act,) = self._rng.choices([*acts], [*acts.values()])
                try:
                    await act()
                except DatabaseAway as exc:
                    self.circles.append(f"{act.__name__}: {exc}")
                except OrchestratorError as exc:
                    self.seen[type(exc).__name__] += 1
            await worker.database.leave(worker.id)

    def _some(self, most: int) -> list[Lease]:
        held = sorted(self._held, key=str)
        return self._rng.sample(held, min(len(held), self._rng.randint(1, most)))

    async def _append(self) -> None:
        worker = self._worker
        pieces = [piece(each, worker.heads[each], *self._changes(each)) for each in self._some(5)]
        for each in await worker.send(*pieces) if pieces else ():
            self.seen[each.outcome.value] += 1
            if each.outcome is Outcome.FENCED:
                self._held.discard(each.lease)

    def _changes(self, lease: Lease) -> list[Change]:
        rng = self._rng
        if lease.server == CONDUCTOR:
            return [rng.choice([opened(FIRST), opened(SECOND), note()])]
        found = list[Change]()
        for _ in range(rng.randint(1, 3)):
            key = f"{lease.server}-{rng.randint(1, 3)}"
            wave, limit = rng.choice([(FIRST, 3), (SECOND, None), (SECOND, 4)])
            found.append(rng.choice([intent(key, wave, limit), freed(key), note()]))
        if rng.random() < 0.1:
            found.append((note()[0], OnlyHolds() if rng.random() < 0.5 else ShardDone()))
        return found

    async def _take(self) -> None:
        taken = await self._worker.take("east", room=self._rng.randint(1, 3))
        self._held.update(each.standing.lease for each in taken)

    async def _renew(self) -> None:
        standings = await self._worker.renew(*self._held)
        self._held.intersection_update([each.lease for each in standings])

    async def _share(self) -> None:
        for lease in [each for each in self._held if each.server == CONDUCTOR]:
            wanted = {each: self._rng.randint(0, 2) for each in self._rng.sample(SERVERS, 5)}
            await self._worker.database.share(self._worker.id, lease, wanted)
            self.seen["share"] += 1

    async def _give_back(self) -> None:
        some = self._some(3)
        await self._worker.database.give_back(self._worker.id, some)
        self._held.difference_update(some)

    async def _ask(self) -> None:
        await self._worker.database.ask(self._rng.choice(RUNS), self._rng.choice(ASKS), {})
