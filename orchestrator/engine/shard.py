"""What one process mounts of a run: the targets on its servers, from their lists to the logoffs.

The server connections open their sessions; the plan is expanded over what the servers list; each
wave, in its turn, offers its requests to the scheduler; every admitted request is one coroutine
(`mount.drive`). What the servers share (the turn of the waves, the end) is on the `Board`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from orchestrator.core.errors import Fenced
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import MountKey, MountRequest, Result, ServerName, WaveName
from orchestrator.core.ports.server import EnterpriseManager
from orchestrator.core.text import counted
from orchestrator.engine import inventory
from orchestrator.engine.board import Board
from orchestrator.engine.closing_audit import ClosingAudit
from orchestrator.engine.containment import harmless
from orchestrator.engine.content.download import remember_saved
from orchestrator.engine.forecast.recorded import recorded_forecast
from orchestrator.engine.held_files import HeldFiles
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.limits import UNKNOWN_DURATION, Limits
from orchestrator.engine.listing import Listings
from orchestrator.engine.mount import resume
from orchestrator.engine.mount.attempt import RunContext
from orchestrator.engine.mount.holds import HoldRule, Holds
from orchestrator.engine.offering import Offering
from orchestrator.engine.orders import EarlierRun, Orders
from orchestrator.engine.run_deadline import RunDeadline
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.servers import Servers
from orchestrator.engine.sharing import LimitSharing
from orchestrator.engine.surroundings import Surroundings
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import Listing

HOLD_TICK = 1.0
"""Seconds between looks whether somebody wants the holds ended; none while nothing is held."""


class Shard:
    """The part of a run that one process carries out on the servers of `clients`."""

    def __init__(
        self,
        orders: Orders,
        clients: Sequence[EnterpriseManager],
        board: Board,
        ledger: Ledger,
        around: Surroundings,
    ) -> None:
        """Nothing is sent before its tasks are started."""
        self._orders, self._board, self.ledger = orders, board, ledger
        self._around, self._others = around, around.others
        self.deadline = self._made_deadline()
        self._scheduler = Scheduler(
            orders.limits,
            list(board.waves),
            self._expected_or_guess,
            lambda server: self.servers.by_name[server].pace.allowance,
            around.others,
            self.deadline.has_time,
        )
        self._sharing = LimitSharing(around.others, self._scheduler, ledger)
        self.servers = Servers(
            orders,
            clients,
            ledger,
            rng=around.rng,
            scheduler=self._scheduler,
            others=around.others,
            on_bug=lambda server, exc: self._offering.broke_down(server, exc),
            on_exhausted=partial(board.halt, "host"),
        )
        plan = orders.started
        rule = HoldRule(every_s=plan.hold_s, failed_s=plan.keep_failed_s, unmount=plan.unmount)
        self._holds = Holds(rule, board.decide)
        self.held_files = HeldFiles()
        if orders.earlier is not None:
            remember_saved(around.file_store, orders.earlier.records)
        self._listings = Listings(self._listing)
        self.context = self._made_context()
        self._audit = ClosingAudit(self.servers, self.context, board)
        self._offering = Offering(
            orders, board, self.servers, self._listings, self.context, self._why_never
        )

    def _made_deadline(self) -> RunDeadline:
        """Return by when all is to be unmounted; a resume has all of its time again."""
        earlier, durations = self._orders.earlier, self._around.durations
        deadline = RunDeadline(
            self._orders.deadline,
            earlier.begins.at if earlier is not None else 0.0,
            self.ledger.now,
            lambda request: durations.expected(request.server, request.vm),
        )
        deadline.remember(self.ledger.records)
        self.ledger.watch(deadline)
        return deadline

    def _made_context(self) -> RunContext:
        """Return the parts that every mount of this shard uses."""
        around, started = self._around, self._orders.started
        return RunContext(
            ledger=self.ledger,
            scheduler=self._scheduler,
            servers=self.servers.by_name,
            earlier=self.servers.of_earlier,
            known_sessions=self._others.sessions,
            rng=around.rng,
            expected=lambda request: around.durations.expected(request.server, request.vm),
            accepting=lambda: self._board.accepting,
            deadline=self.deadline,
            is_out_of_time=self._is_out_of_time,
            unless_ended=self._board.unless_ended,
            unsubmitted=self._unsubmitted,
            check_sets=started.check_sets,
            baselines=around.baselines,
            systems=around.systems,
            programs=around.programs,
            aside=around.aside,
            file_store=around.file_store,
            may_write=self._orders.may_write and started.mode == "recovery",
            holds=self._holds,
            forced_end=self._board.forced_end,
            readable=self.held_files.readable,
        )

    def _expected_or_guess(self, request: MountRequest) -> float:
        seconds = self._around.durations.expected(request.server, request.vm)
        return UNKNOWN_DURATION if seconds is None else seconds

    # --- what it is and may leave --------------------------------------------------------------

    @property
    def failure(self) -> Exception | None:
        """An internal error that was contained in one target or server; the run exits 70."""
        return self._offering.failure

    @property
    def has_listed(self) -> bool:
        """Whether all of its servers that are asked have listed."""
        return not self._listings.missing

    @property
    def matched(self) -> Mapping[str, int]:
        """How many machines each guard of the plan has counted, by its place."""
        return self._offering.matched

    @property
    def may_have_left_mounts(self) -> bool:
        """Return whether a mount may be open, of a target or in a session that was not ended."""
        return any(record.may_be_open for record in self.ledger.records) or any(
            server.left_open for server in self.servers.served
        )

    # --- what the conductor says ---------------------------------------------------------------

    def offer(self, wave: WaveName) -> None:
        """Offer the targets of a wave: its turn has come, be it to be skipped."""
        self._offering.offer(wave)

    def pause(self, *, paused: bool) -> None:
        """Begin no mount while `paused`; sessions and open mounts are kept."""
        self._scheduler.pause(paused=paused)

    def limit_to(self, limits: Limits) -> None:
        """Change the limits from the next grant on."""
        self._scheduler.limit_to(limits)
        for name, mounts in limits.servers.items():
            self.servers.by_name[name].pace.raise_to(mounts)

    @property
    def waits_for_higher_limits(self) -> bool:
        """True while targets wait for a lowered limit that only mounts without an end use up."""
        return self._scheduler.waits_for_higher_limits

    def is_waiting(self, key: MountKey) -> bool:
        """Return whether a target has no slot yet."""
        return self._offering.is_waiting(key)

    def skip(self, key: MountKey, why: str) -> None:
        """Never submit a target that has no slot yet; it is concluded in its wave's turn."""
        self._offering.skip(key, why)

    def why_no_retry(self, key: MountKey) -> str | None:
        """Return why a concluded target cannot be tried once more now; None: it can."""
        planned = self.ledger[key].planned
        again = "once the run has ended: bulk-restore resume RUN --retry-failed"
        if not self._board.accepting:
            return f"the run submits nothing more; {again}"
        if not self._board.waves.is_under_way(planned.wave):
            return f"wave {planned.wave} is over; {again}"
        trouble = self.servers.by_name[planned.server].gate.given_up
        return None if trouble is None else f"{planned.server} was given up: {trouble}"

    def retry(self, key: MountKey) -> None:
        """Try a concluded target once more."""
        self._offering.retry(key)

    def submit_nothing_more(self) -> None:
        """Take back what waits for a slot; it is concluded."""
        self._scheduler.close()

    def end_holds(self) -> None:
        """End all holds, and hold nothing any more."""
        self._holds.close()

    def cancel_all(self) -> None:
        """Cancel what is in work: a person wants the end at once."""
        self._offering.cancel_all()

    async def look_once(self) -> None:
        """Have every server's tasks read once: this process was frozen, and saw none end."""
        await self.servers.look_once()

    # --- from the logons to the logoffs --------------------------------------------------------

    async def execute(
        self,
        work: Callable[[TaskGroup], Awaitable[None]],
        *beside: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Do `work` with the servers open, account for all that was mounted, and log off.

        `beside` are watched until then, and what `work` starts in the task group it is given.
        """
        watches = (self._watch_journal, self._watch_hold_requests, self._sharing.watch, *beside)
        async with anyio.create_task_group() as background:
            for watch in (*watches, self._board.forced_end.lift_shields):
                background.start_soon(watch)
            async with anyio.create_task_group() as servers:
                self.servers.serve(servers)
                try:
                    await work(background)
                    await self._audit.of_all()
                    await self.ledger.saved()  # the releases, before the sessions that prove them
                finally:
                    self._scheduler.close()
                    self.servers.close()
            background.cancel_scope.cancel()
        self._sharing.note_waits()
        self.servers.note_unkept()

    async def _watch_journal(self) -> None:
        """Without a journal no intent is durable, so nothing more is submitted."""
        self._board.halt("journal", await self.ledger.breaks())
        self._holds.close()  # nobody would find them again

    async def _watch_hold_requests(self) -> None:
        """End the present holds when `unmount` asks for it."""
        while True:
            await self._holds.begun()
            await anyio.sleep(HOLD_TICK)
            if self._around.end_of_holds_requested() and len(self._holds):
                self.ledger.note(f"{counted(len(self._holds), 'hold')} ended on request")
                self._holds.end()

    # --- its targets ---------------------------------------------------------------------------

    async def plan_targets(self, background: TaskGroup) -> tuple[Expansion, list[ServerName]]:
        """Plan the targets of the servers that list soon; return them, and the other servers."""
        self._listings.begin(self.servers.asked, background)
        await self._board.unless_ended(self._listings.first)
        silent = self._listings.missing
        expansion = self._orders.selection.expand(self._listings.found)
        if not silent:  # else a guard may count them together
            self._listings.forget()
        if expansion.broken:
            self._board.halt("expect", "; ".join(expansion.broken))
        self._offering.plan(expansion)
        self._offering.expect(silent)
        return expansion, silent

    async def forecast(self, requests: Sequence[MountRequest], begins: float) -> None:
        """Record how long the run may take; beside the work, for thousands of targets take long."""
        around = self._around
        work = partial(
            recorded_forecast,
            self._orders,
            requests,
            around.durations,
            begins=begins,
            per_mount=around.per_mount,
        )
        with harmless("run.not_forecast"):
            found = await around.aside(work)
            if found is not None:
                self.ledger.record(replace(found, at=self.ledger.now()))

    async def mount(
        self, silent: Sequence[ServerName], conduct: Callable[[], Awaitable[None]]
    ) -> None:
        """Mount what gets a slot while the waves are conducted, and wait until all is over."""
        async with self._offering.mounting(silent):
            await conduct()

    def allow(self, mounts: int | None) -> None:
        """Change how many mounts of the run may be open here; None: as many as there are."""
        self._scheduler.allow(mounts)

    @property
    def could_begin(self) -> int:
        """How many of its targets that wait would fit now if the run had no limit."""
        return self._scheduler.could_begin

    @property
    def only_waits(self) -> bool:
        """True while nothing is in work: its targets wait for a wave, or for a slot of the run.

        Not while a server is out of reach: how long that is waited for is decided here.
        """
        is_known = all(server.is_settled for server in self.servers.by_name.values())
        return is_known and self.has_listed and self._offering.only_waits

    @property
    def is_posting(self) -> bool:
        """True while a mount was asked for and the answer is not recorded."""
        return any(record.phase is Phase.SUBMITTING for record in self.ledger.records)

    @property
    def holds_any(self) -> bool:
        """True while a mount is only held open."""
        return any(record.phase is Phase.HELD for record in self.ledger.records)

    def sort_out(self, earlier: EarlierRun) -> resume.RemainingWork:
        """Return what an earlier process left, and conclude what needs nothing else."""
        return resume.sort_out(
            self.context, retry_failed=earlier.retry_failed, skipped=earlier.skipped
        )

    async def carry_on(
        self,
        earlier: EarlierRun,
        remains: resume.RemainingWork,
        background: TaskGroup,
        conduct: Callable[[], Awaitable[None]],
    ) -> None:
        """Continue after an earlier process: first its open work, then the waiting targets."""
        self._await(remains)
        self._ask_again(remains, background)
        await self.ledger.saved()
        begun = [*remains.begun, *remains.left]
        slots = {request.key: self._scheduler.occupy(request) for request in begun}
        self._others.forget_earlier()
        session_of = partial(resume.session_of, context=self.context)
        unfinished = resume.UnfinishedWork(map(session_of, begun))
        async with anyio.create_task_group() as waiting:
            for server in self.servers.of_earlier.values():
                waiting.start_soon(self._audit.of_earlier, server, unfinished)
            taking_up = resume.EarlierAttempts(
                unfinished=unfinished,
                over=earlier.over,
                last_used=earlier.last_used,
                background=waiting,
            )
            async with anyio.create_task_group() as tasks:
                for request in remains.left:
                    tidy = partial(taking_up.tidy, request, slots[request.key], self.context)
                    tasks.start_soon(self._offering.work, request, tidy)
                for request in remains.begun:
                    slot = slots[request.key]
                    tasks.start_soon(self._offering.mount, request, slot, taking_up.finish)
                await self.mount(remains.unlisted, conduct)
            waiting.cancel_scope.cancel()

    def _await(self, remains: resume.RemainingWork) -> None:
        """Make the waves wait for what is left."""
        for request in remains.waiting:
            self._offering.add(request)
        for request in remains.begun:
            if self.ledger[request.key].phase is Phase.HELD:
                self._board.decided_before(request.key)  # the earlier process has reacted to it
            else:
                self._board.waves.await_end(request.wave, request.key)

    def _ask_again(self, remains: resume.RemainingWork, background: TaskGroup) -> None:
        """Log on and list where targets wait or are not known, or count in a guard of those."""
        counted_again = self._counted_with(remains.unlisted)
        waiting_on = {request.server for request in remains.waiting}
        for name in {*remains.unlisted, *counted_again, *waiting_on}:
            self.servers.by_name[name].want()
        self._offering.expect(remains.unlisted)
        asked = [self.servers.by_name[name] for name in (*remains.unlisted, *counted_again)]
        self._listings.begin(asked, background)
        for name in counted_again:
            background.start_soon(self._offering.judge, name)

    def _counted_with(self, unlisted: Collection[ServerName]) -> Sequence[ServerName]:
        """Return the servers to count again, for the guards of those that never listed.

        What they listed for an earlier process is not in the journal.
        """
        guarded = self._orders.selection.guarded_with
        others = {other for name in unlisted for other in guarded(name)}
        return sorted(others.difference(unlisted)) if self._board.accepting else []

    async def _listing(self, server: ServerConnection) -> Listing | None:
        """Return the targets of a server, or None once it cannot be used any more."""
        try:
            return await inventory.listing_of(server, self._orders.selection.needs(server.name))
        except Fenced:
            raise  # nothing is wrong: another worker goes on
        except Exception as exc:  # noqa: BLE001 - one server's bug must not spread
            server.break_down(exc)
            return None

    def _unsubmitted(self, request: MountRequest) -> tuple[Result, str]:
        why = self._offering.skipped.get(request.key)
        why = why or self._board.waves.why_skipped(request.wave)
        if why is not None:
            return Result.SKIPPED, why
        if self._is_out_of_time(request):
            return Result.SKIPPED, self.deadline.why_not(request)
        return self._why_never(request.server)

    def _is_out_of_time(self, request: MountRequest) -> bool:
        """Return whether the deadline alone is why a target is not begun now."""
        is_open = self._board.accepting and self._board.waves.why_skipped(request.wave) is None
        is_usable = self.servers.by_name[request.server].trouble_now is None
        return is_open and is_usable and not self.deadline.has_time(request)

    def _why_never(self, server: ServerName) -> tuple[Result, str]:
        """Return result and reason for a target that was never submitted."""
        ended = self._board.why_ended()
        if ended is not None:
            return ended
        trouble = self.servers.by_name[server].trouble_now
        if trouble is not None:
            return Result.SKIPPED, f"{server} could not be used: {trouble}"
        if self._scheduler.is_held_full:
            return Result.SKIPPED, "no slot was left: held mounts have them all"
        return Result.SKIPPED, "no slot was left: mounts that cannot be released hold them all"
