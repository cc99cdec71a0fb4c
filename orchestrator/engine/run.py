"""One run: waves, targets, stop, halt, the end.

The server connections open their sessions; the plan is expanded over what the servers list; each
wave offers its requests to the scheduler when the waves before it are finished; every admitted
request is one coroutine (`mount.drive`). Nothing is submitted any more once the run is halted
(budget, deadline, critical target) or stopped (signal); what is open is still unmounted. A target
whose mount is held is decided at its verdict: the waves after it start, budget and critical
targets react, and the run ends when the last hold does. The servers log off last.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Container, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from orchestrator.core.errors import ServerUnusable
from orchestrator.core.events import RunFinished
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import ExitCode, MountKey, MountRequest, ServerName, SessionId
from orchestrator.core.ports.journal import Baselines, Durations, Journal, Observer, OtherRuns
from orchestrator.core.ports.local import FileStore, Offload, Programs
from orchestrator.core.ports.server import EnterpriseManager
from orchestrator.core.run_state import NOT_GOOD
from orchestrator.core.text import duration
from orchestrator.engine.adaptive_limit import AdaptiveLimit
from orchestrator.engine.availability import LOOK_AGAIN, Terms
from orchestrator.engine.bounded import before
from orchestrator.engine.connection import FORGOTTEN_AFTER, Connection, EarlierSession
from orchestrator.engine.content.download import remember_saved
from orchestrator.engine.forced_end import AUDIT_S
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.left import left_in
from orchestrator.engine.listing import Listings
from orchestrator.engine.mount import orphans, resume
from orchestrator.engine.mount.attempt import RunContext
from orchestrator.engine.mount.holds import HoldRule, Holds
from orchestrator.engine.offering import Offering
from orchestrator.engine.orders import EarlierRun, Orders
from orchestrator.engine.reachability import Reachability
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.sharing import LimitSharing
from orchestrator.engine.silence import FROZEN_AFTER, overslept
from orchestrator.engine.waves import Waves
from orchestrator.log import Log

log = Log(__name__)

T = TypeVar("T")

UNKNOWN_DURATION = 180.0
"""Seconds a machine without history is expected to be mounted; only comparisons matter."""

SETTLE_S = 5.0
"""Seconds for what a look has shown to be judged and unmounted."""


class Run(Offering):
    """A run from its first event to its last."""

    def __init__(
        self,
        orders: Orders,
        clients: Sequence[EnterpriseManager],
        journal: Journal,
        observers: Sequence[Observer] = (),
        *,
        exit_code: Callable[[], int],
        rng: random.Random,
        durations: Durations,
        baselines: Baselines | None,
        programs: Programs,
        aside: Offload,
        file_store: FileStore,
        end_of_holds_requested: Callable[[], bool],
        others: OtherRuns,
        on_holding: Callable[[], None],
    ) -> None:
        """`exit_code` returns the exit code of the recorded events.

        `baselines` is None where no check compares with an earlier run.

        `others` are the runs whose mounts count in this one's limits, too.

        `end_of_holds_requested` returns whether `unmount` asked for it since the last call;
        `on_holding` is called once all that remains of the run are mounts that are held.
        """
        super().__init__()
        self._orders = orders
        self._exit_code = exit_code
        self._durations = durations
        self._end_of_holds_requested = end_of_holds_requested
        self._on_holding = on_holding
        self._others = others
        self._earlier = orders.earlier
        known = orders.earlier.records if orders.earlier else ()
        finished = orders.earlier.finished if orders.earlier else frozenset()
        self.ledger = Ledger(journal, observers, self._now, known)
        self._waves = Waves(orders.started.waves, self.ledger, finished)
        self._scheduler = Scheduler(
            orders.limits,
            list(self._waves),
            self._expected_or_guess,
            lambda server: self.servers[server].pace.allowance,
            self._others,
        )
        self._sharing = LimitSharing(self._others, self._scheduler, self.ledger)
        self._make_servers(clients, rng)
        self._listings = Listings(self._listing)
        plan = orders.started
        rule = HoldRule(every_s=plan.hold_s, failed_s=plan.keep_failed_s, unmount=plan.unmount)
        self._holds = Holds(rule, self._decide)
        remember_saved(file_store, known)
        self._context = self._made_context(rng, file_store, aside, baselines, programs)

    def _make_servers(self, clients: Sequence[EnterpriseManager], rng: random.Random) -> None:
        """Connect to each server for new mounts, and to each session of an earlier process."""
        make = partial(ServerConnection, ledger=self.ledger, on_bug=self._broke_down)
        shared = {each.server: Reachability(each.server, self.ledger) for each in clients}
        is_new = self._earlier is None

        def terms(server: ServerName, *, left: EarlierSession | None = None) -> Terms:
            is_asked = is_new and left is None
            return Terms(
                outage=self._orders.outage,
                watch=self._orders.watch,
                rng=random.Random(rng.random()),  # noqa: S311 - jitter, not a secret
                on_exhausted=lambda why: self._halt("host", why),
                pace=self._pace(server) if left is None else AdaptiveLimit(),
                left=left,
                reachability=shared[server],
                wanted=is_new,
                known_sessions=partial(self._others.sharing_sessions, server) if is_asked else None,
                on_met=self._others.meet,
            )

        self.servers = {
            each.server: make(each, terms=terms(each.server), on_gate=self._gate_moved)
            for each in clients
        }
        self._servers_of_earlier = {
            session: make(client, terms=terms(client.server, left=self._left_in(session)))
            for client in clients
            for session in client.kept
        }
        wanted = [client for client in clients if resume.is_wanted(client, self._orders)]
        self._asked = [self.servers[client.server] for client in wanted]
        for server in self.servers.values():
            self._gate_moved(server)  # closed until its logon
            if server not in self._asked:
                server.leave_out()

    def _made_context(
        self,
        rng: random.Random,
        file_store: FileStore,
        aside: Offload,
        baselines: Baselines | None,
        programs: Programs,
    ) -> RunContext:
        """Return the parts that every mount of this run uses."""
        return RunContext(
            ledger=self.ledger,
            scheduler=self._scheduler,
            servers=self.servers,
            earlier=self._servers_of_earlier,
            known_sessions=self._others.sessions,
            rng=rng,
            expected=lambda request: self._durations.expected(request.server, request.vm),
            accepting=lambda: self._accepting,
            unsubmitted=self._unsubmitted,
            check_sets=self._orders.started.check_sets,
            baselines=baselines,
            programs=programs,
            aside=aside,
            file_store=file_store,
            may_write=self._orders.may_write and self._orders.started.mode == "recovery",
            holds=self._holds,
            forced_end=self._forced_end,
        )

    def _left_in(self, session: SessionId) -> EarlierSession:
        """Return the journal's facts about a session that an earlier process left."""
        earlier = self._earlier
        if earlier is None:
            return left_in(session, ())
        return left_in(
            session,
            earlier.records,
            earlier.attributed,
            earlier.strays,
            ended=earlier.ended,
            over=earlier.over,
            used_until=earlier.used_until,
        )

    @property
    def may_have_left_mounts(self) -> bool:
        """Return whether a mount may be open, of a target or in a session that was not ended."""
        return any(record.may_be_open for record in self.ledger.records) or any(
            server.left_open for server in self._served
        )

    def _expected_or_guess(self, request: MountRequest) -> float:
        seconds = self._durations.expected(request.server, request.vm)
        return UNKNOWN_DURATION if seconds is None else seconds

    def _pace(self, server: ServerName) -> AdaptiveLimit:
        limit = self._orders.limits.servers.get(server)
        return AdaptiveLimit(limit, lambda: self._scheduler.working_on(server))

    async def execute(self) -> int:
        """Carry out the orders and return the exit code that was recorded.

        Raises:
            JournalError: not even the beginning can be kept; nothing was sent.
        """
        self._start_clock()
        if self._earlier is not None:
            self._start -= self._earlier.resumed.at
            self.ledger.record(self._earlier.resumed)
        else:
            self.ledger.record(self._orders.started)
        await self.ledger.durable()
        async with anyio.create_task_group() as background:
            background.start_soon(self._watch_journal)
            background.start_soon(self._watch_hold_requests)
            background.start_soon(self._watch_deadline)
            background.start_soon(self._forced_end.lift_shields)
            background.start_soon(self._sharing.watch)
            async with anyio.create_task_group() as servers:
                for server in self._served:
                    servers.start_soon(server.serve)
                try:
                    if self._earlier is None:
                        await self._carry_out(background)
                    else:
                        await self._carry_on(self._earlier, background)
                    await self._forced_end.unless_late(self._look_for_strays, AUDIT_S)
                    await self.ledger.saved()  # the releases, before the sessions that prove them
                finally:
                    self._scheduler.close()
                    for server in self._served:
                        server.close()
            background.cancel_scope.cancel()
        self._sharing.note_waits()
        self._note_unkept()
        return await self._finish()

    async def _look_for_strays(self) -> None:
        """Account for all that the sessions have mounted; a second signal waits for no task."""
        async with anyio.create_task_group() as tasks:
            for server in self._served:
                tasks.start_soon(self._account_for, server)

    async def _account_for(self, server: ServerConnection) -> None:
        """Account for a server's sessions; that of an earlier process may have to be found first.

        It is waited for as a target in it would be, and after a first signal for a minute.
        """

        async def late() -> None:
            await self._stopped.wait()
            await anyio.sleep(orphans.READ_WITHIN)

        with suppress(ServerUnusable):
            await before(late, server.taken_up)
        wait = 0.0 if self._forced_end.is_wanted else orphans.WAIT
        for connection in server.connections:
            await self._audit(server, connection, wait)

    async def _audit(self, server: ServerConnection, connection: Connection, wait: float) -> None:
        """Account for one session, if anything was ever mounted in it."""
        if server.is_unused(connection):
            connection.audited = True
            return
        try:
            await orphans.audit(connection, server, self._context, wait=wait)
        except Exception as exc:  # noqa: BLE001 - one server's bug must not spread
            server.break_down(exc)

    def _note_unkept(self) -> None:
        """Record that nobody could read the sessions of earlier processes without a token."""
        earlier = self._earlier
        if earlier is None:
            return
        unread = {
            attempt.session: record.planned.server
            for record in earlier.records
            for attempt in record.attempts
            if attempt.session not in earlier.ended
        }
        for session, server in unread.items():
            if session not in self._servers_of_earlier:
                self.servers[server].end_unkept(session)

    async def _finish(self) -> int:
        await self.ledger.saved()  # the code tells whether the journal holds all that it is about
        code = self._exit_code() if self.failure is None else ExitCode.INTERNAL
        ended = self._orders.started.started_at + timedelta(seconds=self._now())
        self.ledger.record(
            RunFinished(
                at=self._now(),
                exit_code=code,
                finished_at=ended,
                interrupted=self._stopped_by is not None,
            )
        )
        await self.ledger.saved()
        return code

    async def _carry_out(self, background: TaskGroup) -> None:
        self._listings.begin(self._asked, background)
        await self._unless_stopped(self._listings.first)
        silent = self._listings.missing
        expansion = self._orders.selection.expand(self._listings.found)
        if expansion.broken:
            self._halt("expect", "; ".join(expansion.broken))
        self._plan(expansion)
        self._expect(silent)
        if not self.ledger.records and not self._waves.wait_for_servers:
            self._halt("selection", "no target is selected: nothing would be proven")
        confirm = self._orders.confirm
        if self._accepting and confirm is not None:
            agreed = await self._unless_stopped(lambda: confirm(expansion, silent))
            if not agreed and self._stopped_by is None and self._halted is None:
                self.stop("declined")
        await self.ledger.saved()
        await self._mount_everything(silent)

    async def _carry_on(self, earlier: EarlierRun, background: TaskGroup) -> None:
        """Continue after an earlier process: first its open work, then the waiting targets."""
        if earlier.broken_guard is not None:  # it was judged once, over all that was listed then
            self._halt("expect", earlier.broken_guard)
        remains = resume.sort_out(self._context, retry_failed=earlier.resumed.retry_failed)
        self._react_to_earlier(earlier.accepted)
        for request in remains.waiting:
            self._waves.add(request)
        for request in remains.begun:
            if self.ledger[request.key].phase is Phase.HELD:
                self._waves.decide(request.key)  # the earlier process has reacted to it
            else:
                self._waves.await_end(request.wave, request.key)
        counted = self._counted_with(remains.unlisted)
        waiting_on = {request.server for request in remains.waiting}
        for name in {*remains.unlisted, *counted, *waiting_on}:
            self.servers[name].want()
        self._expect(remains.unlisted)
        asked = [self.servers[name] for name in (*remains.unlisted, *counted)]
        self._listings.begin(asked, background)
        for name in counted:
            background.start_soon(self._judge, name)
        await self.ledger.saved()
        begun = [*remains.begun, *remains.left]
        slots = {request.key: self._scheduler.occupy(request) for request in begun}
        self._others.forget_earlier()
        session_of = partial(resume.session_of, context=self._context)
        unfinished = resume.UnfinishedWork(map(session_of, begun))
        async with anyio.create_task_group() as waiting:
            for server in self._servers_of_earlier.values():
                waiting.start_soon(self._end_earlier, server, unfinished)
            taking_up = resume.EarlierAttempts(
                unfinished=unfinished,
                over=earlier.over,
                forgotten_at=earlier.used_until + FORGOTTEN_AFTER,
                background=waiting,
            )
            async with anyio.create_task_group() as tasks:
                for request in remains.left:
                    tidy = partial(taking_up.tidy, request, slots[request.key], self._context)
                    tasks.start_soon(self._work, request, tidy)
                for request in remains.begun:
                    tasks.start_soon(self._mount, request, slots[request.key], taking_up.finish)
                await self._mount_everything(remains.unlisted)
            waiting.cancel_scope.cancel()

    def _react_to_earlier(self, accepted: Container[MountKey]) -> None:
        """Halt at a critical target that ended badly while no process looked, or one that stopped.

        Where a halt has told of it, whoever resumes wants the run to go on.
        """
        for record in self.ledger.records:
            target = record.planned
            is_critical = target.critical or self._waves.is_critical(target.wave)
            if is_critical and record.result in NOT_GOOD and target.key not in accepted:
                self._consider_halting(target, record.result)

    def _counted_with(self, unlisted: Collection[ServerName]) -> Sequence[ServerName]:
        """Return the servers to count again, for the guards of those that never listed.

        What they listed for an earlier process is not in the journal.
        """
        guarded = self._orders.selection.guarded_with
        others = {other for name in unlisted for other in guarded(name)}
        return sorted(others.difference(unlisted)) if self._accepting else []

    async def _end_earlier(
        self, server: ServerConnection, unfinished: resume.UnfinishedWork
    ) -> None:
        """Log off from an earlier process's session once nothing is left in it.

        What may be open there, or cannot be known now, waits for the last look of the run.
        """
        try:
            connection = await server.taken_up()
        except ServerUnusable:
            return
        if connection is None:
            return
        await unfinished.over(connection.session.id)
        if not server.is_any_open(connection):
            await self._audit(server, connection, orphans.WAIT)
            if connection.audited and not server.is_any_open(connection):
                await self.ledger.saved()  # the releases, before the session that proves them
                server.close()

    async def _watch_deadline(self) -> None:
        deadline = self._orders.deadline
        if deadline is not None:
            resumed_at = self._earlier.resumed.at if self._earlier is not None else 0.0
            late = await overslept(max(0.0, resumed_at + deadline - self._now()))
            if late > FROZEN_AFTER:
                await self._look_once()
            if not self._waves_over:
                self._halt("deadline", f"the run took longer than {duration(deadline)}")

    async def _look_once(self) -> None:
        """Have every server's tasks read once: this process was frozen, and saw none end."""
        with anyio.move_on_after(LOOK_AGAIN):
            async with anyio.create_task_group() as tasks:
                for server in self._served:
                    tasks.start_soon(server.looked)
            await anyio.sleep(SETTLE_S)

    def _gate_moved(self, server: ServerConnection) -> None:
        if server.gate.is_open and server.closed_to_mounts is None:
            self._scheduler.open_server(server.name)
            return
        if server.gate.given_up is not None or server.closed_to_mounts is not None:
            self._scheduler.give_up_server(server.name)
        else:
            self._scheduler.close_server(server.name)
