"""The servers of a shard: one connection each for new mounts, and one for each earlier session."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import anyio
from anyio.abc import TaskGroup

from orchestrator.core.model import MountRequest, ServerName, SessionId
from orchestrator.core.ports.journal import OtherRuns
from orchestrator.core.ports.server import EnterpriseManager
from orchestrator.engine.activity_watch import ActivityWatch
from orchestrator.engine.adaptive_limit import AdaptiveLimit
from orchestrator.engine.availability import LOOK_AGAIN, Terms
from orchestrator.engine.connection import EarlierSession
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.left import left_in
from orchestrator.engine.mount import resume
from orchestrator.engine.orders import Orders
from orchestrator.engine.reachability import Reachability
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.start_interval import StartInterval

SETTLE_S = 5.0
"""Seconds for what a look has shown to be judged and unmounted."""


class Servers:
    """Every server connection of a shard."""

    def __init__(
        self,
        orders: Orders,
        clients: Sequence[EnterpriseManager],
        ledger: Ledger,
        *,
        rng: random.Random,
        scheduler: Scheduler,
        others: OtherRuns,
        on_bug: Callable[[ServerConnection, Exception], None],
        on_exhausted: Callable[[str], None],
    ) -> None:
        """Nothing is sent before `serve`.

        `on_bug` is told what nobody foresaw in a server's own tasks, `on_exhausted` that this
        machine is short of something.
        """
        self._orders, self._ledger, self._others = orders, ledger, others
        self._scheduler, self._on_exhausted, self._rng = scheduler, on_exhausted, rng
        self._shared = {each.server: Reachability(each.server, ledger) for each in clients}
        make = partial(ServerConnection, ledger=ledger, on_bug=on_bug)
        self.by_name = {
            each.server: make(each, terms=self._terms(each.server), on_gate=self._gate_moved)
            for each in clients
        }
        """Where new mounts are asked for."""
        self.of_earlier = {
            session: make(client, terms=self._terms(client.server, left=self._left_in(session)))
            for client in clients
            for session in client.kept
        }
        """Where what earlier processes began is finished, each in a session of its own."""
        wanted = [client for client in clients if resume.is_wanted(client, orders)]
        self.asked = [self.by_name[client.server] for client in wanted]
        """Those of them of which the run may want anything."""
        for server in self.by_name.values():
            self._gate_moved(server)  # closed until its logon
            if server not in self.asked:
                server.leave_out()

    @property
    def served(self) -> list[ServerConnection]:
        """Every connection that may be used."""
        return [*self.asked, *self.of_earlier.values()]

    def serve(self, tasks: TaskGroup) -> None:
        """Log on where that is wanted, and keep the sessions until `close`."""
        for server in self.served:
            tasks.start_soon(server.serve)

    def close(self) -> None:
        """Allow the logoffs: nothing of this run needs the servers any more."""
        for server in self.served:
            server.close()

    async def rest(self) -> None:
        """End every session, after a last look at it, and open no other; what waits waits on.

        Nothing may be in work in any.
        """
        for server in self.served:
            server.is_resting = True
            server.close()
        for server in self.served:
            await server.ended.wait()

    def used_for(self, request: MountRequest) -> tuple[ServerConnection, ...]:
        """Return the servers in which a target is worked on: where it was begun, and for new."""
        attempts = self._ledger[request.key].attempts
        begun = self.of_earlier.get(attempts[-1].session) if attempts else None
        server = self.by_name[request.server]
        return (server,) if begun is None else (begun, server)

    async def look_once(self) -> None:
        """Have every server's tasks read once, and let what they show be settled."""
        with anyio.move_on_after(LOOK_AGAIN):
            async with anyio.create_task_group() as tasks:
                for server in self.served:
                    tasks.start_soon(server.looked)
            await anyio.sleep(SETTLE_S)

    def note_unkept(self) -> None:
        """Record that nobody could read the sessions of earlier processes without a token."""
        earlier = self._orders.earlier
        if earlier is None:
            return
        unread = {
            attempt.session: record.planned.server
            for record in earlier.records
            for attempt in record.attempts
            if attempt.session not in earlier.ends
        }
        for session, server in unread.items():
            if session not in self.of_earlier:
                self.by_name[server].end_unkept(session)

    def _terms(self, server: ServerName, *, left: EarlierSession | None = None) -> Terms:
        is_new = self._orders.earlier is None
        is_asked = is_new and left is None
        return Terms(
            starts=StartInterval(self._orders.limits.start_interval),
            outage=self._orders.outage,
            watch=self._orders.watch,
            rng=random.Random(self._rng.random()),  # noqa: S311 - jitter, not a secret
            on_exhausted=self._on_exhausted,
            pace=self._pace(server) if left is None else AdaptiveLimit(),
            left=left,
            reachability=self._shared[server],
            wanted=is_new,
            activity=self._activity(server) if left is None else None,
            known_sessions=partial(self._others.sharing_sessions, server) if is_asked else None,
            on_met=self._others.meet,
        )

    def _activity(self, server: ServerName) -> ActivityWatch:
        started = self._orders.started
        return ActivityWatch(
            server,
            self._ledger,
            started.started_at,
            count_others=self._scheduler.counts_others(server),
            on_others=partial(self._scheduler.count_others, server),
            every_s=self._orders.watch.activity,
        )

    def _pace(self, server: ServerName) -> AdaptiveLimit:
        limit = self._orders.limits.servers.get(server)
        working = partial(self._scheduler.working_on, server)
        return AdaptiveLimit(limit, working, self._orders.limits.ramp)

    def _left_in(self, session: SessionId) -> EarlierSession:
        """Return the journal's facts about a session that an earlier process left."""
        earlier = self._orders.earlier
        if earlier is None:
            return left_in(session, ())
        return left_in(
            session,
            earlier.records,
            earlier.attributed,
            earlier.strays,
            ends=earlier.ends,
            over=earlier.over,
            used_until=earlier.last_used(session),
        )

    def _gate_moved(self, server: ServerConnection) -> None:
        if server.gate.is_open and server.closed_to_mounts is None:
            self._scheduler.open_server(server.name)
            return
        if server.gate.given_up is not None or server.closed_to_mounts is not None:
            self._scheduler.give_up_server(server.name)
        else:
            self._scheduler.close_server(server.name)
