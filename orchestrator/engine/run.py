"""One run: waves, targets, stop, halt, the end.

Sites open their sessions; the plan is expanded over what they list; each wave offers its
requests to admission when the waves before it are finished; every admitted request is one
coroutine (`mounting.drive`). Nothing is submitted any more once the run is halted (budget,
deadline, critical target) or stopped (signal); what is open is still unmounted. A target whose
mount is held is decided at its verdict: the waves after it start, budget and critical targets
react, and the run ends when the last hold does. The sites log off last.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup

from orchestrator.engine import inventory, resuming, strays
from orchestrator.engine.admission import Admission, Limits, Slot
from orchestrator.engine.attempt import Crew, record_out_of_reach
from orchestrator.engine.copying import remember_saved
from orchestrator.engine.holds import HoldRule, Holds
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.mounting import Work, conclude, drive
from orchestrator.engine.orders import Earlier, Expansion, Orders
from orchestrator.engine.pace import Pace
from orchestrator.engine.planning import planned, planned_without_point
from orchestrator.engine.site import Site
from orchestrator.engine.waves import Waves
from orchestrator.events import (
    PlaceholderReplaced,
    RunFinished,
    RunHalted,
    RunNoted,
    StopRequested,
    TargetConcluded,
    TargetPlanned,
    WaveFinished,
    WaveStarted,
)
from orchestrator.lifecycle import FIRM_RESULTS, HOLDING_PHASES, MountRecord, Phase
from orchestrator.model import (
    MountKey,
    MountRequest,
    MountState,
    Result,
    ServerName,
    UnresolvedTarget,
    WaveName,
    counted,
)
from orchestrator.plan.inventory import Listing
from orchestrator.policy import SESSION_IDLE_LIMIT
from orchestrator.ports import (
    Baselines,
    Durations,
    EnterpriseManager,
    HoldRequests,
    Journal,
    NoBaselines,
    NoDurations,
    NoHoldRequests,
    NoPrograms,
    NoShelf,
    Observer,
    Programs,
    Shelf,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

UNKNOWN_DURATION = 180.0
"""Seconds a machine without history is expected to be mounted; only comparisons matter."""

HOLD_TICK = 1.0
"""Seconds between looks whether somebody wants the holds ended; none while nothing is held."""


class Run:
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
        durations: Durations | None = None,
        baselines: Baselines | None = None,
        programs: Programs | None = None,
        shelf: Shelf | None = None,
        hold_requests: HoldRequests | None = None,
        on_holding: Callable[[], None] = lambda: None,
    ) -> None:
        """`exit_code` says, from what was recorded, how the process should end.

        `hold_requests` tell that somebody wants the holds ended; `on_holding` is called once
        all that remains of the run are mounts that are held.
        """
        self._orders = orders
        self._exit_code = exit_code
        self._durations = durations or NoDurations()
        self._hold_requests = hold_requests or NoHoldRequests()
        self._on_holding = on_holding
        self._start = 0.0
        self._earlier = orders.earlier
        known = orders.earlier.records if orders.earlier else ()
        attributed = orders.earlier.attributed if orders.earlier else ()
        self.ledger = Ledger.continued(journal, known, self._now, observers)
        finished = orders.earlier.finished if orders.earlier else frozenset()
        self._waves = Waves(orders.started.waves, self.ledger, finished)
        self._admission = Admission(
            orders.limits,
            list(self._waves),
            self._expected_or_guess,
            lambda server: self.sites[server].pace.allowance,
        )
        self.sites = {
            client.server: Site(
                client,
                self.ledger,
                outage=orders.outage,
                watch=orders.watch,
                rng=random.Random(rng.random()),  # noqa: S311 - jitter, not a secret
                on_gate=self._gate_moved,
                on_exhausted=lambda why: self._halt("host", why),
                pace=self._pace(client.server, orders.limits),
                left=resuming.left_in(client.kept, known, attributed),
            )
            for client in clients
        }
        for site in self.sites.values():
            self._gate_moved(site)  # closed until its logon
        shelf = shelf or NoShelf()
        remember_saved(shelf, known)
        self._holds = Holds(
            HoldRule(
                every_s=orders.started.hold_s,
                failed_s=orders.started.keep_failed_s,
                unmount=orders.started.unmount,
            ),
            self._decide,
        )
        self._crew = Crew(
            ledger=self.ledger,
            admission=self._admission,
            sites=self.sites,
            rng=rng,
            expected=lambda request: self._durations.expected(request.server, request.vm),
            accepting=lambda: self._accepting,
            unsubmitted=self._unsubmitted,
            check_sets=orders.started.check_sets,
            baselines=baselines or NoBaselines(),
            programs=programs or NoPrograms(),
            shelf=shelf,
            may_write=orders.may_write and orders.started.mode == "recovery",
            holds=self._holds,
        )
        self._scopes: set[anyio.CancelScope] = set()
        self._accepting = True
        self._not_accepting = anyio.Event()
        self._halted: str | None = None
        self._stopped_by: str | None = None
        self._forced = False
        self._failed = 0
        self._noted: set[str] = set()
        self._tasks: TaskGroup
        self.failure: Exception | None = None
        """An internal error that was contained in one target; the run exits 70."""

    def _now(self) -> float:
        return anyio.current_time() - self._start

    def _expected_or_guess(self, request: MountRequest) -> float:
        seconds = self._durations.expected(request.server, request.vm)
        return UNKNOWN_DURATION if seconds is None else seconds

    def _pace(self, server: ServerName, limits: Limits) -> Pace:
        return Pace(limits.servers.get(server), lambda: self._admission.working_on(server))

    # --- from outside ----------------------------------------------------------------------

    def stop(self, signal: str) -> None:
        """Submit nothing more and let running mounts end; the second time, cancel them."""
        forced = self._stopped_by is not None
        self._stopped_by = self._stopped_by or signal
        self.ledger.record(StopRequested(at=self._now(), signal=signal, forced=forced))
        self._submit_nothing_more()
        self._holds.close()
        if forced:
            self._forced = True
            for scope in tuple(self._scopes):
                scope.cancel()

    async def execute(self) -> int:
        """Carry out the orders and return the exit code that was recorded.

        Raises:
            JournalError: not even the beginning can be kept; nothing was sent.
        """
        self._start = anyio.current_time()
        if self._earlier is not None:
            self._start -= self._earlier.resumed.at
            self.ledger.record(self._earlier.resumed)
        else:
            self.ledger.record(self._orders.started)
        await self.ledger.durable()
        async with anyio.create_task_group() as background:
            background.start_soon(self._watch_journal)
            background.start_soon(self._watch_hold_requests)
            async with anyio.create_task_group() as sites:
                for site in self.sites.values():
                    sites.start_soon(site.serve)
                try:
                    if self._earlier is None:
                        await self._carry_out()
                    else:
                        await self._carry_on(self._earlier)
                    await self._look_for_strays()
                    await self.ledger.saved()  # the releases, before the sessions that prove them
                finally:
                    for site in self.sites.values():
                        site.close()
            background.cancel_scope.cancel()
        return await self._finish()

    async def _look_for_strays(self) -> None:
        """Remove what lost requests have begun since; a second signal waits for no task."""
        async with anyio.create_task_group() as tasks:
            for site in self.sites.values():
                wait = 0.0 if self._forced else strays.WAIT
                tasks.start_soon(partial(strays.remove_strays, site, self._crew, wait=wait))

    async def _finish(self) -> int:
        await self.ledger.saved()  # the code tells whether the journal holds all that it is about
        code = self._exit_code() if self.failure is None else 70
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

    # --- preparing -------------------------------------------------------------------------

    async def _carry_out(self) -> None:
        found, silent = await self._ask_everybody()
        expansion = self._orders.selection.expand(found)
        if expansion.broken:
            self._halt("expect", "; ".join(expansion.broken))
        self._plan(expansion)
        self._expect(silent)
        if not self.ledger.records and not self._waves.wait_for_servers:
            self._halt("expect", "no target is selected: nothing would be proven")
        confirm = self._orders.confirm
        if self._accepting and confirm is not None:
            agreed = await self._unless_stopped(lambda: confirm(expansion, silent))
            if not agreed and self._stopped_by is None and self._halted is None:
                self.stop("declined")
        await self.ledger.saved()
        await self._mount_everything(silent)

    async def _unless_stopped(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer, or None once nothing more is to be submitted."""
        answer: T | None = None
        async with anyio.create_task_group() as tasks:

            async def until_stopped() -> None:
                await self._not_accepting.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(until_stopped)
            answer = await ask()
            tasks.cancel_scope.cancel()
        return answer

    async def _carry_on(self, earlier: Earlier) -> None:
        """Go on where an earlier process ended: first what it began, then what still waits."""
        remains = resuming.sort_out(self._crew, retry_failed=earlier.resumed.retry_failed)
        for request in remains.waiting:
            self._waves.add(request)
        for request in remains.begun:
            if self.ledger[request.key].phase is Phase.HELD:
                self._waves.decide(request.key)  # the earlier process has reacted to it
            else:
                self._waves.await_end(request.wave, request.key)
        self._expect(remains.unlisted)
        await self.ledger.saved()
        begun = [*remains.begun, *remains.left]
        slots = {request.key: self._admission.occupy(request) for request in begun}
        async with anyio.create_task_group() as background:
            taking_up = resuming.TakingUp(
                settlement=resuming.Settlement(begun, self._crew),
                forgotten_at=earlier.resumed.at + SESSION_IDLE_LIMIT,
                background=background,
            )
            async with anyio.create_task_group() as tasks:
                for request in remains.left:
                    tasks.start_soon(taking_up.tidy, request, slots[request.key], self._crew)
                for request in remains.begun:
                    tasks.start_soon(self._mount, request, slots[request.key], taking_up.finish)
                await self._mount_everything(remains.unlisted)
            background.cancel_scope.cancel()

    def _expect(self, silent: Sequence[ServerName]) -> None:
        """Let the waves wait for the targets of servers that could not be asked yet."""
        for name in silent:
            for entry in self._orders.selection.placeholders(name):
                self._waves.await_server(entry.wave, name)

    async def _ask_everybody(
        self,
    ) -> tuple[dict[ServerName, Listing], list[ServerName]]:
        """Return the inventories of the servers that answer, and the names of the others."""
        found: dict[ServerName, Listing] = {}
        async with anyio.create_task_group() as tasks:

            async def ask(site: Site) -> None:
                await site.decided()
                if site.gate.is_open:
                    points = await self._listing(site)
                    if points is not None:
                        found[site.name] = points

            for site in self.sites.values():
                tasks.start_soon(ask, site)
        return found, [name for name in self.sites if name not in found]

    async def _listing(self, site: Site) -> Listing | None:
        """Return what the plan asks of a server, or None once it cannot be used any more."""
        return await inventory.listing_of(site, self._orders.selection.needs(site.name))

    def _plan(self, expansion: Expansion) -> None:
        """Make every target of an expansion known, and conclude those without a point."""
        for note in expansion.notes:
            if note not in self._noted:  # a file's rows may belong to several servers
                self._noted.add(note)
                self.ledger.record(RunNoted(at=self._now(), message=note))
        for request in expansion.requests:
            if request.key not in self.ledger:
                self.ledger.record(planned(self._now(), request))
            elif self.ledger[request.key].planned.point is None:  # an earlier process found none
                resuming.reopen(self.ledger[request.key], self._crew, request)
            else:
                continue  # selected twice: a broken guard says so, and nothing is mounted
            self._waves.add(request)
        self._conclude_unresolved(
            [(target, Result.FAILED, target.reason) for target in expansion.unresolved]
        )

    def _conclude_unresolved(self, targets: Sequence[tuple[UnresolvedTarget, Result, str]]) -> None:
        """Plan the targets that have no point, all of them first, then conclude them."""
        targets = [each for each in targets if each[0].key not in self.ledger]
        for target, _result, _why in targets:
            self._waves.await_end(target.wave, target.key)
            self.ledger.record(planned_without_point(self._now(), target))
        for target, result, why in targets:
            self.ledger.record(
                TargetConcluded(
                    at=self._now(),
                    key=target.key,
                    result=result,
                    mount=MountState.NONE,
                    message=why,
                )
            )
            self._decide(target.key)

    # --- mounting --------------------------------------------------------------------------

    async def _mount_everything(self, silent: Sequence[ServerName]) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for server in silent:
                tasks.start_soon(self._late, self.sites[server])
            async with anyio.create_task_group() as deadline:
                deadline.start_soon(self._watch_deadline)
                async with anyio.create_task_group() as waves:
                    for wave in self._waves:
                        waves.start_soon(self._run_wave, wave)
                deadline.cancel_scope.cancel()  # nothing is left that it could stop
            if any(record.phase is Phase.HELD for record in self.ledger.records):
                await self.ledger.saved()
                self._on_holding()

    async def _run_wave(self, name: WaveName) -> None:
        """Offer a wave's targets when the waves before it are over, and see them end."""
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
            self._admission.offer(requests, self._deliver)
        self._waves.look_at(name)

    def _deliver(self, request: MountRequest, slot: Slot | None) -> None:
        """Start the mount that was admitted, or conclude the one that never will be."""
        if slot is None:
            conclude(request, self._crew)
            self._decide(request.key)
            return
        site = self.sites[request.server]
        site.peak_mounts = max(site.peak_mounts, self._admission.open_on(request.server))
        self._tasks.start_soon(self._mount, request, slot)

    async def _mount(self, request: MountRequest, slot: Slot, first: Work | None = None) -> None:
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            if self._forced:
                scope.cancel()
            try:
                await drive(request, slot, self._crew, first=first)
            except Exception as exc:  # noqa: BLE001 - one mount's bug must not spread
                self._contain(request, exc)
            finally:
                self._scopes.discard(scope)
        self._decide(request.key)

    def _contain(self, request: MountRequest, exc: Exception) -> None:
        """Keep a bug in one mount from taking the others with it; the run will exit 70."""
        self.failure = self.failure or exc
        log.error("mount.internal_error", key=request.key, exc_info=exc)
        record = self.ledger[request.key]
        if record.phase in HOLDING_PHASES:
            why = f"internal error: {type(exc).__name__}"
            record_out_of_reach(request, self._crew, why)
        conclude(request, self._crew)

    async def _late(self, site: Site) -> None:
        """Expand and offer the targets of a server that could not be asked at the start."""
        found = await self._unless_stopped(partial(self._listing, site))
        if found is None or not self._accepting:
            why = self._why_never(site.name)
            entries = self._orders.selection.placeholders(site.name)
            self._conclude_unresolved([(target, *why) for target in entries])
        else:
            expansion = self._orders.selection.expand({site.name: found})
            if expansion.broken:
                self._halt("expect", "; ".join(expansion.broken))
            self._plan(expansion)
            self._drop_placeholders(site.name, expansion)
        self._waves.heard_of(site.name)
        for name in self._waves.under_way:
            self._offer(name)

    def _drop_placeholders(self, server: ServerName, expansion: Expansion) -> None:
        """Let the targets go that stood for what an earlier process could not list."""
        now_known = {request.key for request in expansion.requests}
        now_known.update(target.key for target in expansion.unresolved)
        for record in self.ledger.records:
            planned = record.planned
            if planned.server == server and planned.point is None and planned.key not in now_known:
                self._replace(record)

    def _replace(self, placeholder: MountRecord) -> None:
        self.ledger.record(
            PlaceholderReplaced(
                at=self._now(),
                key=placeholder.planned.key,
                server=placeholder.planned.server,
                was=placeholder.result,
            )
        )

    # --- ending ----------------------------------------------------------------------------

    def _decide(self, key: MountKey) -> None:
        """React, once, to the answer for a target: budget, critical targets, wave.

        For one whose mount is held it is the verdict: nothing waits for the end of the hold.
        """
        record = self.ledger[key]
        if self._waves.decide(key):
            result = self._waves.answer(record)
            if result in {Result.FAILED, Result.UNKNOWN}:
                self._failed += 1
            if self._accepting and result not in FIRM_RESULTS:
                self._consider_halting(record.planned, result)
        self._waves.look_at(record.planned.wave)

    def _consider_halting(self, target: TargetPlanned, result: Result | None) -> None:
        if target.critical or self._waves.is_critical(target.wave):
            self._halt("critical", f"{target.key} is critical and ended {result}")
            return
        budget = self._orders.failures
        if budget is not None and budget.is_spent(failed=self._failed, targets=len(self.ledger)):
            self._halt(
                "failures", f"{counted(self._failed, 'target')} failed; the plan allows {budget}"
            )

    async def _watch_journal(self) -> None:
        """Without a journal no intent is durable, so nothing more is submitted."""
        self._halt("journal", await self.ledger.breaks())
        self._holds.close()  # nobody would find them again

    async def _watch_hold_requests(self) -> None:
        """End the holds of the moment when somebody asks for that."""
        while True:
            await self._holds.begun()
            await anyio.sleep(HOLD_TICK)
            if self._hold_requests.taken() and len(self._holds):
                message = f"{counted(len(self._holds), 'hold')} ended on request"
                self.ledger.record(RunNoted(at=self._now(), message=message))
                self._holds.end()

    async def _watch_deadline(self) -> None:
        deadline = self._orders.deadline
        if deadline is not None:
            resumed_at = self._earlier.resumed.at if self._earlier is not None else 0.0
            await anyio.sleep(max(0.0, resumed_at + deadline - self._now()))
            self._halt("deadline", f"the run took longer than {deadline:g} s")

    def _halt(self, reason: str, detail: str) -> None:
        if self._accepting:
            self._halted = detail
            self.ledger.record(RunHalted(at=self._now(), reason=reason, detail=detail))
            self._submit_nothing_more()

    def _submit_nothing_more(self) -> None:
        self._accepting = False
        self._not_accepting.set()
        self._admission.close()

    def _gate_moved(self, site: Site) -> None:
        if site.gate.is_open and site.closed_to_mounts is None:
            self._admission.open_server(site.name)
            return
        if site.gate.given_up is not None or site.closed_to_mounts is not None:
            self._admission.give_up_server(site.name)
        else:
            self._admission.close_server(site.name)

    def _unsubmitted(self, request: MountRequest) -> tuple[Result, str]:
        why = self._waves.why_skipped(request.wave)
        if why is not None:
            return Result.SKIPPED, why
        return self._why_never(request.server)

    def _why_never(self, server: ServerName) -> tuple[Result, str]:
        """Return result and reason for a target that was never submitted."""
        if self._halted is not None:
            return Result.SKIPPED, f"the run halted first: {self._halted}"
        if self._stopped_by is not None:
            return Result.CANCELLED, f"the run was stopped first ({self._stopped_by})"
        trouble = self.sites[server].trouble_now
        if trouble is not None:
            return Result.SKIPPED, f"{server} could not be used: {trouble}"
        if self._admission.is_held_full:
            return Result.SKIPPED, "no slot was left: held mounts have them all"
        return Result.SKIPPED, "no slot was left: mounts that cannot be released hold them all"
