"""Remove the mounts that a run left: a resume that submits nothing.

Every session that the run left is taken up again as a resume does it, with the same watching,
patience and gate; every mount that may be open is removed as a run would, and the same audit
comes before each logoff. Targets that were never submitted stay as they are: a later resume may
go on with them. Nobody logs on anew, for a new session shows nothing of an old one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import anyio
from msgspec import Struct

from orchestrator.core.errors import ServerUnusable
from orchestrator.core.events import MountReleased, TargetConcluded
from orchestrator.core.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.core.model import (
    MountKey,
    MountRequest,
    MountState,
    Result,
    ServerName,
    SessionId,
    Unmount,
)
from orchestrator.core.point_search import about, found_how
from orchestrator.core.policy import PROOF_AFTER, WatchPolicy
from orchestrator.core.ports.journal import Journal, Observer, OtherRuns
from orchestrator.core.ports.server import EnterpriseManager
from orchestrator.core.run_state import RunState
from orchestrator.core.server_state import ServerState
from orchestrator.core.text import duration, printable
from orchestrator.engine.availability import Terms
from orchestrator.engine.connection import Connection, EarlierSession
from orchestrator.engine.forced_end import ForcedEnd
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.left import left_in
from orchestrator.engine.limits import Limits
from orchestrator.engine.mount import orphans, resume
from orchestrator.engine.mount.attempt import (
    OUT_OF_KNOWLEDGE,
    Attempt,
    RunContext,
    record_out_of_reach,
)
from orchestrator.engine.mount.holds import HoldRule, Holds
from orchestrator.engine.mount.recover import Unsettled
from orchestrator.engine.reachability import Reachability
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.slot import Slot

WAIT_FOR_TASKS = 600.0
"""Seconds that running mount tasks of a dead run are waited for, to unmount what they made."""

NOT_KEPT = "the session's token is not kept any more"
FORGOTTEN = "the server has forgotten its logon session"
ANOTHER = "the session that mounted it is none of those whose tokens are kept"


class UnmountResult(Struct, frozen=True, kw_only=True):
    """The result. `released`: how many mounts of each target; `why_not`: why the others stay.

    `unasked` says of servers, if nothing is known to be left there, why nobody knows it.
    """

    released: dict[MountKey, int]
    why_not: dict[MountKey, str]
    unasked: dict[ServerName, str]
    left_open: bool
    """Whether a session was left open, because something may be mounted in it."""


class MountRemoval:
    """Releases what a run left, as far as the sessions of `clients` reach."""

    def __init__(
        self,
        found: RunState,
        clients: Sequence[EnterpriseManager],
        journal: Journal,
        *,
        began_at: float,
        used_until: float,
        outage: float,
        watch: WatchPolicy,
        rng: random.Random,
        others: OtherRuns,
        observers: Sequence[Observer] = (),
        unkept: Mapping[ServerName, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`clients` know the sessions that the run left; `began_at` is now on the run's clock.

        `used_until`: when an earlier process may have used one last, on the same clock.
        `unkept` says why a server's session cannot be used, where that is known.

        `outage`: seconds for which a server out of reach is waited for. `say` is told what is
        waited for.
        """
        self._start = anyio.current_time() - began_at
        self._others, self._say = others, say
        self._unkept = unkept or {}
        self.ledger = Ledger(journal, observers, self._now, found.records.values())
        shared = {each.server: Reachability(each.server, self.ledger) for each in clients}
        self.servers = {
            session: ServerConnection(
                client,
                self.ledger,
                Terms(
                    outage=outage,
                    watch=watch,
                    rng=random.Random(rng.random()),  # noqa: S311 - jitter, not a secret
                    left=_left_in(session, found, found.servers[client.server], used_until),
                    reachability=shared[client.server],
                ),
            )
            for client in clients
            for session in client.kept
        }
        self._context = _context(self.ledger, self.servers, rng, others)
        self._released: dict[MountKey, int] = {}
        self._why_not: dict[MountKey, str] = {}
        self._slots: list[Slot] = []
        self._unsettled: list[Slot] = []
        self._unasked: dict[ServerName, str] = dict(self._unkept)
        self._unaudited = self._known_unaudited(found)

    def _known_unaudited(self, found: RunState) -> frozenset[SessionId]:
        """Return the sessions that nobody has read; those without a token cannot be asked."""
        for name, sessions in found.unaudited_sessions.items():
            for session, why in sessions.items():
                if session not in self.servers:
                    self._unasked.setdefault(name, why)
        return frozenset().union(*found.unaudited_sessions.values())

    def _now(self) -> float:
        return anyio.current_time() - self._start

    async def execute(self) -> UnmountResult:
        """Release everything that can be released, audit the sessions, and end them.

        A session in which something may be open is left open.
        """
        left = [record for record in self.ledger.records if record.may_be_open]
        async with anyio.create_task_group() as servers:
            for server in self.servers.values():
                servers.start_soon(server.serve)
            try:
                await self._clean(left)
                await self._audit()
                await self._once_more()
                await self.ledger.saved()  # the releases, before the sessions that prove them
            finally:
                for server in self.servers.values():
                    server.close()
        await self.ledger.saved()
        open_now = {each.planned.key for each in self.ledger.records if each.may_be_open}
        for slot in self._slots:
            if slot.request.key not in open_now:
                slot.release()
        for key in {record.planned.key for record in left} - open_now:  # by the audit, perhaps
            self._released.setdefault(key, 0)
        return UnmountResult(
            released=self._released,
            why_not={key: self._why_not.get(key, "found by the last look") for key in open_now},
            unasked=self._unasked,
            left_open=any(server.left_open for server in self.servers.values()),
        )

    async def _clean(self, left: Sequence[MountRecord]) -> None:
        occupy = self._context.scheduler.occupy
        self._slots = [occupy(resume.asked_for(record)) for record in left]
        self._others.forget_earlier()
        async with anyio.create_task_group() as tasks:
            for slot in self._slots:
                tasks.start_soon(self._one, slot)

    async def _once_more(self) -> None:
        """Try again where tasks without a target were in the way: the audit has seen them end."""
        unsettled, self._unsettled = self._unsettled, []
        async with anyio.create_task_group() as tasks:
            for slot in unsettled:
                if self.ledger[slot.request.key].may_be_open:
                    tasks.start_soon(self._one, slot)

    async def _one(self, slot: Slot) -> None:
        request = slot.request
        try:
            attempt = await self._reached(request, slot)
            self._foretell(attempt)
            told = attempt.record.message
            removed = await resume.remove_all(
                attempt, within=WAIT_FOR_TASKS, before=partial(self._commit, request)
            )
        except Unsettled as exc:
            self._why_not[request.key] = str(exc)
            self._unsettled.append(slot)
        except OUT_OF_KNOWLEDGE as exc:
            self._why_not[request.key] = str(exc) or "the server has forgotten its task"
        else:
            if removed.why_not is not None:
                self._why_not[request.key] = removed.why_not
                return
            _conclude(request, self._context, told)
            self._released[request.key] = removed.mounts

    async def _commit(self, request: MountRequest) -> None:
        """Record, on disk, that the target's mount is about to go: nothing more is proven."""
        _end(request, self._context)
        await self.ledger.saved()

    async def _reached(self, request: MountRequest, slot: Slot) -> Attempt:
        """Return the attempt in the session that made it.

        Raises:
            ServerUnusable: that session is out of reach; the message says why.
        """
        server = self.servers.get(resume.session_of(request, self._context))
        if server is None:
            kept = any(each.name == request.server for each in self.servers.values())
            raise ServerUnusable(ANOTHER if kept else self._unkept.get(request.server, NOT_KEPT))
        connection = await _taken_up(server)
        if connection is None:
            raise ServerUnusable(FORGOTTEN)
        return Attempt(
            request=request, connection=connection, server=server, context=self._context, slot=slot
        )

    def _foretell(self, attempt: Attempt) -> None:
        """Report that a request in doubt may still begin, and for how long."""
        record = attempt.record
        if record.mount is not None or record.attempts[-1].task is not None:
            return
        remaining = record.attempts[-1].submitted_at + PROOF_AFTER - self._now()
        if remaining > 0:
            self._say(
                f"{printable(attempt.key)}: its mount request was not answered and may yet begin; "
                f"waiting up to {duration(remaining)}, after which it cannot any more"
            )

    async def _audit(self) -> None:
        """Account for all that the sessions have mounted; each is waited for until it is known."""

        async def one(session: SessionId, server: ServerConnection) -> None:
            try:
                connection = await _taken_up(server)
            except ServerUnusable as exc:
                self._unasked[server.name] = str(exc)
                return
            if connection is None and (session in self._unaudited or server.left_open):
                self._unasked[server.name] = FORGOTTEN
            if connection is not None and not connection.lost and server.connections:
                with suppress(*OUT_OF_KNOWLEDGE):
                    await orphans.audit(connection, server, self._context)
                if connection.unaudited is not None and not connection.lost:
                    self._unasked[server.name] = connection.unaudited
            if connection is not None and connection.lost and not connection.audited:
                self._unasked[server.name] = FORGOTTEN

        async with anyio.create_task_group() as tasks:
            for session, server in self.servers.items():
                tasks.start_soon(one, session, server)


