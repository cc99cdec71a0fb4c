"""The whole check: every server asked at once, the plan expanded, this machine looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import anyio

from orchestrator.assembly import Choices, Plan, World, clients, limits_of, seed_of, selection_of
from orchestrator.em.client import Client
from orchestrator.engine.orders import Expansion, Selection
from orchestrator.errors import JournalError
from orchestrator.journal import State
from orchestrator.model import MountRequest, ServerName, Source, UnresolvedTarget
from orchestrator.plan.inventory import Listing, inventory_needs
from orchestrator.plan.locked import LockedPlan
from orchestrator.plan.sampling import Draw, NoProofs, Proofs
from orchestrator.ports import Durations, NoDurations
from orchestrator.readiness.asking import Sight, look
from orchestrator.readiness.expected import expected_duration
from orchestrator.readiness.findings import Finding, Readiness, Scope, Subject
from orchestrator.readiness.here import (
    disk_findings,
    journal_findings,
    living_runs,
    machines_elsewhere,
    mounts_elsewhere,
    same_plan,
)
from orchestrator.readiness.servers import server_findings
from orchestrator.readiness.targets import machine_findings, target_findings
from orchestrator.report.text import duration
from orchestrator.runstate import RunState
from orchestrator.targeting import Narrowing

PATIENCE = 60.0
"""Seconds within which a server must have answered everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """What the state directory tells, or why it cannot."""

    living: Sequence[RunState] = ()
    durations: Durations = NoDurations()
    trouble: JournalError | None = None


async def check(
    source: Plan,
    choices: Choices,
    *,
    patience: float = PATIENCE,
    strict: bool = False,
    world: World | None = None,
) -> Readiness:
    """Say whether `source` could be run now. Changes nothing, here or on any server.

    Each server gets one logon and the reads of `asking`; one that does not answer is a
    problem of its own. The state directory is only read, and no lock is held.
    """
    world = world or World()
    now = world.wall_clock()
    narrowing = Narrowing(only=choices.only, keys=choices.keys)
    selection = selection_of(source, narrowing, now, _draw(source, choices, world, now))
    sights = await _sights(source, selection, world, patience)
    found = {
        name: sight.points for name, sight in sights.items() if isinstance(sight.points, Listing)
    }
    expansion = selection.expand(found)
    unasked = [
        target for name in sights if name not in found for target in selection.placeholders(name)
    ]
    whole = _Whole(source, choices, sights, expansion, unasked, now)
    return Readiness(
        plan=source.plan.name,
        plan_sha256=source.sha256,
        checked_at=now,
        servers=len(sights),
        targets=len(expansion.requests) + len(expansion.unresolved) + len(unasked),
        findings=tuple(whole.findings(_memory(State(choices.state)))),
        strict=strict,
    )


def _draw(source: Plan, choices: Choices, world: World, now: datetime) -> Draw:
    """Return what a run that began now would choose by; without a journal nothing was proven."""
    proofs: Proofs = NoProofs()
    if source.plan.samples_stalest:
        with suppress(JournalError):  # the item `journal` tells
            proofs = State(choices.state).proofs(before=now)
    return Draw(seed=seed_of(source.plan, choices.seed, world.rng), proofs=proofs)


async def _sights(
    source: Plan, selection: Selection, world: World, patience: float
) -> Mapping[ServerName, Sight]:
    """Ask all servers at once; in the order of the plan."""
    found: dict[ServerName, Sight] = {}
    asked = clients(source.plan, world)

    async def ask(client: Client) -> None:
        needs = selection.needs(client.server)
        sources = _sources(source, client.server)
        found[client.server] = await look(client, needs, sources, patience=patience)

    async with anyio.create_task_group() as tasks:
        for client in asked:
            tasks.start_soon(ask, client)
    return {client.server: found[client.server] for client in asked}


def _sources(source: Plan, server: ServerName) -> Sequence[Source]:
    """Return the families of restore points that the plan mounts from on a server."""
    named = set(inventory_needs(source.plan, server).sources)
    if isinstance(source, LockedPlan):
        named |= {each.point.source for each in source.requests if each.server == server}
    return sorted(named)


def _memory(state: State) -> _Memory:
    try:
        return _Memory(living=living_runs(state), durations=state.durations())
    except JournalError as exc:
        return _Memory(trouble=exc)


@dataclass(frozen=True, slots=True)
class _Whole:
    """Everything that was learned, from which the answers follow."""

    source: Plan
    choices: Choices
    sights: Mapping[ServerName, Sight]
    expansion: Expansion
    unasked: Sequence[UnresolvedTarget]
    now: datetime

    def findings(self, memory: _Memory) -> Iterator[Finding]:
        """Yield the answers: servers, the run as a whole, targets."""
        servers, requests = self.source.plan.servers, self.expansion.requests
        for name, sight in self.sights.items():
            held = mounts_elsewhere(memory.living, servers[name].url)
            yield from server_findings(sight, servers[name], self.now, held)
        yield from self._of_the_run(memory, requests)
        listed = {
            (name, point.source, point.id)
            for name, sight in self.sights.items()
            for point in sight.listed
        }
        elsewhere = machines_elsewhere(memory.living, requests, servers)
        yield from target_findings(self.expansion, self.unasked, listed, elsewhere, self.now)

    def _of_the_run(self, memory: _Memory, requests: Sequence[MountRequest]) -> Iterator[Finding]:
        plan = self.source.plan
        about = Subject(Scope.RUN, plan.name)
        if memory.trouble is None:
            yield same_plan(about, memory.living)
        else:
            yield about.not_visible("same_plan", "the journal cannot be read")
        yield journal_findings(about, State(self.choices.state), memory.trouble)
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
        for sentence in self.expansion.broken:
            yield about.problem("guards", sentence)
        if not self.expansion.broken:
            partly = "; the servers that were not asked cannot be judged" if self.unasked else ""
            yield about.ok("guards", f"every `expect` holds, and no VM is selected twice{partly}")

    def _duration(
        self, about: Subject, memory: _Memory, requests: Sequence[MountRequest]
    ) -> Finding:
        """Say how long the run may take, from the journal's history."""
        if memory.trouble is not None:
            return about.not_visible("duration", "the journal cannot be read")
        plan = self.source.plan
        limits = limits_of(plan, self.choices.max_mounts)
        found = expected_duration(requests, plan.waves, limits, memory.durations)
        gap = f"no history for {found.unknown} of {found.targets} targets"
        if found.seconds is None:
            return about.not_visible("duration", gap if found.targets else self._why_pointless())
        told = f"about {duration(found.seconds)} without trouble"
        if self.unasked:
            told += f", without the {len(self.unasked)} targets of servers that were not asked"
        if found.unknown:
            told += f" ({gap}: they count as the median of the others)"
        deadline = plan.limits.deadline
        if deadline is not None and found.seconds > deadline:
            return about.warning("duration", f"{told}: the deadline is {duration(deadline)}")
        rto = plan.objectives.rto
        if rto is not None and found.seconds > rto:
            return about.warning("duration", f"{told}: the RTO is {duration(rto)}")
        return about.ok("duration", told)

    def _why_pointless(self) -> str:
        """Say why there is no restore point whose mount could take time."""
        without, unasked = len(self.expansion.unresolved), len(self.unasked)
        if not without and not unasked:
            return "there are no targets"
        if not unasked:
            return "no target has a restore point"
        return f"their servers were not asked ({unasked} of {without + unasked} targets)"
