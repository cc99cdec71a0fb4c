"""One server's part in a run: its logon session, watcher, keep-alive and gate.

A site logs on, keeps the session alive for as long as the run needs it, and logs off last.
A session that the server forgot is replaced by exactly one new logon; what belonged to the
old one stays with the old one. Trouble closes the gate; one probe opens it again, or the
server is given up when the outage has lasted as long as the plan allows.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import structlog

from orchestrator.engine.gate import Gate
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.pace import TICK, Pace
from orchestrator.engine.watcher import Watcher
from orchestrator.errors import (
    AccessDenied,
    CertificateRefused,
    CredentialError,
    EnterpriseManagerError,
    HostExhausted,
    LogonRefused,
    MalformedResponse,
    RequestNotSent,
    RequestRefused,
    ResponseLost,
    ServerUnusable,
    ServiceBusy,
    SessionLost,
)
from orchestrator.events import (
    RunNoted,
    ServerGivenUp,
    ServerMeasured,
    ServerPaced,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    SessionTakenUp,
    TasksAttributed,
)
from orchestrator.model import (
    Href,
    MountKey,
    MountRequest,
    RestorePointId,
    SessionId,
    TaskId,
)
from orchestrator.policy import KEEP_ALIVE_AFTER, RECONNECT, WatchPolicy
from orchestrator.ports import EnterpriseManager, GuestSession

log = structlog.get_logger(__name__)
T = TypeVar("T")

TROUBLE = (RequestNotSent, ResponseLost, ServiceBusy, MalformedResponse)
"""What says something about the server and nothing about the target."""

REFUSAL = (LogonRefused, CertificateRefused, CredentialError, AccessDenied)
"""A logon that failed like this is never repeated."""

PATIENCE = 180.0
"""Seconds for which a read is repeated that the server, alive and well, fails inside."""

KEEP_ALIVE_TICK = 60.0

SHORTAGE_OVER = 60.0
"""Seconds without a complaint after which this machine lacks nothing; pauses are shorter."""
PROBE_ALLOWANCE = 20.0
"""Seconds that a probe may take: one swallowed by a dead link must not hide its recovery."""


@dataclass(slots=True)
class Connection:
    """One logon session and what belongs to it alone."""

    session: GuestSession
    watcher: Watcher
    posting: anyio.Lock = field(default_factory=anyio.Lock)
    """Held from a mount POST until its fate is known: one unanswered POST per session."""
    over: anyio.Event = field(default_factory=anyio.Event)
    """Set when the session is lost, given up, or not needed any more."""
    lost: bool = False
    related_links_work: bool | None = None
    """Whether the address in a finished task's Related link has been seen to answer."""
    mounts: set[Href] = field(default_factory=set)
    """Mount points already attributed to a target; each belongs to one."""
    held: set[Href] = field(default_factory=set)
    """Those of them that only are held open, because the plan asks for it."""
    unsettled: bool = False
    """A POST in doubt was given up: a task that shows later may still be its own."""
    absent: dict[tuple[MountKey, RestorePointId], MountRequest] = field(default_factory=dict)
    """Requests that were lost and showed no effect; should one act later, nobody waits for it."""
    settled: anyio.Event = field(default_factory=anyio.Event)
    """Set once nothing that an earlier process asked for is in doubt: only then more is asked."""


