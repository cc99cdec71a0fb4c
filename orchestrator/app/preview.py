"""`plan`: expands a plan with each server's present inventory; mounts and records nothing."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import anyio
from msgspec import Struct, field

from orchestrator.app.wiring import World, clients
from orchestrator.core.earlier_runs.naming import Naming
from orchestrator.core.errors import JournalError, OrchestratorError, ServerUnusable
from orchestrator.core.model import MountRequest, ServerName, UnresolvedTarget
from orchestrator.core.parts import Part
from orchestrator.core.ports.journal import Systems
from orchestrator.core.ports.store import Store
from orchestrator.core.text import duration
from orchestrator.em.client import Client
from orchestrator.em.session import Session
from orchestrator.engine.bounded import before
from orchestrator.engine.inventory import gather_once
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import InventoryNeeds, Listing
from orchestrator.plan.choose.locked import LockedPlan
from orchestrator.plan.choose.parts import require_same_choice
from orchestrator.plan.choose.sampling import Draw, seed_of
from orchestrator.plan.choose.targets import LockedSelection, Narrowing, PlanSelection
from orchestrator.plan.file.left_out import LeftOut
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.plan.file.settings import RestorePlan

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds without an answer after which a server counts as missing."""


class Preview(Struct, frozen=True, kw_only=True):
    """A plan expanded at the time `now`, drawn by `seed` (0 where nothing was drawn).

    `gone` are the targets of an earlier locked plan whose restore points are not there.
    `missing` are the servers that could not be asked, and why: of their targets nothing is known.
    """

    expansion: Expansion
    now: datetime
    seed: int
    gone: Sequence[UnresolvedTarget] = ()
    missing: Mapping[ServerName, OrchestratorError] = field(default_factory=dict)
    clocks: Mapping[ServerName, datetime] = field(default_factory=dict)
    """What the servers' clocks showed at `now`."""
    left_out: Sequence[LeftOut] = ()
    """Whom the plan leaves out, of its files and of what the servers listed."""

    def require_whole(self) -> None:
        """Check that every server was asked.

        Raises:
            OrchestratorError: one could not be.
        """
        for why in self.missing.values():
            raise why

    def age_s(self, request: MountRequest) -> float:
        """Return how old a target's point is, in seconds; negative for one from the future."""
        now = self.clocks.get(request.server, self.now)
        return (now - request.point.created_at).total_seconds()


async def look(
    loaded: LoadedPlan,
    store: Store,
    *,
    only: tuple[str, ...] = (),
    part: Part | None = None,
    seed: int | None = None,
    locked: LockedPlan | None = None,
    world: World | None = None,
) -> Preview:
    """Ask the servers of a plan for its points and expand it; the store is only read.

    With `locked`, its points are looked for too. Only servers of which something is wanted are
    asked. One that answers nothing for `PATIENCE` seconds is missing, and the others are shown.

    Raises:
        PlanError: the other parts may choose something else; nothing was sent.
        OrchestratorError: no server can be used.
    """
    world = world or World(rng=random.SystemRandom())
    require_same_choice(loaded, part, seed)
    plan, now = loaded.plan, world.wall_clock()
    narrowing = Narrowing(only=only, part=part)
    draw = _draw(plan, seed_of(plan, seed, world.rng), store, now)
    selection = PlanSelection(plan, narrowing, now, draw, explain=True)
    frozen = None
    if locked is not None:
        frozen = LockedSelection(locked, narrowing, now, draw.systems)
    listings: dict[ServerName, Listing] = {}
    locked_listings: dict[ServerName, Listing] = {}
    missing: dict[ServerName, OrchestratorError] = {}

    async def ask(client: Client) -> None:
        needs = [each.needs(client.server) for each in (selection, frozen) if each is not None]
        try:
            answers = await _listings(client, needs)
        except OrchestratorError as exc:
            missing[client.server] = exc
        else:
            listings[client.server] = answers[0]
            locked_listings[client.server] = answers[-1]

    async with anyio.create_task_group() as tasks:
        for client in clients(plan, world):
            server = client.server
            if selection.wants(server) or (frozen is not None and frozen.wants(server)):
                tasks.start_soon(ask, client)
    if missing and not listings:
        raise next(iter(missing.values()))
    expansion = selection.expand(listings)
    return Preview(
        expansion=expansion,
        left_out=(*loaded.left_out, *expansion.left_out),
        now=now,
        seed=draw.seed,
        gone=frozen.gone(locked_listings) if frozen is not None else (),
        clocks={name: listing.clock(now) for name, listing in listings.items()},
        missing={name: missing[name] for name in plan.servers if name in missing},
    )


def _draw(plan: RestorePlan, seed: int, store: Store, now: datetime) -> Draw:
    """Return what is chosen by: the seed, and what earlier runs proved and found out."""
    naming = Naming(urls={name: server.url for name, server in plan.servers.items()})
    proofs = store.proofs(before=now, naming=naming) if plan.samples_stalest else None
    systems: Systems | None = None
    with suppress(JournalError):  # a run would say so; then nothing is known of any machine
        systems = store.systems(naming)
    return Draw(seed=seed, proofs=proofs, systems=systems)


async def _listings(client: Client, needs: Sequence[InventoryNeeds]) -> list[Listing]:
    """Log on and ask for each of `needs`; raises as `answered` does."""

    async def ask(session: Session) -> list[Listing]:
        return [await gather_once(session, each) for each in needs]

    return await answered(client, ask)


async def answered(client: Client, ask: Callable[[Session], Awaitable[T]]) -> T:
    """Log on, return what `ask` learns with the session, and log off.

    Raises:
        OrchestratorError: the server cannot be used, or has answered nothing for `PATIENCE`.
    """
    sessions: list[Session] = []

    async def whole() -> T:
        async with client.logon() as session:
            sessions.append(session)
            return await ask(session)

    async def silence() -> None:
        left = PATIENCE
        while left > 0:
            await anyio.sleep(left)
            left = PATIENCE - sessions[0].idle_s if sessions else 0.0

    answer = await before(silence, whole)
    if answer is None:
        raise ServerUnusable(f"{client.server} has not answered for {duration(PATIENCE)}")
    return answer
