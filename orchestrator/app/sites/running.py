"""`run` over a database: one process that submits a run, works all of it, and waits for its end.

Other workers of the plan's sites take part, and go on with it should this process die.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from orchestrator.app.follow import LOOK_S, RunFollower
from orchestrator.app.outcome import Outcome
from orchestrator.app.signals import Signals, caught_signals, harmless, harmlessly
from orchestrator.app.sites import asking
from orchestrator.app.sites.ending import reported, tell_command_of_end
from orchestrator.app.sites.stored_plan import TravellingPlan, submission_of
from orchestrator.app.sites.submitting import submit
from orchestrator.app.sites.worker import Terms
from orchestrator.app.sites.working import joined
from orchestrator.app.wiring import (
    Choices,
    World,
    require_allowed_writes,
    require_something_wanted,
)
from orchestrator.core.errors import DatabaseAway
from orchestrator.core.model import RunId
from orchestrator.database.address import Address
from orchestrator.database.store import DatabaseStore
from orchestrator.log import Log
from orchestrator.views.view import View
from orchestrator.views.web.web_view import WebView

if TYPE_CHECKING:
    from orchestrator.database.sealing import Sealer

log = Log(__name__)

AGAIN_S = 1.0
"""Seconds after which a database that did not answer is asked again."""


async def run_over_database(
    plan: TravellingPlan,
    choices: Choices,
    address: Address,
    *,
    sealer: Sealer | None,
    view: View,
    background: Sequence[WebView] = (),
) -> Outcome:
    """Submit a run, work on it to its end, and write its reports.

    The first signal asks the run to stop, wherever it is worked on; the second, to stop at once.

    Raises:
        PlanError: it would write into guests, and nobody allowed that, or nothing of it can be
            what was asked for; nothing was submitted.
        RunLocked: a run of this plan is open.
        DatabaseAway, DatabaseUnusable: see `submit`.
    """
    require_allowed_writes(plan.source, choices)
    require_something_wanted(plan.source, choices)
    world = World()
    store = DatabaseStore(address)
    try:
        submission = submission_of(plan, choices, world, store)
        run = submission.started.run
        sites = tuple(dict.fromkeys(each.site for each in submission.shards))
        terms = Terms(sites=sites, run=run, until_idle=True)
        with caught_signals(world) as signals:
            await submit(address, submission)
            async with (
                joined(address, terms, world, sealer=sealer) as worker,
                anyio.create_task_group() as tasks,
            ):
                if signals is not None:
                    tasks.start_soon(_obey, address, run, signals)
                async with anyio.create_task_group() as working:
                    working.start_soon(worker.serve)
                    await show_to_the_end(RunFollower(store, store.summary(run)), view, background)
                tasks.cancel_scope.cancel()
        directory = Path(submission.started.report_dir)
        state, outcome = await anyio.to_thread.run_sync(
            reported, store, run, directory, choices.sign
        )
    finally:
        store.close()
    return await tell_command_of_end(choices.on_finish, state, outcome, plan.source.plan)


async def show_to_the_end(
    follower: RunFollower, view: View, background: Sequence[WebView] = ()
) -> None:
    """Show a run, as it is recorded, until it has ended."""
    everybody: list[View | WebView] = [view, *background]
    views = [each for each in everybody if harmlessly(each, each.begin, follower.stats)]
    async with anyio.create_task_group() as tasks:
        for each in background:
            tasks.start_soon(_serve, each, follower.now)
        tasks.start_soon(_draw, view, follower.now)
        try:
            while True:
                observed = await anyio.to_thread.run_sync(follower.read_on)
                for event, record in observed:
                    follower.stats.observe(event, record)
                    views = [x for x in views if harmlessly(x, x.observe, event, record)]
                with harmless(view):
                    view.say_what_waits()
                if not observed:  # a long run comes in several parts
                    if follower.has_ended:
                        return
                    await anyio.sleep(LOOK_S)
        finally:
            tasks.cancel_scope.cancel()
            with harmless(view):
                view.close()


async def _draw(view: View, now: Callable[[], float]) -> None:
    with harmless(view):
        while True:
            await anyio.sleep(view.interval_s)
            view.draw(now())


async def _serve(view: WebView, now: Callable[[], float]) -> None:
    with harmless(view):
        await view.serve(now)


async def _obey(address: Address, run: RunId, signals: Signals) -> None:
    """Ask the run to stop at the first signal, and to stop at once at the second."""
    stops = 0
    async for number in signals:
        if number == signal.SIGHUP:
            log.info("terminal.gone")
            continue
        stops += 1
        await patiently(partial(asking.stop, address, run, now=stops > 1))


async def patiently(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask a database until it answers."""
    while True:
        try:
            await ask()
        except DatabaseAway as exc:
            log.warning("database.away", why=str(exc))
            await anyio.sleep(AGAIN_S)
        else:
            return
