"""A run's conductor while this worker has its lease: it reads every chain, and writes its own.

It opens waves, halts the run, shares its limit among the shards, pins their chains, tells the
plan's webhooks, and ends the run. When it dies nothing stops mounting: only new waves and halts
wait for its successor, which knows from the chains all that it knew.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import anyio

from orchestrator.app.notify.notifier import Notifier
from orchestrator.app.outcome import ending_of, outcome_of
from orchestrator.app.sites.chain import Chain
from orchestrator.app.sites.chain_reading import ChainReader, ChainReplaced
from orchestrator.app.sites.pins import Pins
from orchestrator.app.sites.served import Served
from orchestrator.app.wiring import orders_of, secret_variables
from orchestrator.core.earlier_runs.durations import MountTimes
from orchestrator.core.events import (
    Event,
    HaltAsked,
    MountKept,
    RunFinished,
    RunHalted,
    RunResumed,
    RunStarted,
    ShardDamaged,
    ShardPlanned,
    TargetConcluded,
    TargetPlanned,
    TargetReopened,
    WaveSkipped,
)
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import MountState, ServerName, WaveName
from orchestrator.core.policy import PROOF_AFTER
from orchestrator.core.run_state import RunState
from orchestrator.core.sites import CONDUCTOR, Ask, ShardRow, ShardState, Stop
from orchestrator.core.version import __version__
from orchestrator.em.credentials import resolve as resolve_secret
from orchestrator.engine.conductor import Conductor
from orchestrator.engine.connection import FORGOTTEN_AFTER
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.orders import EarlierRun, Orders, Selection
from orchestrator.log import Log
from orchestrator.plan.file.access import SecretReference
from orchestrator.report.exit_codes import exit_code

log = Log(__name__)

LOOK_S = 0.5
"""Seconds between looks at the chains."""

SHARE_S = 1.0
"""Seconds between two sharings of the run's limit."""

GRACE_S = 4.0
"""Seconds for which the first waves wait for further servers once one has planned its targets."""


LEFT_AFTER = 30.0
"""Seconds after its result when the shard of a target whose mount is left has more to do."""

UNKNOWN_AFTER = FORGOTTEN_AFTER + PROOF_AFTER + 60.0
"""Seconds after its result when a target whose mount is unknown must have given its slot back."""


class _Shards:
    """The shards as the conductor sees them: they read from the database what it has recorded."""

    def __init__(self, why_skipped: Callable[[WaveName], str | None]) -> None:
        self._why_skipped = why_skipped
        self.skipped: Callable[[WaveName, str], None] = lambda wave, why: None

    def offer(self, wave: WaveName) -> None:
        why = self._why_skipped(wave)
        if why is not None:
            self.skipped(wave, why)

    def submit_nothing_more(self) -> None:
        """The halt, or the stop, is in the database."""

    def end_holds(self) -> None:
        """So is the stop."""

    def cancel_all(self) -> None:
        """And that it was the second."""

    async def look_once(self) -> None:
        """A worker that was frozen looks for itself."""