def _left_in(
    session: SessionId, found: RunState, server: ServerState, used_until: float
) -> EarlierSession:
    """Return the journal's facts about a session of the run."""
    return left_in(
        session,
        found.records.values(),
        server.attributed,
        found.strays,
        ends=server.last_ends,
        over=server.over,
        used_until=used_until,
    )


async def _taken_up(server: ServerConnection) -> Connection | None:
    """Return the session that the run left; None: the server has forgotten it.

    Raises:
        ServerUnusable: the server could not be asked.
    """
    try:
        return await server.taken_up()
    except ServerUnusable:
        if server.forgotten:
            return None
        raise


def _context(
    ledger: Ledger,
    earlier: dict[SessionId, ServerConnection],
    rng: random.Random,
    others: OtherRuns,
) -> RunContext:
    """Return the parts that removing a mount uses: nothing is admitted, held or saved."""
    rule = HoldRule(every_s=None, failed_s=None, unmount=Unmount.ALWAYS)
    return RunContext(
        ledger=ledger,
        scheduler=Scheduler(Limits(), [], lambda request: 1.0, others=others),
        servers={},
        earlier=earlier,
        known_sessions=others.sessions,
        rng=rng,
        expected=lambda request: None,
        accepting=lambda: False,
        unsubmitted=lambda request: (Result.SKIPPED, "nothing more is submitted"),
        holds=Holds(rule, lambda key: None),
        forced_end=ForcedEnd(),
        may_write=False,
    )


def _end(request: MountRequest, context: RunContext) -> None:
    """Record that a target in work will not be continued."""
    record = context.ledger[request.key]
    if record.phase in HOLDING_PHASES:
        why = "the run ended before it was concluded"
        if record.phase is Phase.HELD:
            why = "released after the run had ended while it was held"
        record_out_of_reach(request, context, why)


def _conclude(request: MountRequest, context: RunContext, message: str | None) -> None:
    """Record that no mount of the target is open any more; its result does not change.

    `message` is what was said of it before.
    """
    ledger, key = context.ledger, request.key
    record = ledger[key]
    _end(request, context)
    ledger.record(MountReleased(at=ledger.now(), key=key, by_hand=True))
    if not ledger[key].is_final:
        ledger.record(
            TargetConcluded(
                at=ledger.now(),
                key=key,
                result=record.standing or Result.UNKNOWN,
                mount=MountState.RELEASED,
                message=message if record.standing else None,
                point=about(record),
                point_why=found_how(record),
            )
        )
