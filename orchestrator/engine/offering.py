"""The targets of a run: planned from what servers list, offered wave by wave, mounted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from orchestrator.core.events import (
    PlaceholderReplaced,
    TargetConcluded,
    TargetPlanned,
    WaveFinished,
    WaveStarted,
)
from orchestrator.core.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.core.model import (
    MountRequest,
    MountState,
    Result,
    ServerName,
    SessionId,
    UnresolvedTarget,
    WaveName,
)
from orchestrator.engine import inventory
from orchestrator.engine.containment import harmless
from orchestrator.engine.listing import Listings
from orchestrator.engine.mount.attempt import RunContext, record_out_of_reach
from orchestrator.engine.mount.drive import Work, conclude, drive
from orchestrator.engine.scheduler import Slot
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.stopping import Stopping
from orchestrator.log import Log
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import Listing

log = Log(__name__)

T = TypeVar("T")


class Offering(Stopping):
    """Plans targets, offers them to scheduler, and works on each that gets a slot."""

    _asked: list[ServerConnection]
    _servers_of_earlier: dict[SessionId, ServerConnection]
    """Where what earlier processes began is finished, each in a session of its own."""
    _listings: Listings
    _context: RunContext
    _on_holding: Callable[[], None]
    _tasks: TaskGroup

    def __init__(self) -> None:
        """No target is known yet."""
        super().__init__()
        self._waves_over = False
        self._noted: set[str] = set()
        self.failure: Exception | None = None
        """An internal error that was contained in one target; the run exits 70."""

    @property
    def _served(self) -> list[ServerConnection]:
        """Every server connection of the run."""
        return [*self._asked, *self._servers_of_earlier.values()]

    def _expect(self, silent: Sequence[ServerName]) -> None:
        """Make the waves wait for the targets of servers that could not be asked yet."""
        for name in silent:
            for entry in self._orders.selection.placeholders(name):
                self._waves.await_server(entry.wave, name)

    async def _listing(self, server: ServerConnection) -> Listing | None:
        """Return the targets of a server, or None once it cannot be used any more."""
        try:
            return await inventory.listing_of(server, self._orders.selection.needs(server.name))
        except Exception as exc:  # noqa: BLE001 - one server's bug must not spread
            server.break_down(exc)
            return None

    def _plan(self, expansion: Expansion) -> None:
        """Plan every target of an expansion, and conclude those without a point."""
        for note in expansion.notes:
            if note not in self._noted:  # a file's rows may belong to several servers
                self._noted.add(note)
                self.ledger.note(note)
        for request in expansion.requests:
            if request.key in self.ledger:
                if self.ledger[request.key].planned.point is not None:
                    continue  # selected twice: a broken guard says so, and nothing is mounted
                # an earlier process found no point, and planned neither checks nor downloads
                self._replace(self.ledger[request.key])
            self.ledger.record(TargetPlanned.of(request, at=self._now()))
            self._waves.add(request)
        self._conclude_unresolved(
            [(target, Result.FAILED, target.reason) for target in expansion.unresolved]
        )

    def _conclude_unresolved(self, targets: Sequence[tuple[UnresolvedTarget, Result, str]]) -> None:
        """Plan the targets that have no point, all of them first, then conclude them."""
        targets = [each for each in targets if each[0].key not in self.ledger]
        for target, _result, _why in targets:
            self._waves.await_end(target.wave, target.key)
            self.ledger.record(TargetPlanned.of(target, at=self._now()))
        for target, result, why in targets:
            at, key, mount = self._now(), target.key, MountState.NONE
            self.ledger.record(
                TargetConcluded(at=at, key=key, result=result, mount=mount, message=why)
            )
            self._decide(key)

    async def _mount_everything(self, silent: Sequence[ServerName]) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for server in silent:
                tasks.start_soon(self._late, self.servers[server])
            async with anyio.create_task_group() as waves:
                for wave in self._waves:
                    waves.start_soon(self._run_wave, wave)
            self._waves_over = True  # nothing is left that a deadline could stop
            if any(record.phase is Phase.HELD for record in self.ledger.records):
                await self.ledger.saved()
                self._on_holding()

    async def _run_wave(self, name: WaveName) -> None:
        """Offer a wave's targets when the waves before it are over, and wait for their end."""
        await self._waves.turn(name)
        begun = self._accepting and self._waves.may_start(name)
        if begun:
            self.ledger.record(WaveStarted(at=self._now(), wave=name))
        self._offer(name)
        await self._waves.is_over(name)
        if begun:
            self.ledger.record(WaveFinished(at=self._now(), wave=name))

    def _offer(self, name: WaveName) -> None:
        requests = self._waves.opened(name)
        if self._waves.why_skipped(name) is not None:
            for request in requests:
                self._deliver(request, None)
        else:
            for request in requests:
                self.servers[request.server].want()
            self._scheduler.offer(requests, self._deliver)
        self._waves.look_at(name)

    def _deliver(self, request: MountRequest, slot: Slot | None) -> None:
        """Start the mount that was admitted, or conclude the one that never will be."""
        if slot is None:
            conclude(request, self._context)
            self._decide(request.key)
            return
        server = self.servers[request.server]
        server.peak_mounts = max(server.peak_mounts, self._scheduler.open_on(request.server))
        self._tasks.start_soon(self._mount, request, slot)

    async def _mount(self, request: MountRequest, slot: Slot, first: Work | None = None) -> None:
        await self._work(request, partial(drive, request, slot, self._context, first=first))
        self._decide(request.key)

    async def _work(self, request: MountRequest, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work of a target, until the second signal or an error in its server's tasks."""
        servers = self._servers_of(request)
        with anyio.CancelScope() as scope:
            self._scopes[scope] = servers
            if self._forced_end.is_wanted or any(server.bug is not None for server in servers):
                scope.cancel()
            try:
                await work()
            except Exception as exc:  # noqa: BLE001 - one mount's bug must not spread
                self._contain(request, exc)
            finally:
                del self._scopes[scope]
        for server in servers:
            self._leave_broken(server)

    def _servers_of(self, request: MountRequest) -> tuple[ServerConnection, ...]:
        """Return the servers in which a target is worked on: where it was begun, and for new."""
        attempts = self.ledger[request.key].attempts
        begun = self._servers_of_earlier.get(attempts[-1].session) if attempts else None
        server = self.servers[request.server]
        return (server,) if begun is None else (begun, server)

    def _contain(self, request: MountRequest, exc: Exception) -> None:
        """Keep a bug in one mount from taking the others with it; the run will exit 70."""
        self.failure = self.failure or exc
        log.error("mount.internal_error", key=request.key, exc_info=exc)
        with harmless("mount.not_concluded", key=request.key):
            if self.ledger[request.key].phase in HOLDING_PHASES:
                why = f"internal error: {type(exc).__name__}"
                record_out_of_reach(request, self._context, why)
            conclude(request, self._context)

    def _broke_down(self, server: ServerConnection, exc: Exception) -> None:
        """Remove the mounts of a server whose own tasks have a bug; the other servers continue."""
        self.failure = self.failure or exc
        for scope, at in tuple(self._scopes.items()):
            if server in at:
                scope.cancel()
        self._leave_broken(server)

    def _leave_broken(self, server: ServerConnection) -> None:
        """Give a broken server up once nothing is in work there any more."""
        in_use = any(server in servers for servers in self._scopes.values())
        if server.bug is not None and not in_use:
            server.abandon()

    async def _late(self, server: ServerConnection) -> None:
        """Expand and offer the targets of a server that could not be asked at the start."""
        if self._orders.earlier is not None and self._orders.selection.guarded_with(server.name):
            await self._unless_stopped(self._listings.first)  # a guard counts them together
        found = await self._unless_stopped(partial(self._listings.of, server.name))
        if found is not None and self._accepting:
            try:
                self._take_up(server, found)
            except Exception as exc:  # noqa: BLE001 - one server's bug must not spread
                server.break_down(exc)
                found = None
        if found is None or not self._accepting:
            why = self._why_never(server.name)
            entries = self._orders.selection.placeholders(server.name)
            self._conclude_unresolved([(target, *why) for target in entries])
        self._waves.heard_of(server.name)
        self._watch_budget()
        for name in self._waves.under_way:
            self._offer(name)

    def _take_up(self, server: ServerConnection, found: Listing) -> None:
        """Plan the targets of a server that has listed late."""
        self._judge_guards()
        expansion = self._orders.selection.expand({server.name: found})
        self._plan(expansion)
        self._drop_placeholders(server.name, expansion)

    def _judge_guards(self) -> None:
        """Halt at a broken guard; one over several servers counts all that have listed."""
        guards = self._orders.selection.expand(self._listings.found).broken
        if guards:
            self._halt("expect", "; ".join(guards))

    async def _judge(self, server: ServerName) -> None:
        """Judge the guards again once a server has listed that is asked for nothing else."""
        if await self._unless_stopped(partial(self._listings.of, server)) is not None:
            self._judge_guards()

    def _drop_placeholders(self, server: ServerName, expansion: Expansion) -> None:
        """Drop the placeholders of machines that an earlier process could not list."""
        now_known = {request.key for request in expansion.requests}
        now_known.update(target.key for target in expansion.unresolved)
        for record in self.ledger.records:
            planned = record.planned
            if planned.server == server and planned.point is None and planned.key not in now_known:
                self._replace(record)

    def _replace(self, placeholder: MountRecord) -> None:
        key, server = placeholder.planned.key, placeholder.planned.server
        self.ledger.record(
            PlaceholderReplaced(at=self._now(), key=key, server=server, was=placeholder.result)
        )
