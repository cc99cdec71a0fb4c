"""Asking something of a run over several machines: its workers do it, or the next ones do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from orchestrator.app.sites.overview import ServedRun, overview
from orchestrator.app.sites.stored_plan import loaded_plan
from orchestrator.app.wiring import Plan
from orchestrator.core.errors import RunLocked
from orchestrator.core.model import RunId
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.sites import Ask
from orchestrator.database.address import Address
from orchestrator.database.installation import connected

# Each raises, beside what is named: DatabaseAway, DatabaseUnusable, and RunNotFound.


async def looked_at(address: Address, run: RunId) -> ServedRun:
    """Return who works on a run."""
    async with _opened(address) as database:
        return await overview(database, run)


async def stop(address: Address, run: RunId, *, now: bool) -> ServedRun:
    """Ask a run to stop, and return who worked on it. One that has ended is left alone.

    No mount is granted from then on; its workers hear of it at their next renewal.
    """
    async with _opened(address) as database:
        served = await overview(database, run)
        if served.row.is_open:
            await database.ask(run, Ask.STOP_NOW if now else Ask.STOP, {})
        return served


async def resume(address: Address, run: RunId, *, retry_failed: bool) -> ServedRun:
    """Open a run again that has ended, and return who works on it.

    Raises:
        RunLocked: it has not ended, or another run of its plan is open.
    """
    async with _opened(address) as database:
        served = await overview(database, run)
        if served.row.is_open:
            raise RunLocked(
                f"run {run} is open: its workers go on with it, or the next ones will "
                f"(bulk-restore status {run}); to end it: bulk-restore stop {run}"
            )
        await database.ask(run, Ask.RESUME, {"retry_failed": retry_failed})
        return await overview(database, run)


async def plan_of_submission(address: Address, run: RunId) -> Plan:
    """Return the plan of a run as it was submitted; no file of this machine is read.

    Raises:
        PlanError: this version cannot read it.
    """
    async with _opened(address) as database:
        return loaded_plan(await database.submission(run))


async def unmount(address: Address, run: RunId) -> ServedRun:
    """Ask for the end of a run's holds, and of what it has left; return who works on it."""
    async with _opened(address) as database:
        await database.ask(run, Ask.UNMOUNT, {})
        return await overview(database, run)


@asynccontextmanager
async def _opened(address: Address) -> AsyncIterator[SitesDatabase]:
    database = await connected(address)
    try:
        yield database
    finally:
        with anyio.CancelScope(shield=True):
            await database.aclose()
