"""The targets of a shard: planned from what servers list, offered wave by wave, mounted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio.abc import TaskGroup

from orchestrator.core.errors import Fenced
from orchestrator.core.events import PlaceholderReplaced, TargetConcluded, TargetPlanned
from orchestrator.core.lifecycle import HOLDING_PHASES, MountRecord
from orchestrator.core.model import (
    MountKey,
    MountRequest,
    MountState,
    Result,
    ServerName,
    UnresolvedTarget,
    WaveName,
)
from orchestrator.engine.board import Board
from orchestrator.engine.containment import harmless
from orchestrator.engine.listing import Listings
from orchestrator.engine.mount.attempt import RunContext, record_out_of_reach
from orchestrator.engine.mount.conclude import conclude
from orchestrator.engine.mount.drive import Work, drive
from orchestrator.engine.mount.resume import reopen, request_of
from orchestrator.engine.orders import Orders
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.servers import Servers
from orchestrator.engine.slot import Slot
from orchestrator.log import Log
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import Listing

log = Log(__name__)


class Offering:
    """Plans targets, offers them to the scheduler, and works on each that gets a slot."""

    def __init__(
        self,
        orders: Orders,
        board: Board,
        servers: Servers,
        listings: Listings,
        context: RunContext,
        why_never: Callable[[ServerName], tuple[Result, str]],
    ) -> None:
        """`why_never` says what to conclude of targets on a server that are never submitted."""
        self._board, self._servers, self._listings = board, servers, listings
        self._context, self._why_never = context, why_never
        self._ledger, self._scheduler = context.ledger, context.scheduler
        self._selection, self._is_resumed = orders.selection, orders.earlier is not None
        self._waiting: dict[WaveName, list[MountRequest]] = {}
        """Planned and not offered yet: their wave has not had its turn."""
        self._scopes: dict[anyio.CancelScope, tuple[ServerConnection, ...]] = {}
        self._in_work: set[MountKey] = set()
        self._tasks: TaskGroup
        self._noted: set[str] = set()
        self.skipped: dict[MountKey, str] = {}
        """Targets that a person wants skipped, and why; none of them has a slot."""
        self.failure: Exception | None = None
        """An internal error that was contained in one target; the run exits 70."""
        self.matched: dict[str, int] = {}
        """How many machines each guard of the plan has counted, by its place."""

    @property
    def only_waits(self) -> bool:
        """True while every target waits: for its wave, or for a slot, or has its result."""
        return self._in_work <= self._context.ungranted

    def expect(self, silent: Sequence[ServerName]) -> None:
        """Make the waves wait for the targets of servers that could not be asked yet."""
        for name in silent:
            for entry in self._selection.placeholders(name):
                self._board.waves.await_server(entry.wave, name)

    def plan(self, expansion: Expansion) -> None:
        """Plan every target of an expansion, and conclude those without a point."""
        self.matched.update(expansion.matched)
        for note in expansion.notes:
            if note not in self._noted:  # a file's rows may belong to several servers
                self._noted.add(note)
                self._ledger.note(note)
        for request in expansion.requests:
            if request.key in self._ledger:
                if self._ledger[request.key].planned.point is not None:
                    continue  # selected twice: a broken guard says so, and nothing is mounted
                # an earlier process found no point, and planned neither checks nor downloads
                self._replace(self._ledger[request.key])
            self._ledger.record(TargetPlanned.of(request, at=self._ledger.now()))
            self.add(request)
        self._conclude_unresolved(
            [(target, Result.FAILED, target.reason) for target in expansion.unresolved]
        )

    def add(self, request: MountRequest) -> None:
        """Offer a request when its wave has its turn."""
        self._board.waves.await_end(request.wave, request.key)
        self._waiting.setdefault(request.wave, []).append(request)

    def _conclude_unresolved(self, targets: Sequence[tuple[UnresolvedTarget, Result, str]]) -> None:
        """Plan the targets that have no point, all of them first, then conclude them."""
        targets = [each for each in targets if each[0].key not in self._ledger]
        for target, _result, _why in targets:
            self._board.waves.await_end(target.wave, target.key)
            self._ledger.record(TargetPlanned.of(target, at=self._ledger.now()))
        for target, result, why in targets:
            at, key, mount = self._ledger.now(), target.key, MountState.NONE
            self._ledger.record(
                TargetConcluded(at=at, key=key, result=result, mount=mount, message=why)
            )
            self._board.decide(key)

    @asynccontextmanager
    async def mounting(self, silent: Iterable[ServerName] = ()) -> AsyncIterator[None]:
        """Mount in the context what gets a slot, and wait at its end until all of it is over.

        `silent` are the servers whose targets are not known yet.
        """
        async with anyio.create_task_group() as self._tasks:
            for name in silent:
                self._tasks.start_soon(self._late, self._servers.by_name[name])
            yield

    def offer(self, wave: WaveName) -> None:
        """Offer the targets of a wave: its turn has come, be it to be skipped."""
        requests = self._waiting.pop(wave, [])
        if self._board.waves.why_skipped(wave) is not None:
            for request in requests:
                self._deliver(request, None)
        else:
            for request in requests:
                if request.key in self.skipped:
                    self._deliver(request, None)
            wanted = [request for request in requests if request.key not in self.skipped]
            for request in wanted:
                self._servers.by_name[request.server].want()
            self._scheduler.offer(wanted, self._deliver)

    def is_waiting(self, key: MountKey) -> bool:
        """Return whether a target has no slot yet, be it that its wave had no turn."""
        later = (request.key for requests in self._waiting.values() for request in requests)
        return self._scheduler.waits(key) or key in later

    def skip(self, key: MountKey, why: str) -> None:
        """Never submit a target that has no slot yet; it is concluded in its wave's turn."""
        self.skipped[key] = why
        self._scheduler.withdraw(key=key)

    def retry(self, key: MountKey) -> None:
        """Offer a concluded target of a wave that is under way once more."""
        self.skipped.pop(key, None)
        reopen(self._ledger[key], self._context)
        request = request_of(self._ledger[key])
        self._board.waves.await_end(request.wave, key)
        self._servers.by_name[request.server].want()
        self._scheduler.offer([request], self._deliver)

    def cancel_all(self) -> None:
        """Cancel what is in work; the clean-up of each mount still happens."""
        for scope in tuple(self._scopes):
            scope.cancel()

    def _deliver(self, request: MountRequest, slot: Slot | None) -> None:
        """Start the mount that was admitted, or conclude the one that never will be."""
        if slot is None:
            conclude(request, self._context)
            self._board.decide(request.key)
            return
        server = self._servers.by_name[request.server]
        server.peak_mounts = max(server.peak_mounts, self._scheduler.open_on(request.server))
        self._tasks.start_soon(self.mount, request, slot)

    async def mount(self, request: MountRequest, slot: Slot, first: Work | None = None) -> None:
        """Bring a target to its end; `first` is done in place of its first attempt."""
        await self.work(request, partial(drive, request, slot, self._context, first=first))
        self._board.decide(request.key)

    async def work(self, request: MountRequest, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work of a target, until the second signal or an error in its server's tasks.

        Raises:
            Fenced: another worker has its server.
        """
        servers = self._servers.used_for(request)
        with anyio.CancelScope() as scope:
            self._scopes[scope] = servers
            self._in_work.add(request.key)
            if self._board.forced_end.is_wanted or any(
                server.bug is not None for server in servers
            ):
                scope.cancel()
            try:
                await work()
            except Fenced:
                raise  # nothing is wrong: another worker goes on
            except Exception as exc:  # noqa: BLE001 - one mount's bug must not spread
                self._contain(request, exc)
            finally:
                del self._scopes[scope]
                self._in_work.discard(request.key)
        for server in servers:
            self._leave_broken(server)

    def _contain(self, request: MountRequest, exc: Exception) -> None:
        """Keep a bug in one mount from taking the others with it; the run will exit 70."""
        self.failure = self.failure or exc
        log.error("mount.internal_error", key=request.key, exc_info=exc)
        with harmless("mount.not_concluded", key=request.key):
            if self._ledger[request.key].phase in HOLDING_PHASES:
                why = f"internal error: {type(exc).__name__}"
                record_out_of_reach(request, self._context, why)
            conclude(request, self._context)

    def broke_down(self, server: ServerConnection, exc: Exception) -> None:
        """Remove the mounts of a server whose own tasks have a bug; the other servers continue."""
        self.failure = self.failure or exc
        for scope, at in tuple(self._scopes.items()):
            if server in at:
                scope.cancel()
        self._leave_broken(server)

    def _leave_broken(self, server: ServerConnection) -> None:
        """Give a broken server up once nothing is in work there any more."""
        if server.bug is None:
            return
        if not any(server in servers for servers in self._scopes.values()):
            server.abandon()

    async def _late(self, server: ServerConnection) -> None:
        """Expand and offer the targets of a server that could not be asked at the start."""
        if self._is_resumed and self._selection.guarded_with(server.name):
            await self._board.unless_ended(self._listings.first)  # a guard counts them together
        found = await self._board.unless_ended(partial(self._listings.of, server.name))
        if found is not None and self._board.accepting:
            try:
                self._take_up(server, found)
            except Exception as exc:  # noqa: BLE001 - one server's bug must not spread
                server.break_down(exc)
                found = None
        if found is None or not self._board.accepting:
            why = self._why_never(server.name)
            entries = self._selection.placeholders(server.name)
            self._conclude_unresolved([(target, *why) for target in entries])
        self._board.heard_of(server.name)
        for name in self._board.waves.under_way:
            self.offer(name)

    def _take_up(self, server: ServerConnection, found: Listing) -> None:
        """Plan the targets of a server that has listed late."""
        self._judge_guards()
        expansion = self._selection.expand({server.name: found})
        self.plan(expansion)
        self._drop_placeholders(server.name, expansion)

    def _judge_guards(self) -> None:
        """Halt at a broken guard; one over several servers counts all that have listed."""
        guards = self._selection.expand(self._listings.found).broken
        if guards:
            self._board.halt("expect", "; ".join(guards))

    async def judge(self, server: ServerName) -> None:
        """Judge the guards again once a server has listed that is asked for nothing else."""
        if await self._board.unless_ended(partial(self._listings.of, server)) is not None:
            self._judge_guards()

    def _drop_placeholders(self, server: ServerName, expansion: Expansion) -> None:
        """Drop the placeholders of machines that an earlier process could not list."""
        now_known = {request.key for request in expansion.requests}
        now_known.update(target.key for target in expansion.unresolved)
        for record in self._ledger.records:
            planned = record.planned
            if planned.server == server and planned.point is None and planned.key not in now_known:
                self._replace(record)

    def _replace(self, placeholder: MountRecord) -> None:
        key, server = placeholder.planned.key, placeholder.planned.server
        self._ledger.record(
            PlaceholderReplaced(
                at=self._ledger.now(), key=key, server=server, was=placeholder.result
            )
        )