@dataclass(slots=True)
class Shortage:
    """Since when this machine lacks something for its requests to one server, and until when."""

    since: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What the journal says of a session that an earlier process opened."""

    tasks: frozenset[TaskId] = frozenset()
    mounts: frozenset[Href] = frozenset()
    in_doubt: bool = False
    """Whether a mount was asked for whose answer is not in the journal."""


class Site:
    """One Enterprise Manager during one run."""

    def __init__(
        self,
        client: EnterpriseManager,
        ledger: Ledger,
        *,
        outage: float,
        watch: WatchPolicy,
        rng: random.Random,
        on_gate: Callable[[Site], None],
        on_exhausted: Callable[[str], None] = lambda why: None,
        pace: Pace | None = None,
        left: Left | None = None,
    ) -> None:
        """`outage`: seconds that targets may wait for this server while it is out of reach.

        `on_exhausted` is told why when this machine itself could not do its part for as long.

        With `left`, the session that an earlier process kept is tried before any logon.
        """
        self.name = client.server
        self._client = client
        self._ledger = ledger
        self._outage = outage
        self._watch = watch
        self._rng = rng
        self._on_exhausted = on_exhausted
        self._on_gate = on_gate
        self.gate = Gate(self.name, self._moved)
        self.pace = pace or Pace()
        self._told_pace: int | None = None
        self._connection: Connection | None = None
        self._left = left if client.kept is not None else None
        self._taken_up: Connection | None = None
        self._left_known = anyio.Event()
        self._decided = anyio.Event()
        self._closing = anyio.Event()
        self._down_since: float | None = None
        self._trouble: Exception | None = None
        self._short: Shortage | None = None
        self._openings = 0
        self._unanswered = 0
        self._turned_away = 0
        self._turned_away_since = 0.0
        self._waited_s = 0.0
        self._sessions = 0
        self._requests = 0
        self._retries = 0
        self.refused = False
        self.closed_to_mounts: str | None = None
        """Why nothing more is mounted here, though the server is used on."""
        self.peak_mounts = 0

    # --- for the mounts ------------------------------------------------------------------

    def open_connection(self) -> Connection | None:
        """Return the living session, or None while the server cannot be used."""
        return self._connection if self.gate.is_open else None

    async def persistently(
        self, connection: Connection, ask: Callable[[], Awaitable[T]], *, patience: float = 0.0
    ) -> T:
        """Return what `ask` returns, waiting out the server's trouble.

        Only for requests that may be repeated. An internal error of the server may be this
        request's for good, so it closes no gate; it is repeated for `patience` seconds.

        Raises:
            SessionLost: the session is gone, and its answers with it.
            ServerUnusable: the server was given up.
            EnterpriseManagerError: a refusal that is about this request.
        """
        failing_since: float | None = None
        broken_since: float | None = None
        while True:
            if connection.lost:
                raise SessionLost("the logon session is gone", server=self.name)
            if not self.gate.is_open:
                await self.gate.passed()
                continue
            asked_in = self._openings
            try:
                answer = await ask()
            except HostExhausted as exc:
                await self.spare(exc)
            except TROUBLE as exc:
                if asked_in == self._openings:  # later, it says nothing about the server now
                    self.trouble(exc)
                now = self._ledger.now()
                failing_since = now if failing_since is None else failing_since
                if now - failing_since > self._outage:  # though probes have been answered
                    self._give_up(f"one request has failed for {self._outage:g} s: {exc}")
            except SessionLost:
                self.lose(connection)
                raise
            except RequestRefused as exc:
                now = self._ledger.now()
                broken_since = now if broken_since is None else broken_since
                if not exc.is_internal or now - broken_since >= patience:
                    raise
                await anyio.sleep(RECONNECT.delay(1 + int((now - broken_since) / 10), self._rng))
            else:
                self.pace.good()
                return answer

    async def spare(self, exc: HostExhausted) -> None:
        """Wait a little, because this machine lacks something; the gate stays as it is.

        After as long as an outage may last the run is halted, but what is mounted still waits:
        it may yet be unmounted.

        Raises:
            ServerUnusable: it has lasted twice as long.
        """
        now, short = self._ledger.now(), self._short
        if short is None or now - short.last > SHORTAGE_OVER:
            short = self._short = Shortage(since=now, last=now)
            self._ledger.record(RunNoted(at=now, message=f"requests wait: {exc}"))
        short.last = now
        lasted = now - short.since
        if lasted > 2 * self._outage:
            self._give_up(str(exc))
            raise ServerUnusable(f"{self.name}: {exc}")
        await anyio.sleep(min(max(1.0, lasted / 2), RECONNECT.ceiling))
        if self._ledger.now() - short.since > self._outage:
            self._on_exhausted(str(exc))

    async def within(self, seconds: float, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return what `ask` returns, or None after `seconds` in which the server was usable.

        Time during which the server was out of reach does not count: its trouble never
        costs a target its deadline, for as long in all as the plan waits for a server. `ask` is
        started again after such a time.
        """
        parked_before, granted, allowance = self._parked_s(), 0.0, seconds
        while True:
            with anyio.move_on_after(allowance):
                return await ask()
            allowance = min(self._parked_s() - parked_before, self._outage) - granted
            if allowance <= 0:
                return None
            granted += allowance

    def _parked_s(self) -> float:
        """Return how long the server has been out of reach so far, in seconds."""
        now = self._ledger.now()
        return self._waited_s + (now - self._down_since if self._down_since is not None else 0.0)

    def trouble(self, exc: Exception) -> None:
        """Note that the server could not be used; its targets wait from now on."""
        self._trouble = exc
        if self.gate.is_open and _is_overload(exc):
            self.pace.overloaded(self._ledger.now())
        if self._down_since is None:
            self._unanswered = 0
            self._down_since = self._ledger.now()
            self._ledger.record(
                ServerParked(at=self._ledger.now(), server=self.name, reason=str(exc))
            )
        self.gate.close()

    def accepted(self) -> None:
        """Note that the server took a mount."""
        self._turned_away = 0
        self.pace.good()

    def turned_away(self, connection: Connection, why: str) -> None:
        """Note that the server started nothing for a mount POST, by no fault of the target's.

        A server that answers probes and takes no mount at all is given up after the outage too;
        while mounts are held there, it only gets no more of them.
        """
        now = self._ledger.now()
        if not self._turned_away:
            self._turned_away_since = now
        self._turned_away += 1
        idle = not connection.watcher.in_flight and not connection.mounts - connection.held
        if idle and now - self._turned_away_since > self._outage:
            reason = f"took no mount for {self._outage:g} s: {why}"
            if connection.held:
                self._add_nothing(reason)
            else:
                self._give_up(reason)

    def _add_nothing(self, reason: str) -> None:
        """Mount nothing more here; what is held stays held."""
        if self.closed_to_mounts is None:
            self.closed_to_mounts = reason
            self._ledger.record(RunNoted(at=self._ledger.now(), message=f"{self.name} {reason}"))
            self._moved()

    def attribute(self, connection: Connection, tasks: Iterable[TaskId]) -> None:
        """Note that tasks belong to targets whose mounts were found, whichever to whichever."""
        found = tuple(sorted(tasks))
        if found:
            connection.watcher.claimed.update(found)
            self._ledger.record(
                TasksAttributed(
                    at=self._ledger.now(),
                    server=self.name,
                    session=SessionId(connection.session.id),
                    tasks=found,
                )
            )

    def lose(self, connection: Connection) -> None:
        """Note that the session is gone; a new logon follows, for new targets only."""
        if not connection.lost:
            connection.lost = True
            connection.over.set()
            self.gate.close()

    @property
    def trouble_now(self) -> str | None:
        """What is wrong with the server, or None while it can be used."""
        if self.gate.given_up is not None:
            return self.gate.given_up
        if self.closed_to_mounts is not None:
            return self.closed_to_mounts
        return str(self._trouble) if self._down_since is not None else None

    def refuse(self, reason: str) -> None:
        """Use the server no more in this run: it said no, and would say it again."""
        self.refused = True
        self._give_up(reason)

    @property
    def had_kept(self) -> bool:
        """True if the token of an earlier process's session was known."""
        return self._left is not None

    async def taken_up(self) -> Connection | None:
        """Return the connection of the session that an earlier process kept; None: it is gone.

        Waits until that is known.

        Raises:
            ServerUnusable: the server was given up before.
        """
        if self._left is not None:
            await self._left_known.wait()
            if self._taken_up is None and self.gate.given_up is not None:
                raise ServerUnusable(f"{self.name}: {self.gate.given_up}")
        return self._taken_up

    async def decided(self) -> None:
        """Return when the first logon has succeeded, failed for now, or failed for good."""
        await self._decided.wait()

    def close(self) -> None:
        """Say that nothing of this run needs the server any more: it logs off."""
        self._closing.set()
        if self._connection is not None:
            self._connection.over.set()

    # --- its own life --------------------------------------------------------------------

    async def serve(self) -> None:
        """Keep a session open until `close()`; then log off. Never raises for the server."""
        logons = 0
        try:
            while not self._closing.is_set() and self.gate.given_up is None:
                await self._one_session()
                logons += 1
                if not self._closing.is_set():
                    await self._rest(logons)
        finally:
            self.gate.give_up("the run is over")  # nobody is left who could open it again
            self._left_known.set()
            self._decided.set()
            self._measure()

    async def _one_session(self) -> None:
        try:
            if self._left is not None and not self._left_known.is_set():
                await self._again(self._left)
            else:
                async with self._client.logon() as session:
                    await self._use(self._open(session))
        except REFUSAL as exc:
            self.refuse(str(exc))
        except EnterpriseManagerError as exc:
            self.trouble(exc)
            self._unanswered += 1
            self._decided.set()

    async def _again(self, left: Left) -> None:
        """Live with the session of an earlier process; if it is gone, say so, once."""
        try:
            async with self._client.take_up() as session:
                await self._use(self._take_up(session, left))
        except SessionLost:
            self._left_known.set()

    async def _use(self, connection: Connection) -> None:
        """Live with one session until it is lost or nobody needs it any more."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_tasks, connection)
                tasks.start_soon(self._keep_alive, connection)
                tasks.start_soon(self._probe, connection)
                tasks.start_soon(self._quicken)
                await connection.over.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._end(connection)

    def _open(self, session: GuestSession) -> Connection:
        """Begin to use a session that was just logged on."""
        now = self._ledger.now()
        self._sessions += 1
        self._ledger.record(
            SessionOpened(
                at=now,
                server=self.name,
                session=session.id,
                user=session.user,
                api_version=session.api_version,
                clock_offset_s=session.clock_offset_s,
                certificate_sha256=session.certificate_sha256,
            )
        )
        connection = self._connected(session)
        connection.settled.set()
        return connection

    def _take_up(self, session: GuestSession, left: Left) -> Connection:
        """Begin to use the session of an earlier process, with all that belongs to it."""
        self._ledger.record(
            SessionTakenUp(at=self._ledger.now(), server=self.name, session=session.id)
        )
        connection = self._connected(session)
        connection.watcher.claimed.update(left.tasks)
        connection.mounts.update(left.mounts)
        if not left.in_doubt:
            connection.settled.set()
        self._taken_up = connection
        self._left_known.set()
        return connection

    def _connected(self, session: GuestSession) -> Connection:
        async def persistently(ask: Callable[[], Awaitable[None]]) -> None:
            await self.persistently(connection, ask, patience=PATIENCE)

        watcher = Watcher(session, self._watch, persistently)
        connection = Connection(session, watcher)
        if self._closing.is_set():  # the run ended while this logon was on its way
            connection.over.set()
        self._connection = connection
        self._recover()
        self._decided.set()
        return connection

    def _end(self, connection: Connection) -> None:
        self._connection = None
        self._requests += connection.session.requests
        self._retries += connection.session.retries
        reason = "logged off"
        if connection.lost:
            reason = "the server forgot the session"
        elif self._something_may_be_open(connection):
            connection.session.leave_open()
            reason = "left open, so that its mounts can still be released"
        self._ledger.record(
            SessionEnded(
                at=self._ledger.now(),
                server=self.name,
                session=SessionId(connection.session.id),
                lost=connection.lost,
                reason=reason,
            )
        )

    def _something_may_be_open(self, connection: Connection) -> bool:
        """Tell whether a mount of this session is left: logging off would put it out of reach."""
        return any(
            record.may_be_open
            for record in self._ledger.records
            if record.attempts and record.attempts[-1].session == connection.session.id
        )

    def _moved(self) -> None:
        """Let admission look again: the gate or the pace has moved."""
        self._on_gate(self)

    def _recover(self) -> None:
        if self._sessions > 1 or self._down_since is not None:
            self.pace.reopened(self._unanswered)
        if self._down_since is not None:
            waited = self._ledger.now() - self._down_since
            self._waited_s += waited
            self._down_since = None
            self._ledger.record(
                ServerResumed(at=self._ledger.now(), server=self.name, waited_s=waited)
            )
        self._openings += 1
        self._tell_pace()
        self.gate.open()

    async def _watch_tasks(self, connection: Connection) -> None:
        try:
            await connection.watcher.serve()
        except SessionLost:
            self.lose(connection)
        except ServerUnusable:
            pass  # given up: the gate has told everyone
        except EnterpriseManagerError as exc:  # a refusal of every way to read tasks
            log.warning("watcher.ended", server=self.name, why=str(exc))
            self._give_up(f"its tasks cannot be read: {exc}")

    async def _keep_alive(self, connection: Connection) -> None:
        """Use the session before it idles out; a queue may wait longer than 15 minutes."""
        while True:
            await anyio.sleep(KEEP_ALIVE_TICK)
            if connection.session.idle_s < KEEP_ALIVE_AFTER or not self.gate.is_open:
                continue
            try:
                await self.persistently(connection, connection.session.keep_alive)
            except (SessionLost, ServerUnusable):
                return
            except EnterpriseManagerError as exc:
                log.warning("keep_alive.refused", server=self.name, why=str(exc))

    async def _probe(self, connection: Connection) -> None:
        """While the gate is closed, ask now and then, until the server answers."""
        attempt = 0
        while True:
            await self.gate.shut()
            if connection.lost:
                return
            attempt += 1
            if not await self._rest(max(attempt, self._turned_away)):
                return
            try:
                with anyio.fail_after(PROBE_ALLOWANCE):
                    await connection.session.keep_alive()
            except (TimeoutError, *TROUBLE) as exc:
                self._unanswered += 1
                if not isinstance(exc, TimeoutError):
                    self._trouble = exc
                continue
            except SessionLost:
                self.lose(connection)
                return
            except EnterpriseManagerError as exc:
                self._give_up(str(exc))
                return
            attempt = 0
            self._recover()

    async def _quicken(self) -> None:
        """Step the pace up while the gate is open, and let admission look again."""
        while True:
            await self.pace.limiting()
            await anyio.sleep(TICK)
            if self.gate.is_open and self.pace.tick(self._ledger.now()):
                self._tell_pace()
                self._moved()

    def _tell_pace(self) -> None:
        """Record how many mounts the server is given, if that has changed."""
        allowed = int(self.pace.allowance) if self.pace.is_limiting else None
        if allowed != self._told_pace:
            self._told_pace = allowed
            self._ledger.record(
                ServerPaced(at=self._ledger.now(), server=self.name, allowed=allowed)
            )

    async def _rest(self, attempt: int) -> bool:
        """Pause before the next probe; False when the outage has lasted too long."""
        exc = self._trouble
        wish = exc.retry_after_s if isinstance(exc, ServiceBusy) else None
        pause = max(RECONNECT.delay(attempt, self._rng), min(wish or 0.0, 120.0))
        since = self._down_since if self._down_since is not None else self._ledger.now()
        remaining = since + self._outage - self._ledger.now()
        if remaining <= 0 and self.gate.given_up is None:
            own = isinstance(exc, HostExhausted)
            self._give_up(f"{'not asked' if own else 'out of reach'} for {self._outage:g} s: {exc}")
        if self.gate.given_up is not None:
            return False
        with anyio.move_on_after(min(pause, remaining)):
            await self._closing.wait()
        return not self._closing.is_set()

    def _give_up(self, reason: str) -> None:
        if self.gate.given_up is None:
            self._ledger.record(
                ServerGivenUp(
                    at=self._ledger.now(), server=self.name, reason=reason, refused=self.refused
                )
            )
            self.gate.give_up(reason)
            self._left_known.set()
            if self._connection is not None:
                self._connection.over.set()

    def _measure(self) -> None:
        self._ledger.record(
            ServerMeasured(
                at=self._ledger.now(),
                server=self.name,
                requests=self._requests,
                retries=self._retries,
                peak_mounts=self.peak_mounts,
                sessions=self._sessions,
            )
        )


def _is_overload(exc: Exception) -> bool:
    """Tell whether load may be the cause: an answer that says so, or none in time."""
    busy = isinstance(exc, ServiceBusy) and exc.status != 401  # 401: the session may still live
    return busy or isinstance(exc, ResponseLost)
