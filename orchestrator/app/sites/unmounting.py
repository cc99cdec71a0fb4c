"""`unmount` of a run over several machines: its workers do it; where there are none, this process.

What is mounted can be reached only through the session that made it. Its token is in the database,
sealed: so who unmounts here needs the key, and the secrets of the servers for what is new.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from orchestrator.app.sites import asking
from orchestrator.app.sites.overview import ServedRun, Work
from orchestrator.app.sites.worker import Terms
from orchestrator.app.sites.working import joined
from orchestrator.app.unmount import (
    ANSWER_WITHIN,
    TICK,
    UnmountOutcome,
    by_hand,
    not_asked_for,
    of_no_target,
    unasked,
)
from orchestrator.app.wiring import World
from orchestrator.core.errors import KeyUnusable, RunLocked
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import MountKey, RunId, ServerName
from orchestrator.core.ports.store import Store
from orchestrator.core.run_state import RunState
from orchestrator.core.text import counted, printable
from orchestrator.database.address import Address

if TYPE_CHECKING:
    from orchestrator.database.sealing import Sealer

UNTOUCHED = "no worker has removed it"


async def release_leftovers(
    address: Address,
    store: Store,
    run: RunId,
    sealer: Sealer | None,
    say: Callable[[str], None],
) -> UnmountOutcome:
    """Unmount what is left of a run, and end its holds; `say` is told what is waited for.

    A run that nobody works on and that has not ended is stopped first: nothing of it is mounted
    any more, until it is resumed. One that was stopped is ended here where no worker serves it.

    Raises:
        RunLocked: workers go on with the run, and have nothing to hold; stop it first.
        KeyUnusable: no worker serves a server, and there is no key to do it here.
    """
    served = await asking.looked_at(address, run)
    before = await _replayed(store, run, served)
    here = _sites_without_worker(before, served)
    ends_here = bool(here) and served.row.stopped is not None
    is_going_on = served.row.is_open and bool(served.served) and not ends_here
    held = {key for key, each in before.records.items() if each.phase is Phase.HELD}
    if is_going_on and not held:
        raise RunLocked(_why_not(run, here))
    if not (is_going_on or before.left_open):
        return UnmountOutcome(lines=(f"{run}: nothing is left mounted",), code=ExitCode.GOOD)
    here = () if is_going_on else here
    if here and sealer is None:
        raise KeyUnusable(
            f"no worker serves {', '.join(here)}: start one (bulk-restore work --site "
            f"{here[0]}), or give --token-key to unmount from here"
        )
    if served.row.is_open and not is_going_on:
        await asking.stop(address, run, now=False)
    await asking.unmount(address, run)
    say(f"asked for the end of what {run} has mounted; waiting for its workers")
    if is_going_on:
        await _until(partial(_are_released, store, run, held), address, run)
    else:
        servers = _servers_with_something(before)
        await _serve(address, run, here, sealer, partial(_are_done, servers))
    served = await asking.looked_at(address, run)
    after = await _replayed(store, run, served)
    if not is_going_on:
        return _summed_up(run, before, after, None)
    outcome = _summed_up(run, before, after, held)
    more = not_asked_for(
        after,
        held,
        is_alive=served.row.is_open and bool(served.served),
        who=f"the workers of {run}",
        stop=f"ask for it with `bulk-restore stop {run}`",
    )
    code = ExitCode.IN_DOUBT if more else outcome.code
    return UnmountOutcome(lines=(*outcome.lines, *more), code=code)


def _why_not(run: RunId, here: Collection[str]) -> str:
    """Return why a run that goes on is not unmounted, and what to do."""
    why = (
        f"workers go on with run {run}: they unmount what they mount, and nothing is held; to end "
        f"it: bulk-restore stop {run}"
    )
    if not here:
        return why
    return f"{why}, then this once more, because no worker serves {', '.join(here)}"


async def _replayed(store: Store, run: RunId, served: ServedRun) -> RunState:
    run_state = await anyio.to_thread.run_sync(store.replay, run)
    run_state.process_gone = not served.served
    return run_state


def _servers_with_something(run_state: RunState) -> frozenset[ServerName]:
    """Return the servers on which something of a run is, or may be, open."""
    left = run_state.left_open
    servers = {each.planned.server for each in left.records}
    return frozenset(servers | {each.server for each in left.strays} | set(left.unaudited))


def _sites_without_worker(run_state: RunState, served: ServedRun) -> tuple[str, ...]:
    """Return the sites of servers on which something is left, and that no living worker serves."""
    servers = _servers_with_something(run_state)
    sites = {
        each.site
        for each in served.servers
        if each.server in servers and each.site is not None and not served.has_worker(each.site)
    }
    return tuple(sorted(sites))


async def _serve(
    address: Address,
    run: RunId,
    sites: tuple[str, ...],
    sealer: Sealer | None,
    is_done: Callable[[ServedRun], Awaitable[bool]],
) -> None:
    """Wait until something is done; where there are `sites`, be the worker that does it."""
    if not sites:
        await _until(is_done, address, run)
        return
    terms = Terms(sites=sites, run=run)
    async with (
        joined(address, terms, World(), sealer=sealer) as worker,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(worker.serve)
        await _until(is_done, address, run)
        worker.leave()


async def _until(
    is_done: Callable[[ServedRun], Awaitable[bool]], address: Address, run: RunId
) -> None:
    """Return once something is done, or nobody has worked on the run for long."""
    idle_s = 0.0
    while idle_s < ANSWER_WITHIN:
        await anyio.sleep(TICK / 2)
        served = await asking.looked_at(address, run)
        if await is_done(served):
            return
        idle_s = 0.0 if served.served else idle_s + TICK / 2


async def _are_released(
    store: Store, run: RunId, keys: Collection[MountKey], served: ServedRun
) -> bool:
    """Return whether none of these targets is held any more, nor being unmounted."""
    records = (await _replayed(store, run, served)).records
    return all(records[key].phase not in {Phase.HELD, Phase.UNMOUNTING} for key in keys)


async def _are_done(servers: Collection[ServerName], served: ServedRun) -> bool:
    """Return whether nothing is left to do on these servers, and the run has ended if it can.

    It cannot while a shard waits for a worker of another site.
    """
    shards = {each.server: served.work_on(each) for each in served.servers}
    if any(shards[name] is not Work.DONE for name in servers):
        return False
    return not served.served or Work.WAITING in shards.values()


def _summed_up(
    run: RunId, before: RunState, after: RunState, only: Collection[str] | None
) -> UnmountOutcome:
    """Return what was released and what was not; `only`: of these targets alone."""

    def counts(key: str) -> bool:
        return only is None or key in only

    was = [key for key, each in before.records.items() if each.may_be_open and counts(key)]
    left = [each for key, each in after.records.items() if each.may_be_open and counts(key)]
    still = {each.planned.key for each in left}
    lines = [f"released: {printable(key)}" for key in was if key not in still]
    gone = len(before.strays) - len(after.strays)
    if gone > 0:
        lines.append(f"released: {counted(gone, 'mount')} of no target")
    lines += by_hand(left, UNTOUCHED)
    if only is None:
        lines += of_no_target(after.strays) + unasked(after.unaudited)
    is_all = not left and (only is not None or not (after.strays or after.unaudited))
    if not lines:
        lines = [f"{run}: nothing is left mounted"]
    return UnmountOutcome(lines=tuple(lines), code=ExitCode.GOOD if is_all else ExitCode.IN_DOUBT)
