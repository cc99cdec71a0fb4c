"""One shard of a run while this worker has its lease: the engine, over the database."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial

from anyio.abc import TaskGroup

from orchestrator.app.planned_limits import limits_of
from orchestrator.app.sites.alone import NoOtherRuns
from orchestrator.app.sites.chain import Chain
from orchestrator.app.sites.ended_sessions import accounted_in, lives, still_used
from orchestrator.app.sites.kept_tokens import KeptTokens
from orchestrator.app.sites.served import Served
from orchestrator.app.sites.serving import chain_events
from orchestrator.app.wiring import client_of, in_a_thread, orders_of, secret_variables
from orchestrator.core.earlier_runs.durations import MountTimes
from orchestrator.core.errors import Fenced, JournalDamaged
from orchestrator.core.events import (
    Event,
    HaltAsked,
    MountForgotten,
    ServerParked,
    SessionOpened,
    ShardDamaged,
    ShardFinished,
    ShardHolding,
    ShardPlanned,
    ShardTaken,
)
from orchestrator.core.model import MountKey, ServerName, SessionId
from orchestrator.core.ports.local import on_the_spot
from orchestrator.core.run_state import RunState, fold
from orchestrator.core.server_state import ServerState
from orchestrator.core.sites import LEASE_LIFE_S, Ask, Standing, Stop
from orchestrator.core.text import printable
from orchestrator.core.token import KeptSession
from orchestrator.em.client import Client
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.orders import EarlierRun
from orchestrator.engine.remote_board import RemoteBoard, RunStatus
from orchestrator.engine.shard import Shard
from orchestrator.engine.surroundings import Surroundings
from orchestrator.local.files.store import DiskFileStore
from orchestrator.local.programs import ChildProcesses
from orchestrator.log import Log

log = Log(__name__)

LATE = "the run took longer than its deadline"

APART_S = LEASE_LIFE_S
"""Seconds by which the clocks of two workers may differ.