class ServedConductor(Served):
    """The conductor of a run."""

    _conductor: Conductor | None = None
    _ledger: Ledger
    _state: RunState
    _selection: Selection
    _chain: Chain
    _pins: Pins
    _reader: ChainReader

    def heard(self) -> None:
        """Stop the run if somebody has asked for that."""
        conductor, stopped = self._conductor, self.standing.stopped
        if conductor is None or stopped is None:
            return
        if not conductor.is_stopped:
            conductor.stop("stop")
        if stopped is Stop.NOW and not conductor.forced_end.is_wanted:
            conductor.stop("stop --now")

    async def rest(self) -> None:
        """Do nothing: it has no session."""

    def last_words(self, damage: str) -> Sequence[Event]:
        """Return that the run mounts nothing more; who can read its chain conducts it to its end.

        If nobody can, it ends here.
        """
        now = self.clock()
        halted = RunHalted(at=now, reason="journal", detail=damage)
        return (
            [halted]
            if self._reader.is_readable
            else [halted, self._finished(now, ExitCode.IN_DOUBT)]
        )

    async def work(self) -> None:
        """Conduct the run from where its chains are to its end.

        Raises:
            Fenced: another worker conducts it.
        """
        started = self.run.started
        serving = self.serving
        self._reader = ChainReader(serving.database, self.lease.run, self.asked, serving.clock)
        self._written_off: set[ServerName] = set()
        self._state, self._first, self._news = RunState(started), anyio.Event(), anyio.Event()
        history = await self._new_events()
        if any(isinstance(event, ShardPlanned) for event in history):
            self._first.set()
        self._chain = self.chain = self._opened_chain()
        notifier = self._notifier()
        self._ledger = ledger = Ledger(self._chain, (_Folding(self._state),), self.clock)
        for event in history:
            if not isinstance(event, RunStarted):
                ledger.take_in(event)
        await self._resume_if_finished()
        self._conductor = conductor = self._recalled()
        ledger.watch(notifier)
        self._pins = Pins(ledger, self._reader.heads)
        ledger.watch(self._pins)
        self._pins.pin()  # what was taken while nobody conducted
        self._judge_guards()
        self.heard()
        async with notifier.delivering(ledger.note), anyio.create_task_group() as tasks:
            tasks.start_soon(self._look)
            tasks.start_soon(self._share)
            tasks.start_soon(conductor.watch_deadline)
            await self._first_planned()
            await conductor.conduct()
            await self._all_finished()
            await self._finish(notifier)
            tasks.cancel_scope.cancel()

    # --- from the chains -----------------------------------------------------------------------

    async def _new_events(self) -> Sequence[Event]:
        """Return what the chains have that was not read; what is recorded from now on is later.

        Where a failover has replaced what was read, its successor conducts, who reads all anew.
        """
        try:
            events = await self._reader.new_events(own=self.chain is None)
        except ChainReplaced as exc:
            log.warning("chain.replaced", run=self.lease.run, why=str(exc))
            self._scope.cancel()
            await anyio.sleep_forever()
            raise  # it was cancelled before
        latest = max((event.at for event in events), default=0.0)
        self.clock.least(math.nextafter(latest, math.inf))
        return events

    async def _look(self) -> None:
        """Read what the shards have recorded, and react to it."""
        while True:
            for event in await self._new_events():
                self._ledger.take_in(event)
                self._react(event)
            self._write_off()
            self._news.set()
            self._news = anyio.Event()
            await anyio.sleep(LOOK_S)

    def _write_off(self) -> None:
        """Wait for nothing more from servers whose records are lost, and halt the run."""
        for name, damage in self._reader.unreadable.items():
            if self._state.servers[name].damaged is None:
                now = self._ledger.now()
                self._ledger.record(ShardDamaged(at=now, server=name, detail=damage))
        conductor = self._conductor
        assert conductor is not None  # noqa: S101 - made before
        for name, server in self._state.servers.items():
            if server.damaged is None or name in self._written_off:
                continue
            self._written_off.add(name)
            conductor.halt("journal", server.damaged)
            for record in self._ledger.records:
                if record.planned.server == name:
                    conductor.waves.decide(record.planned.key)
            conductor.heard_of(name)
            self._first.set()

    def _react(self, event: Event) -> None:
        conductor = self._conductor
        assert conductor is not None  # noqa: S101 - it looks from then on
        match event:
            case TargetPlanned(key=key, wave=wave):
                conductor.waves.await_end(wave, key)
            case TargetReopened(key=key):
                conductor.waves.await_end(self._ledger[key].planned.wave, key)
            case TargetConcluded(key=key) | MountKept(key=key):
                conductor.decide(key)
            case ShardPlanned(server=server):
                conductor.heard_of(server)
                self._first.set()
                self._judge_guards()
            case HaltAsked(reason=reason, detail=detail):
                conductor.halt(reason, detail)
            case _:
                pass

    def _judge_guards(self) -> None:
        """Halt at a guard over several servers that is broken, by what each of them matched."""
        servers, conductor = self._state.servers.items(), self._conductor
        assert conductor is not None  # noqa: S101 - made before
        matched = {name: each.matched for name, each in servers if each.matched is not None}
        broken = self._selection.broken_together(matched)
        if broken:
            conductor.halt("expect", "; ".join(broken))

    def _opened_chain(self) -> Chain:
        chain = Chain(
            self.lease,
            self.taken.head,
            wake=self.serving.stream.wake,
            shortly=self.serving.stream.wake,
            soon=self.serving.stream.wake,  # the shards wait for what it says
            waves={},
            wave_limits={},
            times=MountTimes(),
            on_fenced=self.lose,
            on_damaged=self._scope.cancel,  # a successor conducts what can be read
        )
        self.serving.stream.add(chain)
        return chain

    async def _resume_if_finished(self) -> None:
        """Record that the run goes on, if it had ended and somebody asked for it."""
        if self._state.finished is None:
            return
        requests = await self.asked(partial(self.serving.database.requests, self.lease.run))
        asked = [each for each in requests if each.ask is Ask.RESUME]
        worker, now = self.serving.worker, self.clock()
        self._ledger.record(
            RunResumed(
                at=now,
                resumed_at=self.run.started.started_at + timedelta(seconds=now),
                version=__version__,
                user=asked[-1].who if asked else "",
                host=worker.host,
                pid=worker.pid,
                report_dir=self._state.report_dir,
                retry_failed=bool(asked and asked[-1].details.get("retry_failed")),
            )
        )

    # --- conducting ----------------------------------------------------------------------------

    def _recalled(self) -> Conductor:
        """Return the conductor, with all that the chains say."""
        state, started = self._state, self.run.started
        begins: Event = state.resumed[-1] if state.resumed else started
        earlier = EarlierRun.of(state, begins, used_until=begins.at, retry_failed=False)
        orders = self._orders(earlier)
        self._selection = orders.selection
        conductor = Conductor(orders, self._ledger)
        shards = _Shards(conductor.waves.why_skipped)
        shards.skipped = self._skipped
        conductor.join(shards)
        for name, server in state.servers.items():
            if not server.is_planned:
                for entry in orders.selection.placeholders(name):
                    conductor.waves.await_server(entry.wave, name)
        conductor.recall(state)
        return conductor

    def _orders(self, earlier: EarlierRun) -> Orders:
        return orders_of(self.run.source, self.run.started, self.serving.world, None, earlier)

    def _skipped(self, wave: WaveName, why: str) -> None:
        self._ledger.record(WaveSkipped(at=self._ledger.now(), wave=wave, reason=why))

    async def _first_planned(self) -> None:
        """Return when the first waves may begin: soon after the first server has planned.

        A server that is out of reach, or that no worker serves, is not waited for longer.
        """
        conductor = self._conductor
        assert conductor is not None  # noqa: S101 - made before
        await conductor.unless_ended(self._first.wait if conductor.waves.wait_for_servers else _now)
        with anyio.move_on_after(GRACE_S):
            await self._until(lambda: not any(map(self._may_plan_soon, self._state.servers)))
        if not len(self._ledger) and not conductor.waves.wait_for_servers:
            conductor.halt("selection", "no target is selected: nothing would be proven")

    def _may_plan_soon(self, name: ServerName) -> bool:
        server = self._state.servers[name]
        return not server.is_planned and server.parked is None and server.given_up is None

    async def _share(self) -> None:
        """Share the run's limit among its shards, while it has one."""
        limit = self.run.started.mounts_limit
        database, run, worker = self.serving.database, self.lease.run, self.serving.worker.worker
        while limit is not None:
            if sum(map(self._is_stuck, self._state.records.values())) >= limit:
                self._halt("slots", "mounts that cannot be released hold all of the run's slots")
            rows = await self.asked(partial(database.shards, run))
            wanted = fair_parts(limit, [row for row in rows if row.server != CONDUCTOR])
            if any(row.quota != wanted.get(row.server, row.quota) for row in rows):
                await self.asked(partial(database.share, worker, self.lease, wanted))
            await anyio.sleep(SHARE_S)

    def _halt(self, reason: str, detail: str) -> None:
        assert self._conductor is not None  # noqa: S101 - made before anything is shared
        self._conductor.halt(reason, detail)

    def _is_stuck(self, record: MountRecord) -> bool:
        """Return whether a target has its result and keeps its slot for as long as its shard lives.

        One whose session is lost gives it back once the server must have forgotten that.
        """
        server = self._state.servers[record.planned.server]
        if not record.is_final or not record.may_be_open or server.is_finished:
            return False
        if record.planned.key in server.forgotten:
            return False
        ended_at = record.concluded_at or 0.0
        is_left = record.mount_state is MountState.LEFT
        return self.clock() > ended_at + (LEFT_AFTER if is_left else UNKNOWN_AFTER)

    # --- the end -------------------------------------------------------------------------------

    async def _all_finished(self) -> None:
        """Return when nothing is left to do on any server, and every chain can be pinned."""
        servers, reader = self._state.servers.values(), self._reader
        await self._until(
            lambda: all(server.is_finished for server in servers) and not reader.misses_some
        )

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Return when something is so, by what the chains say."""
        while not is_so():
            await self._news.wait()

    async def _finish(self, notifier: Notifier) -> None:
        """Pin all chains, record the end, and tell the webhooks."""
        self._pins.pin()
        state, conductor = self._state, self._conductor
        assert conductor is not None  # noqa: S101 - made before
        failures = [server.failure for server in state.servers.values() if server.failure]
        code = ExitCode.INTERNAL if failures else exit_code(state)
        now = self._ledger.now()
        self._ledger.record(self._finished(now, code, interrupted=conductor.is_stopped))
        await self._ledger.durable()
        if notifier.is_needed:
            head = self._chain.head.hash.hex()
            await notifier.finish(ending_of(outcome_of(state, code, head, None, state.report_dir)))
            await self._ledger.durable()  # which messages did not arrive

    def _finished(self, now: float, code: ExitCode, *, interrupted: bool = False) -> RunFinished:
        finished_at = self.run.started.started_at + timedelta(seconds=now)
        return RunFinished(at=now, exit_code=code, finished_at=finished_at, interrupted=interrupted)

    def _notifier(self) -> Notifier:
        withheld = secret_variables(self.run.source.plan)

        async def resolve(reference: SecretReference) -> str:
            return await resolve_secret(reference, withheld=withheld)

        return Notifier(self.run.source.plan.notifications, lambda: self._state, resolve)


class _Folding:
    """An observer that folds the run as its events come."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    def observe(self, event: Event, record: MountRecord | None) -> None:
        self._state.fold(event, record)


