"""The demo of a run over several machines: a PostgreSQL of its own, and workers as processes.

Everything but the servers and the machines is real: workers that share nothing but the database,
leases, sealed tokens, simulated Enterprise Managers behind HTTPS. With `kill` the busiest worker
is killed half-way, as a lost machine would be.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from msgspec import Struct

from orchestrator.app.demo import settings_for
from orchestrator.app.outcome import Outcome
from orchestrator.app.sites.ending import reported, wait_for
from orchestrator.app.sites.overview import overview
from orchestrator.app.sites.stored_plan import submission_of, travelling_plan
from orchestrator.app.sites.submitting import submit
from orchestrator.app.wiring import Choices, World
from orchestrator.core.model import RunId
from orchestrator.core.sites import ShardState
from orchestrator.database.address import Address, read_address
from orchestrator.database.installation import connected, init
from orchestrator.database.private_server import PrivateServer, private_server
from orchestrator.database.store import DatabaseStore
from orchestrator.database.token_key import make_key
from orchestrator.simulator.plans import plan_for
from orchestrator.simulator.process import PASSWORD_VARIABLE, simulation
from orchestrator.simulator.truth import GroundTruth
from orchestrator.views.view import View

DATABASE = "drills"

LOOK_S = 0.2
"""Seconds between looks whether it is time to kill a worker, and whether that is mended."""

ENDS_WITHIN_S = 10.0
"""Seconds in which a worker that is asked to must have ended."""


class Takeover(Struct, frozen=True, kw_only=True):
    """A worker that was killed, and how soon others had taken over all that it served."""

    pid: int
    shards: int
    """How many servers it served, the conductor counted."""
    seconds: float
    """From its death until others served all of them."""


class SitesDemo(Struct, frozen=True, kw_only=True):
    """What a demo did, and what really happened on the servers."""

    outcome: Outcome
    truth: GroundTruth
    plan: Path
    killed: Takeover | None


async def demonstrate_sites(
    directory: Path, view: View, *, targets: int, sites: int, kill: bool
) -> SitesDemo:
    """Run the demo with its files in `directory`; the database is removed at its end.

    Raises:
        CannotStart: there is no PostgreSQL on this machine that can be started.
        JournalError: as for any run.
    """
    password = secrets.token_urlsafe(16)
    settings = settings_for(sites, machines=1500, password=password, duration_range=(0.5, 3.0))
    await anyio.Path(directory).mkdir(parents=True, exist_ok=True, mode=0o700)
    plan, key = directory / "plan.yaml", directory / "token.key"
    key.unlink(missing_ok=True)
    make_key(key)
    os.environ[PASSWORD_VARIABLE] = password
    async with (
        _database() as server,
        simulation(settings, password=password) as running,
    ):
        url = server.url(DATABASE)
        address = read_address(url)
        plan.write_text(plan_for(running, targets=targets, name="demo", sites=True), "utf-8")
        travelling = travelling_plan(plan, overrides={})
        choices = Choices(
            state=directory, report=directory / "report", reason="bulk-restore demo --sites"
        )
        submission = submission_of(travelling, choices, World())
        await submit(address, submission)
        run = submission.started.run
        with _workers(url, key, [each.name for each in settings]):
            killed, outcome = await _carried_out(address, run, directory, view, kill=kill)
        return SitesDemo(outcome=outcome, truth=await running.truth(), plan=plan, killed=killed)


@asynccontextmanager
async def _database() -> AsyncIterator[PrivateServer]:
    """Start a PostgreSQL with our tables, and remove it at the end."""
    with private_server() as server:  # it blocks for a moment; nothing else goes on yet
        server.make_database(DATABASE)
        await init(read_address(server.url(DATABASE)))
        yield server


@contextmanager
def _workers(url: str, key: Path, sites: Sequence[str]) -> Iterator[None]:
    """Start a worker per site; each may serve every site, and has room for its part."""
    rest = max(1, len(sites) - 1)
    room = str(-(-(len(sites) + 1) // rest))  # all but one of them can serve everything
    named = [word for site in sites for word in ("--site", site)]
    command = [sys.executable, "-m", "orchestrator", "work", *named, "--shards", room]
    command += ["--token-key", str(key), "--state", url, "--quiet"]
    processes = [subprocess.Popen(command) for _ in sites]  # noqa: S603 - our own command
    try:
        yield
    finally:
        for each in processes:
            each.terminate()
        for each in processes:
            try:
                each.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()


async def _carried_out(
    address: Address, run: RunId, directory: Path, view: View, *, kill: bool
) -> tuple[Takeover | None, Outcome]:
    """Show the run to its end, and write its reports; kill a worker meanwhile, if wanted."""
    killed: list[Takeover] = []

    async def strike() -> None:
        killed.append(await _killed(address, run))

    def follow() -> Outcome:
        store = DatabaseStore(address)
        try:
            wait_for(store, store.summary(run), view)
            return reported(store, run, directory / "report")[1]
        finally:
            store.close()

    async with anyio.create_task_group() as tasks:
        if kill:
            tasks.start_soon(strike)
        outcome = await anyio.to_thread.run_sync(follow, abandon_on_cancel=True)
        tasks.cancel_scope.cancel()
    return (killed[0] if killed else None), outcome


async def _killed(address: Address, run: RunId) -> Takeover:
    """Kill the busiest worker half-way, and wait until others have taken over what it served."""
    store, database = DatabaseStore(address), await connected(address)
    try:
        await _until(lambda: anyio.to_thread.run_sync(_is_half_way, store, run))
        seen = await overview(database, run)
        served = Counter(each.worker for each in seen.shards if each.is_served and each.worker)
        worker, shards = served.most_common(1)[0]
        pid, began = seen.workers[worker].pid, anyio.current_time()
        os.kill(pid, signal.SIGKILL)

        async def is_taken_over() -> bool:
            return all(
                each.worker != worker and (each.is_served or each.state is ShardState.DONE)
                for each in (await overview(database, run)).shards
            )

        await _until(is_taken_over)
        return Takeover(pid=pid, shards=shards, seconds=anyio.current_time() - began)
    finally:
        store.close()
        with anyio.CancelScope(shield=True):
            await database.aclose()


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Return when something is so."""
    while True:
        if await is_so():
            return
        await anyio.sleep(LOOK_S)


def _is_half_way(store: DatabaseStore, run: RunId) -> bool:
    """Tell whether half of the targets have their result."""
    records = store.replay(run).records.values()
    return bool(records) and sum(each.is_final for each in records) * 2 >= len(records)