Each is behind by as long as the answer took that it was read from; one that took longer than a
lease lives gives none.
"""


class ServedShard(Served):
    """One server's part of a run."""

    _board: RemoteBoard | None = None
    _shard: Shard | None = None
    _asked = 0
    _was_planned = False
    _is_mounting = False
    """Whether its waves have not all had their turn."""

    @property
    def server(self) -> ServerName:
        """Whose part of the run it is."""
        return self.lease.server

    @property
    def wants(self) -> int:
        """How many more mounts could begin here at once; 0 in a run without a limit to share."""
        if self.run.started.mounts_limit is None:
            return 0
        owed = 0 if self.chain is None else self.chain.owed
        return owed + (self._shard.could_begin if self._shard is not None else 0)

    @property
    def waits(self) -> bool:
        """True while nothing is in work: its targets wait for a wave, or for a slot of the run."""
        return self._is_mounting and self._shard is not None and self._shard.only_waits

    def mounted(self) -> Iterator[str]:
        """Yield a line for each mount that may be open here, as far as it is known."""
        records = [] if self._shard is None else self._shard.ledger.records
        for each in records:
            if each.may_be_open:
                last, planned = each.attempts[-1], each.planned
                mount = f"mount {each.mount}" if each.mount else "its mount is not known yet"
                task = f"task {last.task}" if last.task else "its task is not known"
                yield printable(f"{planned.server}: {planned.vm}: {mount}, {task}", 400)

    async def rest(self) -> None:
        """Log off: nothing is mounted there, and the session might idle out until the next turn."""
        if self._shard is not None and self.chain is not None:
            self.chain.close_to_intents()
            await self._shard.servers.rest()

    @property
    def is_posting(self) -> bool:
        """True while a mount was asked for and the answer is not recorded."""
        return self._shard is not None and self._shard.is_posting

    def heard(self) -> None:
        """Act on what the newest renewal has said."""
        if self._board is not None and self._shard is not None:
            self._shard.allow(self.standing.quota)
            if self.standing.deadline_s is not None:
                self._shard.deadline.ends_in(self.standing.deadline_s)
            self._board.tell(_status(self.standing))

    async def work(self) -> None:
        """Do what is left of the shard, from the logon to the logoff.

        Raises:
            Fenced: another worker has the lease.
        """
        events = await self._events()
        state = fold([self.run.started, *events])
        self.clock.least(state.last_at)
        damaged = state.servers[self.server].damaged
        if damaged is not None:  # also of a run that was resumed: nobody knows what it left
            raise JournalDamaged(damaged)
        tokens = KeptTokens(self.serving, self.lease, on_fenced=self.lose)
        over = state.servers[self.server].over
        kept = list(await self.asked(partial(tokens.usable, over)))
        live = await self._live_on(tokens, state)
        kept += map(tokens.ended.pop, live)
        chain = self.chain = self._opened_chain(state, events)
        chain.before_intents = tokens.stored
        self.fence.when_lost(tokens.give_up)
        ledger = Ledger(chain, (), self.clock, state.records.values())
        board = RemoteBoard(
            self.run.started.waves,
            ledger,
            lambda reason, detail: _ask_to_halt(ledger, self.server, reason, detail),
            self._planned,
        )
        client = self._client(tokens, kept)
        begins, retries_failed = self._begins(), await self._retries_failed(state)
        again = [lives(each, self.server, begins.at) for each in live]
        for end in again:
            state.fold(end)
        earlier = self._earlier(state, begins, tokens.known, retry_failed=retries_failed)
        now = self.clock()
        client.logons.earlier(max(0.0, now - at - APART_S) for at in logons_of(events, now))
        shard = self._shard = await self._engine(board, ledger, client, earlier)
        board.join(shard)
        self._board = board
        ledger.record(begins)
        for end in again:
            ledger.record(end)
        await ledger.durable()
        self.heard()
        ends = partial(tokens.serve, client.log_off)
        await shard.execute(partial(self._mount, shard, board, earlier), ends)
        await tokens.settle()
        failure = None if shard.failure is None else repr(shard.failure)
        ledger.record(ShardFinished(at=ledger.now(), server=self.server, failure=failure))
        await ledger.durable()

    async def _live_on(self, tokens: KeptTokens, state: RunState) -> list[SessionId]:
        """Return the sessions that are over by the records, and in which something has come since.

        Raises:
            Fenced: another worker has the lease.
        """
        if not tokens.ended:
            return []
        client = self._client(tokens, list(tokens.ended.values()))
        known = {each: accounted_in(state, self.server, each) for each in tokens.ended}
        return await still_used(client, known)

    def last_words(self, damage: str) -> Sequence[Event]:
        """Return that nobody goes on with the server."""
        return [ShardDamaged(at=self.clock(), server=self.server, detail=damage)]

    async def _mount(
        self,
        shard: Shard,
        board: RemoteBoard,
        earlier: EarlierRun | None,
        background: TaskGroup,
    ) -> None:

        async def conduct() -> None:
            self._is_mounting = True
            await board.conduct()
            self._is_mounting = False
            if shard.holds_any:
                now = shard.ledger.now()
                shard.ledger.record(ShardHolding(at=now, server=self.server))

        if earlier is None:
            _, silent = await shard.plan_targets(background)
            if not silent:
                self._planned()
            await shard.mount(silent, conduct)
            return
        remains = shard.sort_out(earlier)
        if not self._was_planned and self.server not in remains.unlisted:
            remains.unlisted.append(self.server)
        if not remains.unlisted:
            self._planned()
        await shard.carry_on(earlier, remains, background, conduct)

    async def _retries_failed(self, state: RunState) -> bool:
        """Return whether the run was opened again to retry what had failed, and nobody has yet.

        A worker that takes the shard over later retries nothing: it may have failed since.
        """
        database, run = self.serving.database, self.lease.run
        asked = await self.asked(partial(database.requests, run))
        resumed = next((each for each in reversed(asked) if each.ask is Ask.RESUME), None)
        if resumed is None or resumed.details.get("retry_failed") is not True:
            return False
        ago = (await self.asked(database.now) - resumed.at).total_seconds()
        taken = [each.at for each in state.servers[self.server].workers]
        return max(taken, default=0.0) < self.clock() - ago

    def _earlier(
        self,
        state: RunState,
        begins: ShardTaken,
        kept: Container[SessionId],
        *,
        retry_failed: bool,
    ) -> EarlierRun | None:
        """Return what earlier workers have done of the shard; None: nobody has begun it."""
        known = state.servers[self.server]
        self._was_planned = known.is_planned
        if not known.workers:
            return None
        return EarlierRun.of(
            state,
            begins,
            used_until=begins.used_until,
            retry_failed=retry_failed,
            last_uses=last_uses(known, kept),
        )

    @property
    def _may_write(self) -> bool:
        """Whether a person has allowed to write files into guests."""
        is_recovery = self.run.started.mode == "recovery"
        return is_recovery and self.run.options.get("yes_write") is True

    def _client(self, tokens: KeptTokens, kept: Sequence[KeptSession]) -> Client:
        """Return what speaks to the server, with the sessions that earlier workers have left."""
        now = self.run.started.started_at + timedelta(seconds=self.clock())
        return client_of(
            self.run.source.plan,
            self.server,
            self.serving.world.since(now),
            tokens.keep,
            kept,
            may_write=self._may_write,
            fence=self.fence,
        )

    async def _engine(
        self,
        board: RemoteBoard,
        ledger: Ledger,
        client: Client,
        earlier: EarlierRun | None,
    ) -> Shard:
        """Return the engine's shard, with everything it needs from outside."""
        source, world, started = self.run.source, self.serving.world, self.run.started
        past = await self.asked(partial(self.serving.earlier_runs, self.run))
        orders = orders_of(
            source,
            started,
            world,
            None,
            earlier,
            past.proofs,
            systems=past.systems,
            may_write=self._may_write,
        )
        around = Surroundings(
            rng=world.rng,
            durations=past.durations,
            baselines=past.baselines,
            systems=past.systems,
            programs=world.programs or ChildProcesses(secret_variables(source.plan)),
            aside=on_the_spot if world.inline else in_a_thread,
            file_store=world.file_store or DiskFileStore(inline=world.inline),
            others=NoOtherRuns(client.kept, partial(self._released, ledger)),
            end_of_holds_requested=self._end_of_holds_requested,
        )
        return Shard(orders, [client], board, ledger, around)

    def _end_of_holds_requested(self) -> bool:
        """Return whether somebody has asked for it since the last call."""
        before, self._asked = self._asked, self.standing.asked
        return self.standing.unmount and self._asked > before

    async def _events(self) -> Sequence[Event]:
        """Return what earlier workers have recorded of this shard."""
        read = partial(chain_events, self.serving.database, self.lease.run, self.server)
        events, head = await self.asked(read)
        if head != self.taken.head:
            raise Fenced(self.server)  # somebody has written after it was taken
        return events

    def _opened_chain(self, state: RunState, events: Sequence[Event]) -> Chain:
        """Return the chain, open for writing."""
        records = state.records.values()
        times = MountTimes()
        for event in events:
            times.take(event)
        chain = Chain(
            self.lease,
            self.taken.head,
            wake=self.serving.stream.wake,
            shortly=self.serving.stream.shortly,
            soon=self.serving.stream.soon,
            waves={each.planned.key: each.planned.wave for each in records},
            wave_limits=limits_of(self.run.source.plan).waves,
            slots=(each.planned.key for each in records if each.attempts),
            over=state.servers[self.server].over,
            times=times,
            on_fenced=self.lose,
        )
        self.serving.stream.add(chain)
        return chain

    def _begins(self) -> ShardTaken:
        now, worker = self.clock(), self.serving.worker
        return ShardTaken(
            at=now,
            server=self.server,
            worker=worker.worker,
            host=worker.host,
            epoch=self.lease.epoch,
            used_until=now,
            taken_over=self.taken.taken_from,
            site=self.taken.site,
        )

    def _released(self, ledger: Ledger, key: MountKey) -> None:
        """Let the run have the slot of a target that no record of it gives back."""
        if self.chain is not None and self.chain.counts(key):
            ledger.record(MountForgotten(at=ledger.now(), server=self.server, key=key))

    def _planned(self) -> None:
        """Record that all targets are planned, or never will be."""
        shard = self._shard
        assert shard is not None  # noqa: S101 - it has planned them
        now, matched = shard.ledger.now(), dict(shard.matched) if shard.has_listed else None
        shard.ledger.record(ShardPlanned(at=now, server=self.server, matched=matched))


