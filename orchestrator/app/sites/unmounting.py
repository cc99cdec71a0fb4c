"""`unmount` of a run over several machines: its workers do it; where there are none, this process.

What is mounted can be reached only through the session that made it. Its token is in the database,
sealed: so who unmounts here needs the key, and the secrets of the servers for what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from orchestrator.app.sites import asking
from orchestrator.app.sites.overview import ServedRun
from orchestrator.app.sites.worker import Terms
from orchestrator.app.sites.working import joined
from orchestrator.app.unmount import (
    ANSWER_WITHIN,
    TICK,
    UnmountOutcome,
    by_hand,
    of_no_target,
    unasked,
)
from orchestrator.app.wiring import World
from orchestrator.core.errors import KeyUnusable, RunLocked
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import ExitCode, RunId, ServerName
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
    any more, until it is resumed.

    Raises:
        RunLocked: workers go on with the run, and it holds nothing; stop it first.
        KeyUnusable: no worker serves a server, and there is no key to do it here.
    """
    served = await asking.looked_at(address, run)
    before = await _replayed(store, run, served)
    is_going_on = served.row.is_open and bool(served.served)
    held = {key for key, each in before.records.items() if each.phase is Phase.HELD}
    if is_going_on and not held:
        raise RunLocked(
            f"workers go on with run {run}, and it holds nothing; end it with: "
            f"bulk-restore stop {run}"
        )
    if not (is_going_on or before.left_open):
        return UnmountOutcome(lines=(f"{run}: nothing is left mounted",), code=ExitCode.GOOD)
    here = () if is_going_on else _sites_without_worker(before, served)
    if here and sealer is None:
        raise KeyUnusable(
            f"no worker serves {', '.join(here)}: start one (bulk-restore work --site "
            f"{here[0]}), or give --token-key to unmount from here"
        )
    if served.row.is_open and not is_going_on:
        await asking.stop(address, run, now=False)
    await asking.unmount(address, run)
    waited = held if is_going_on else before.records.keys()
    say(f"asked for the end of what {run} has mounted; waiting for its workers")
    async with anyio.create_task_group() as tasks:
        if here:
            tasks.start_soon(_serve, address, run, here, sealer)
        await _until_released(address, store, run, waited)
        tasks.cancel_scope.cancel()
    after = await _replayed(store, run, await asking.looked_at(address, run))
    return _summed_up(run, before, after, waited if is_going_on else None)


async def _replayed(store: Store, run: RunId, served: ServedRun) -> RunState:
    run_state = await anyio.to_thread.run_sync(store.replay, run)
    run_state.process_gone = not served.served
    return run_state


def _sites_without_worker(run_state: RunState, served: ServedRun) -> tuple[str, ...]:
    """Return the sites of servers on which something is left, and that no living worker serves."""
    left = run_state.left_open
    servers: set[ServerName] = {each.planned.server for each in left.records}
    servers |= {each.server for each in left.strays} | set(left.unaudited)
    sites = {
        each.site
        for each in served.servers
        if each.server in servers and each.site is not None and not served.has_worker(each.site)
    }
    return tuple(sorted(sites))


async def _serve(
    address: Address, run: RunId, sites: tuple[str, ...], sealer: Sealer | None
) -> None:
    """Be a worker for one run, until it is cancelled or nothing of it is left."""
    terms = Terms(sites=sites, run=run, until_idle=True)
    async with joined(address, terms, World(), sealer=sealer) as worker:
        await worker.serve()


async def _until_released(
    address: Address, store: Store, run: RunId, keys: Collection[str]
) -> None:
    """Return once nothing of these targets is open, or nobody works on it for long."""
    idle_s = 0.0
    while idle_s < ANSWER_WITHIN:
        await anyio.sleep(TICK / 2)
        served = await asking.looked_at(address, run)
        run_state = await _replayed(store, run, served)
        left = [
            each
            for key, each in run_state.records.items()
            if key in keys and (each.may_be_open or (not each.is_final and each.attempts))
        ]
        is_served = bool(served.served)
        if not left and not run_state.strays and (served.row.is_open or not is_served):
            return
        idle_s = 0.0 if is_served else idle_s + TICK / 2


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