async def _now() -> None:
    """Return at once."""


def fair_parts(limit: int, rows: Sequence[ShardRow]) -> Mapping[ServerName, int]:
    """Return how many mounts each shard should be allowed, the neediest first.

    What is used is kept; the rest goes, one by one, to the shard that could begin the most. What
    nobody needs stays with whom has it, or is spread evenly: who can begin mounts a moment later,
    because a wave has opened, need not wait for its part. What nobody serves begins none.
    """
    parts = {row.server: row.used for row in rows}
    left = limit - sum(parts.values())
    needs = [(-row.wants, row.server) for row in rows if row.wants and row.is_served]
    heapq.heapify(needs)
    while left > 0 and needs:
        need, server = heapq.heappop(needs)
        parts[server] += 1
        left -= 1
        if need + 1 < 0:
            heapq.heappush(needs, (need + 1, server))
    first = sorted(rows, key=lambda row: -row.wants)
    undone = [row for row in first if row.is_served and row.state is not ShardState.DONE]
    for row in undone:
        stays = max(0, min(left, (row.quota or 0) - parts[row.server]))
        parts[row.server] += stays
        left -= stays
    for place in range(left if undone else 0):
        parts[undone[place % len(undone)].server] += 1
    return {row.server: parts[row.server] for row in first}
