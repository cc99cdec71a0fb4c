"""The demo of a run over several machines: a PostgreSQL of its own, and workers as processes.

Everything but the servers and the machines is real: workers that share nothing but the database,
leases, sealed tokens, simulated Enterprise Managers behind HTTPS. With `kill` the busiest worker
is killed half-way, as a lost machine would be.

Ctrl-C or SIGTERM stops the run, and the demo ends with its report. Before there is a run, and the
second time, it ends at once. Whatever was started is ended and removed.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from msgspec import Struct

from orchestrator.app.demo import settings_for
from orchestrator.app.follow import RunFollower
from orchestrator.app.outcome import Outcome
from orchestrator.app.sites import asking
from orchestrator.app.sites.demo_workers import workers
from orchestrator.app.sites.ending import reported
from orchestrator.app.sites.overview import overview
from orchestrator.app.sites.running import patiently, show_to_the_end
from orchestrator.app.sites.stored_plan import submission_of, travelling_plan
from orchestrator.app.sites.submitting import submit
from orchestrator.app.wiring import Choices, World
from orchestrator.core.errors import OrchestratorError
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

STOPS_WITHIN_S = 30.0
"""Seconds in which a run that was asked to stop must have ended: then the demo ends without it."""


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


class DemoStopped(OrchestratorError):
    """A signal has ended the demo before its run had ended."""

    def __init__(self, number: signal.Signals) -> None:
        """`number` is the signal's."""
        super().__init__(f"stopped by {number.name}")
        self.number = number


async def demonstrate_sites(
    directory: Path, view: View, *, targets: int, sites: int, kill: bool
) -> SitesDemo:
    """Run the demo with its files in `directory`; the database is removed at its end.

    Raises:
        CannotStart: there is no PostgreSQL on this machine that can be started.
        DemoStopped: by a signal before there was a run to stop, or by a second one.
        JournalError: as for any run.
    """
    done: list[SitesDemo] = []
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            stopping = _Stopping(tasks)
            tasks.start_soon(stopping.obey, signals)
            done.append(
                await _demonstrated(
                    directory, view, targets=targets, sites=sites, kill=kill, stopping=stopping
                )
            )
            tasks.cancel_scope.cancel()
    if not done:
        assert stopping.number is not None  # noqa: S101 - what else cancels it
        raise DemoStopped(stopping.number)
    return done[0]


class _Stopping:
    """What signals do: the first one stops the run, if there is one; any other ends the demo."""

    def __init__(self, tasks: TaskGroup) -> None:
        """`tasks` are all of the demo."""
        self._tasks = tasks
        self.number: signal.Signals | None = None
        """The last signal."""
        self.stop: Callable[[], Awaitable[object]] | None = None
        """Asks the run to stop, once there is one."""

    async def obey(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Obey signals until the demo ends."""
        async for number in signals:
            self.number = number
            if self.stop is None:
                break
            self._tasks.start_soon(self._stop, self.stop)
            self.stop = None
        self._tasks.cancel_scope.cancel()

    async def _stop(self, stop: Callable[[], Awaitable[object]]) -> None:
        with anyio.move_on_after(STOPS_WITHIN_S):
            await patiently(stop)
            await anyio.sleep_forever()
        self._tasks.cancel_scope.cancel()


async def _demonstrated(
    directory: Path, view: View, *, targets: int, sites: int, kill: bool, stopping: _Stopping
) -> SitesDemo:
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
        with workers(url, key, [each.name for each in settings]):
            stopping.stop = partial(asking.stop, address, run, now=False)
            killed, outcome = await _carried_out(address, run, directory, view, kill=kill)
        return SitesDemo(outcome=outcome, truth=await running.truth(), plan=plan, killed=killed)


@asynccontextmanager
async def _database() -> AsyncIterator[PrivateServer]:
    """Start a PostgreSQL with our tables, and remove it at the end."""
    with private_server() as server:  # it blocks for a moment; nothing else goes on yet
        server.make_database(DATABASE)
        await init(read_address(server.url(DATABASE)))
        yield server


async def _carried_out(
    address: Address, run: RunId, directory: Path, view: View, *, kill: bool
) -> tuple[Takeover | None, Outcome]:
    """Show the run to its end, and write its reports; kill a worker meanwhile, if wanted."""
    killed: list[Takeover] = []

    async def strike() -> None:
        killed.append(await _killed(address, run))

    store = DatabaseStore(address)
    try:
        async with anyio.create_task_group() as tasks:
            if kill:
                tasks.start_soon(strike)
            await show_to_the_end(RunFollower(store, store.summary(run)), view)
            tasks.cancel_scope.cancel()
        report = directory / "report"
        _, outcome = await anyio.to_thread.run_sync(reported, store, run, report)
    finally:
        store.close()
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