def logons_of(events: Iterable[Event], now: float) -> Iterator[float]:
    """Yield when earlier workers have logged on at the latest, on the run's clock.

    One that recorded no session may have sent a logon until it was taken over, and one before that
    if it recorded trouble: an answer may have been lost. Who had to wait with it has sent none
    before the end of that wait.
    """
    unsure_from = math.inf
    for event in events:
        match event:
            case ShardTaken(at=at):
                if unsure_from <= at:
                    yield at
                unsure_from = at
            case SessionOpened(at=at):
                yield at
                unsure_from = math.inf
            case ServerParked(at=at) if unsure_from <= at:
                if event.not_before is None:
                    yield at
                else:
                    unsure_from = event.not_before
            case _:
                pass
    if unsure_from <= now:
        yield now


def last_uses(known: ServerState, kept: Container[SessionId]) -> dict[SessionId, float]:
    """Return when sessions were used last, of which that is recorded.

    One whose token is kept may have been used until now, without a record; unless who had the shard
    last says itself that it was left open then, or denied: to that worker, and to all before it
    since that was said first.
    """
    used = {each: at for each, at in known.unattended.items() if each not in kept}
    for session, end in known.last_said().items():
        if session in kept:
            at = max(end.at, known.unattended.get(session, end.at))
            used[session] = known.denied.get(session, at) + APART_S
    return used


def _status(standing: Standing) -> RunStatus:
    """Return what a renewal says, in the engine's words."""
    stopped = None if standing.stopped is None else f"stop, {standing.stopped.value}"
    if standing.deadline_s is not None and standing.deadline_s <= 0 and standing.halted is None:
        return RunStatus(opened=standing.waves, skipped=standing.skipped, halted=LATE)
    return RunStatus(
        opened=standing.waves,
        skipped=standing.skipped,
        halted=standing.halted,
        stopped=stopped,
        at_once=standing.stopped is Stop.NOW,
    )


def _ask_to_halt(ledger: Ledger, server: ServerName, reason: str, detail: str) -> None:
    """Have the conductor halt the run: it reads this chain."""
    ledger.record(HaltAsked(at=ledger.now(), server=server, reason=reason, detail=detail))
