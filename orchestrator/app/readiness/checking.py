"""The whole check: every server asked at once, the plan expanded, this machine looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import anyio
from msgspec import Struct, field

from orchestrator.app.planned_limits import limits_of
from orchestrator.app.readiness.asking import ServerAnswers, look
from orchestrator.app.readiness.at_work import target_activity
from orchestrator.app.readiness.expected import expected_duration
from orchestrator.app.readiness.findings import Finding, Readiness, Scope, Subject
from orchestrator.app.readiness.here import (
    disk_findings,
    journal_findings,
    living_runs,
    machines_elsewhere,
    mounts_elsewhere,
    same_plan,
)
from orchestrator.app.readiness.servers import server_findings
from orchestrator.app.readiness.targets import machine_findings, target_findings
from orchestrator.app.stores import store_at
from orchestrator.app.wiring import Choices, Plan, World, clients, selection_of
from orchestrator.core.earlier_runs.naming import Naming
from orchestrator.core.errors import JournalError
from orchestrator.core.model import MountRequest, ServerName, Source, UnresolvedTarget
from orchestrator.core.ports.journal import Durations, Proofs, Systems
from orchestrator.core.ports.store import Store
from orchestrator.core.run_state import RunState
from orchestrator.core.same_server import Identities
from orchestrator.core.text import duration
from orchestrator.em.client import Client
from orchestrator.engine.orders import Selection
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import Listing, inventory_needs
from orchestrator.plan.choose.locked import LockedPlan
from orchestrator.plan.choose.parts import require_same_choice
from orchestrator.plan.choose.sampling import Draw, seed_of
from orchestrator.plan.choose.targets import Narrowing
from orchestrator.plan.file.left_out import left_out_lines

PATIENCE = 60.0
"""Seconds within which a server must have answered everything."""


class _StateFacts(Struct, frozen=True, kw_only=True):
    """What the store of the runs holds, or why it cannot be read."""

    living: Sequence[RunState] = ()
    identities: Identities = field(default_factory=lambda: Identities({}))
    durations: Durations | None = None
    trouble: JournalError | None = None


async def check(
    source: Plan,
    choices: Choices,
    *,
    patience: float = PATIENCE,
    strict: bool = False,
    world: World | None = None,
) -> Readiness:
    """Check whether `source` could be run now. Changes nothing, here or on any server.

    Each server gets one logon and the reads of `asking`; one that does not answer is a
    problem of its own. The store of the runs is only read, and no lock is held.
    """
    world = world or World()
    store = store_at(choices.state)
    now = world.wall_clock()
    require_same_choice(source, choices.part, choices.seed)
    narrowing = Narrowing(only=choices.only, keys=choices.keys, part=choices.part)
    selection = selection_of(source, narrowing, now, _draw(source, choices, store, world, now))
    is_whole = not choices.only and choices.keys is None and choices.part is None
    sights = await _sights(
        source, selection, world, patience, lambda name: is_whole or selection.wants(name)
    )
    listings = {
        name: sight.points for name, sight in sights.items() if isinstance(sight.points, Listing)
    }
    expansion = selection.expand(listings)
    unasked = [
        target for name in sights if name not in listings for target in selection.placeholders(name)
    ]
    whole = _CheckResults(source, choices, store, sights, expansion, unasked, now)
    return Readiness(
        plan=source.plan.name,
        plan_sha256=source.sha256,
        checked_at=now,
        servers=len(sights),
        targets=len(expansion.requests) + len(expansion.unresolved) + len(unasked),
        findings=tuple(whole.findings(_memory(store, _naming(source)))),
        strict=strict,
    )


def _draw(source: Plan, choices: Choices, store: Store, world: World, now: datetime) -> Draw:
    """Return what a run that began now would choose by; without a journal nothing was proven."""
    proofs: Proofs | None = None
    systems: Systems | None = None
    with suppress(JournalError):  # the item `journal` tells
        systems = store.systems(_naming(source))
        if source.plan.samples_stalest:
            proofs = store.proofs(before=now, naming=_naming(source))
    seed = seed_of(source.plan, choices.seed, world.rng)
    return Draw(seed=seed, proofs=proofs, systems=systems)


async def _sights(
    source: Plan,
    selection: Selection,
    world: World,
    patience: float,
    wanted: Callable[[ServerName], bool],
) -> Mapping[ServerName, ServerAnswers]:
    """Ask all servers that are `wanted` at once; in the order of the plan."""
    sights: dict[ServerName, ServerAnswers] = {}
    clients_to_ask = [each for each in clients(source.plan, world) if wanted(each.server)]

    async def ask(client: Client) -> None:
        needs = selection.needs(client.server)
        sources = _sources(source, client.server)
        sights[client.server] = await look(client, needs, sources, patience=patience)

    async with anyio.create_task_group() as tasks:
        for client in clients_to_ask:
            tasks.start_soon(ask, client)
    return {client.server: sights[client.server] for client in clients_to_ask}


def _sources(source: Plan, server: ServerName) -> Sequence[Source]:
    """Return the families of restore points that the plan mounts from on a server."""
    named = set(inventory_needs(source.plan, server).sources)
    if isinstance(source, LockedPlan):
        named |= {each.point.source for each in source.requests if each.server == server}
    return sorted(named)


def _naming(source: Plan) -> Naming:
    return Naming(urls={name: server.url for name, server in source.plan.servers.items()})


def _memory(store: Store, naming: Naming) -> _StateFacts:
    try:
        living = living_runs(store)
        return _StateFacts(
            living=living,
            identities=store.identities() if living else Identities({}),
            durations=store.durations(naming),
        )
    except JournalError as exc:
        return _StateFacts(trouble=exc)


class _CheckResults(Struct, frozen=True):
    """Everything that was learned, from which the answers follow."""

    source: Plan
    choices: Choices
    store: Store
    sights: Mapping[ServerName, ServerAnswers]
    expansion: Expansion
    unasked: Sequence[UnresolvedTarget]
    now: datetime

    def findings(self, memory: _StateFacts) -> Iterator[Finding]:
        """Yield the answers: servers, the run as a whole, targets."""
        servers, requests = self.source.plan.servers, self.expansion.requests
        places = {name: (server.url, self._endpoints(name)) for name, server in servers.items()}
        for name, sight in self.sights.items():
            held = mounts_elsewhere(memory.living, places[name], memory.identities)
            yield from server_findings(sight, servers[name], self.now, held)
        yield from self._of_the_run(memory, requests)
        listed = {
            (name, point.source, point.id)
            for name, sight in self.sights.items()
            for point in sight.listed
        }
        elsewhere = machines_elsewhere(memory.living, requests, places, memory.identities)
        clocks = {name: sight.clock(self.now) for name, sight in self.sights.items()}
        yield from target_findings(self.expansion, self.unasked, listed, elsewhere, clocks)
        yield from target_activity(requests, self.sights)

    def _endpoints(self, server: ServerName) -> frozenset[str]:
        return self.sights[server].endpoints if server in self.sights else frozenset()

    def _of_the_run(
        self, memory: _StateFacts, requests: Sequence[MountRequest]
    ) -> Iterator[Finding]:
        plan = self.source.plan
        about = Subject(Scope.RUN, plan.name)
        if memory.trouble is None:
            yield same_plan(about, memory.living, self.choices.part)
        else:
            yield about.not_visible("same_plan", "the journal cannot be read")
        yield journal_findings(about, self.store, memory.trouble)
        yield from self._guards(about)
        if requests:
            yield machine_findings(about, requests, plan.limits.mounts_per_vm)
        yield from disk_findings(about, requests)
        yield self._duration(about, memory, requests)

    def _guards(self, about: Subject) -> Iterator[Finding]:
        """What must hold for the plan as a whole: something to mount, `expect`, no VM twice."""
        if not (requests := self.expansion.requests) and not self.expansion.unresolved:
            if not self.unasked:
                yield about.problem("targets", "no target is selected")
        else:
            yield about.ok("targets", f"{len(requests)} with a restore point")
        of_files = () if isinstance(self.source, LockedPlan) else self.source.left_out
        for line in left_out_lines((*of_files, *self.expansion.left_out)):
            yield about.ok("left_out", line)
        for sentence in self.expansion.broken:
            yield about.problem("guards", sentence)
        if not self.expansion.broken:
            partly = "; the servers that were not asked cannot be judged" if self.unasked else ""
            yield about.ok("guards", f"every `expect` holds, and no VM is selected twice{partly}")

    def _duration(
        self, about: Subject, memory: _StateFacts, requests: Sequence[MountRequest]
    ) -> Finding:
        """Return how long the run may take, from the journal's history."""
        if memory.durations is None:
            return about.not_visible("duration", "the journal cannot be read")
        plan = self.source.plan
        limits = limits_of(plan, self.choices.max_mounts)
        expected = expected_duration(requests, plan.waves, limits, memory.durations)
        gap = f"no history for {expected.unknown} of {expected.targets} targets"
        if expected.seconds is None:
            return about.not_visible("duration", gap if expected.targets else self._why_pointless())
        detail = f"about {duration(expected.seconds)} without trouble"
        if self.unasked:
            detail += f", without the {len(self.unasked)} targets of servers that were not asked"
        if expected.unknown:
            detail += f" ({gap}: they count as the median of the others)"
        deadline = plan.limits.deadline
        if deadline is not None and expected.seconds > deadline:
            return about.warning("duration", f"{detail}: the deadline is {duration(deadline)}")
        rto = plan.objectives.rto
        if rto is not None and expected.seconds > rto:
            return about.warning("duration", f"{detail}: the RTO is {duration(rto)}")
        return about.ok("duration", detail)

    def _why_pointless(self) -> str:
        """Return why there is no restore point whose mount could take time."""
        without, unasked = len(self.expansion.unresolved), len(self.unasked)
        if not without and not unasked:
            return "there are no targets"
        if not unasked:
            return "no target has a restore point"
        return f"their servers were not asked ({unasked} of {without + unasked} targets)"
