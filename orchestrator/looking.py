"""What a plan means now: every server asked once, nothing mounted, nothing recorded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import anyio

from orchestrator.assembly import World, clients, seed_of
from orchestrator.em.client import Client
from orchestrator.engine.inventory import gather_once
from orchestrator.errors import OrchestratorError
from orchestrator.journal import State
from orchestrator.model import ServerName, UnresolvedTarget
from orchestrator.plan.inventory import Listing
from orchestrator.plan.loading import LoadedPlan
from orchestrator.plan.locked import LockedPlan
from orchestrator.plan.sampling import Draw, NoProofs, Proofs
from orchestrator.targeting import Expanded, LockedSelection, Narrowing, PlanSelection


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A plan expanded at the time `now`, drawn by `seed` (0 where nothing was drawn).

    `gone` are the targets of an earlier locked plan whose restore points are not there.
    """

    expanded: Expanded
    now: datetime
    seed: int
    gone: Sequence[UnresolvedTarget] = ()


async def look(
    loaded: LoadedPlan,
    state: Path,
    *,
    only: tuple[str, ...] = (),
    seed: int | None = None,
    locked: LockedPlan | None = None,
    world: World | None = None,
) -> Look:
    """Ask every server of a plan for its points and expand it; the journal is only read.

    With `locked`, its points are looked for too.

    Raises:
        OrchestratorError: a server cannot be used.
    """
    world = world or World(rng=random.SystemRandom())
    plan, now = loaded.plan, world.wall_clock()
    seed = seed_of(plan, seed, world.rng)
    proofs: Proofs = NoProofs()
    if plan.samples_stalest:
        proofs = State(state).proofs(before=now)
    narrowing = Narrowing(only=only)
    draw = Draw(seed=seed, proofs=proofs)
    selection = PlanSelection(plan, narrowing, now, draw, explain=True)
    frozen = LockedSelection(locked, narrowing) if locked is not None else None
    found: dict[ServerName, Listing] = {}
    there: dict[ServerName, Listing] = {}
    errors: list[Exception] = []

    async def ask(client: Client) -> None:
        try:
            async with client.logon() as session:
                found[client.server] = await gather_once(session, selection.needs(client.server))
                if frozen is not None:
                    needs = frozen.needs(client.server)
                    there[client.server] = await gather_once(session, needs)
        except OrchestratorError as exc:
            errors.append(exc)

    async with anyio.create_task_group() as tasks:
        for client in clients(plan, world):
            tasks.start_soon(ask, client)
    if errors:
        raise errors[0]
    gone: Sequence[UnresolvedTarget] = ()
    if frozen is not None:
        gone = frozen.gone(there)
    return Look(expanded=selection.expand(found), now=now, seed=seed, gone=gone)
