"""A worker as a process: its parts joined over a real database, and its signals."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING

import anyio

from orchestrator.app.signals import Signals, caught_signals
from orchestrator.app.sites.commit_stream import CommitStream
from orchestrator.app.sites.onlooker import Onlooker
from orchestrator.app.sites.renewals import RenewalsByThread
from orchestrator.app.sites.serving import Serving
from orchestrator.app.sites.submitting import warn_if_not_heard
from orchestrator.app.sites.worker import Terms, Worker
from orchestrator.app.wiring import World
from orchestrator.core.errors import DatabaseAway
from orchestrator.core.sites import WorkerFacts, WorkerId
from orchestrator.core.version import __version__
from orchestrator.database.address import Address
from orchestrator.database.hearing import PATIENCE_S
from orchestrator.database.installation import connected
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.renewal import boot_clock
from orchestrator.database.site_roles import require_sites
from orchestrator.log import Log

if TYPE_CHECKING:
    from orchestrator.database.sealing import Sealer

log = Log(__name__)

LISTEN_AGAIN_S = 2.0
"""Seconds after which a lost connection for notifications is made anew."""


async def work(
    address: Address,
    terms: Terms,
    *,
    sealer: Sealer | None,
    at_once: Callable[[int, Sequence[str]], object],
    on_long_away: Callable[[Sequence[str]], object],
    onlooker: Onlooker,
) -> bool:
    """Serve shards until a signal, or until nothing is left with `terms.until_idle`.

    The first SIGINT or SIGTERM hands everything over: what is mounted stays mounted, for the next
    worker. `at_once` is called with the number of a second one, and a line for each mount that may
    be open here; `on_long_away` with such lines once the database was away for longer than a run's
    `limits.outage`. `onlooker` is told what is served. Returns whether all went well; not after an
    error that nobody foresaw.

    Raises:
        DatabaseAway: it cannot be reached at all.
        DatabaseUnusable: it is none of ours, or this account may not work there.
        SiteDenied: this account may not serve one of the sites.
    """
    world = World()
    with caught_signals(world) as signals:
        async with (
            joined(
                address,
                terms,
                world,
                sealer=sealer,
                on_long_away=on_long_away,
                onlooker=onlooker,
            ) as worker,
            anyio.create_task_group() as tasks,
        ):
            if signals is not None:
                tasks.start_soon(_obey, worker, signals, at_once)
            await require_sites(address, terms.sites)
            await worker.serve()
            tasks.cancel_scope.cancel()
    return not worker.failed


@asynccontextmanager
async def joined(
    address: Address,
    terms: Terms,
    world: World,
    *,
    sealer: Sealer | None,
    on_long_away: Callable[[Sequence[str]], object] = lambda mounted: None,
    onlooker: Onlooker | None = None,
) -> AsyncIterator[Worker]:
    """Return a worker that can begin to serve, with everything that it needs; see `work`.

    Raises:
        DatabaseAway, DatabaseUnusable: see `work`.
    """
    from orchestrator.database.store import DatabaseStore

    database = await connected(address)
    facts = worker_facts(terms.sites)
    history = DatabaseStore(address)
    try:
        serving = Serving(
            worker=facts,
            database=database,
            stream=CommitStream(database, facts.worker, boot_clock),
            world=world,
            clock=boot_clock,
            sealer=sealer,
            history=history,
        )
        renewals = RenewalsByThread(address, facts.worker)
        worker = Worker(serving, renewals, terms, on_long_away, onlooker)
        log.info("worker.begins", worker=facts.worker, sites=list(terms.sites))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_listen, database, worker)
            tasks.start_soon(warn_if_not_heard, address, PATIENCE_S)
            yield worker
            tasks.cancel_scope.cancel()
    finally:
        history.close()
        await _closed(database)


def worker_facts(sites: tuple[str, ...]) -> WorkerFacts:
    """Return who this process is as a worker; no other one ever is called so."""
    host, pid = socket.gethostname(), os.getpid()
    name = WorkerId(f"{host}-{pid}-{token_hex(4)}")
    return WorkerFacts(worker=name, host=host, pid=pid, version=__version__, sites=sites)


async def _listen(database: PostgreSQL, worker: Worker) -> None:
    """Wake the worker when something is offered. It looks by itself, too: some are never heard."""
    while True:
        try:
            async for run in database.changes():
                worker.heard(run)
        except DatabaseAway as exc:
            log.info("notifications.lost", why=str(exc))
        await anyio.sleep(LISTEN_AGAIN_S)


async def _closed(database: PostgreSQL) -> None:
    with anyio.CancelScope(shield=True):
        await database.aclose()


async def _obey(
    worker: Worker, signals: Signals, at_once: Callable[[int, Sequence[str]], object]
) -> None:
    """Hand over at the first signal; end at the second. The terminal's end is no reason."""
    is_leaving = False
    async for number in signals:
        if number == signal.SIGHUP:
            continue
        if is_leaving:
            at_once(number, worker.mounted())
        is_leaving = True
        log.info("worker.leaves", signal=signal.Signals(number).name)
        worker.leave()
