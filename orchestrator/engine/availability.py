"""Whether one server can be used now: circuit breaker, silence, adaptive limit, and given up."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Container
from typing import TypeVar

import anyio
from msgspec import Struct, field

from orchestrator.core.errors import (
    HostExhausted,
    MalformedResponse,
    RequestNotSent,
    RequestRefused,
    ResponseLost,
    ServerUnusable,
    ServiceBusy,
    SessionLost,
)
from orchestrator.core.events import ServerPaced
from orchestrator.core.model import ServerName
from orchestrator.core.policy import RECONNECT, Backoff, WatchPolicy
from orchestrator.core.text import duration
from orchestrator.engine.activity_watch import ActivityWatch
from orchestrator.engine.adaptive_limit import AdaptiveLimit
from orchestrator.engine.bounded import EndedAfter
from orchestrator.engine.circuit_breaker import CircuitBreaker, Refusals
from orchestrator.engine.connection import Connection, EarlierSession
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.reachability import Reachability
from orchestrator.engine.silence import FROZEN_AFTER, Silence
from orchestrator.engine.start_interval import StartInterval

T = TypeVar("T")

TROUBLE = (RequestNotSent, ResponseLost, ServiceBusy, MalformedResponse)
"""What says something about the server and nothing about the target."""

REFUSALS = {429, 503}
"""Statuses of a server that declines one request, and may take the next one."""

ONCE_MORE = Backoff(first=0.25, ceiling=4.0)
"""Between repetitions of a request that was refused while the server takes others."""

POSTS_OF_A_SERIES = 3
"""Mount POSTs in a row without a mount that are a series, whatever is answered to reads."""

DENIALS = 3
"""Restore points that the account was denied to mount before any other: it may mount none."""

QUIET = 2.0
"""Seconds without an answer that are no more than a server at work."""

LOOK_AGAIN = 30.0
"""Seconds that a process which was frozen gets to look before a time limit speaks."""

SHORTAGE_OVER = 60.0
"""Seconds without a complaint after which this machine lacks nothing; pauses are shorter."""


class Shortage(Struct):
    """Since when this machine lacks something for its requests to one server, and until when."""

    since: float
    last: float


class Terms(Struct, frozen=True, kw_only=True):
    """How a run uses one server."""

    outage: float
    """Seconds that targets may wait for the server while it is out of reach."""
    watch: WatchPolicy
    rng: random.Random
    on_exhausted: Callable[[str], None] = lambda why: None
    """Told why when this machine itself could not do its part for as long."""
    pace: AdaptiveLimit = field(default_factory=AdaptiveLimit)
    starts: StartInterval = field(default_factory=StartInterval)
    left: EarlierSession | None = None
    """The session of an earlier process, which alone is used; nobody logs on. None: new mounts."""
    reachability: Reachability | None = None
    """Shared by all connections to the server."""
    wanted: bool = True
    """From the start; otherwise nothing is sent before `want()`."""
    known_sessions: Callable[[], Container[str]] | None = None
    """Those of runs whose mounts count here; None: nobody asks whether there are others."""
    activity: ActivityWatch | None = None
    """What is shown of restores and replications; None: nobody asks."""
    on_met: Callable[[ServerName, frozenset[str]], None] = lambda server, endpoints: None
    """Told at each logon where the server answers."""


class Availability:
    """The health of one server in a run, and the waits that depend on it."""

    def __init__(
        self, name: ServerName, ledger: Ledger, terms: Terms, moved: Callable[[], None]
    ) -> None:
        """No request was sent yet. `moved` is called when breaker or limit has changed."""
        self.name = name
        self._ledger = ledger
        self.outage = terms.outage
        """Seconds that targets may wait for this server while it is out of reach."""
        self._rng = terms.rng
        self._moved = moved
        self._on_exhausted = terms.on_exhausted
        self.bug: Exception | None = None
        """What nobody foresaw in one of its tasks; nothing more is mounted here then."""
        self.gate = CircuitBreaker(name, moved)
        self.pace, self.starts = terms.pace, terms.starts
        self.activity = terms.activity
        """What it shows of restores and replications; None where nothing new is mounted."""
        self._told_pace: int | None = None
        self._connection: Connection | None = None
        self._left = terms.left
        self._reachability = terms.reachability or Reachability(name, ledger)
        self._is_wanted = terms.wanted or terms.left is not None
        self._left_known = anyio.Event()
        self._down_since: float | None = None
        self._silence = Silence(ledger.now)
        self._trouble: Exception | None = None
        self._short: Shortage | None = None
        self._refusals = Refusals()
        self._openings = 0
        self._unanswered = 0
        self._turned_away = 0
        self._turned_away_since = 0.0
        self._denied = 0
        self._may_mount = False
        self._waited_s = 0.0
        self._sessions = 0
        self.refused = False
        self.closed_to_mounts: str | None = None
        """Why nothing more is mounted here, though the server is used on."""

    @property
    def ledger(self) -> Ledger:
        """The records of the run's targets."""
        return self._ledger

    @property
    def now(self) -> float:
        """Seconds on the run's clock."""
        return self._ledger.now()

    def open_connection(self) -> Connection | None:
        """Return the living session, or None while the server cannot be used."""
        return self._connection if self.gate.is_open else None

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The sessions that are open now."""
        return (self._connection,) if self._connection is not None else ()

    async def persistently(
        self,
        connection: Connection,
        ask: Callable[[], Awaitable[T]],
        *,
        patience: float = 0.0,
        works: bool = False,
    ) -> T:
        """Return the answer of `ask`; wait and repeat while the server cannot be used.

        Only for requests that may be repeated. An internal error of the server may be this
        request's for good, so it closes no gate; it is repeated for `patience` seconds. With
        `works` the server may do something before it answers: its silence is no trouble yet.

        Raises:
            SessionLost: the session is gone, and its answers with it.
            ServerUnusable: the server was given up.
            EnterpriseManagerError: a refusal that is about this request, or trouble with nothing
                but this request for as long as the plan waits for a server.
        """
        failing_since: float | None = None
        broken_since: float | None = None
        refused = 0
        while True:
            if connection.lost:
                raise SessionLost("the logon session is gone", server=self.name)
            if not self.gate.is_open:
                await self.gate.passed()
                continue
            asked_in, asked_at = self._openings, self._ledger.now()
            try:
                answer = await self._asked(ask, counts=not works)
            except HostExhausted as exc:
                await self.spare(exc)
            except TROUBLE as exc:
                if asked_in == self._openings:  # later, it says nothing about the server now
                    self.trouble(exc, self._silence.began(asked_at, connection.session.idle_s))
                failing_since = asked_at if failing_since is None else failing_since
                if self._ledger.now() - failing_since > self.outage:
                    raise  # probes have been answered: it is about this request
                if isinstance(exc, ServiceBusy):
                    refused += 1
                    await self._pause_after_refusal(refused)
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
                connection.answered = True
                self._refusals.answered()
                self.pace.good()
                return answer

    async def _asked(self, ask: Callable[[], Awaitable[T]], *, counts: bool) -> T:
        """Return the answer of one call; if it `counts`, silence is measured meanwhile."""
        if not counts:
            return await ask()
        mark = self._silence.begin()
        try:
            return await ask()
        finally:
            self._silence.end(mark)

    async def spare(self, exc: HostExhausted) -> None:
        """Wait a little, because this machine is short of something; not the server's fault.

        After as long as an outage may last the run is halted, but what is mounted still waits:
        it may yet be unmounted.

        Raises:
            ServerUnusable: it has lasted twice as long.
        """
        now, short = self._ledger.now(), self._short
        if short is None or now - short.last > SHORTAGE_OVER:
            short = self._short = Shortage(since=now, last=now)
            self._ledger.note(f"requests wait: {exc}")
        short.last = now
        lasted = now - short.since
        if lasted > 2 * self.outage:
            self.give_up(str(exc))
            raise ServerUnusable(f"{self.name}: {exc}")
        await anyio.sleep(min(max(1.0, lasted / 2), RECONNECT.ceiling))
        if self._ledger.now() - short.since > self.outage:
            self._on_exhausted(str(exc))

    async def within(self, seconds: float, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer of `ask`, or None after `seconds` in which the server was usable.

        Time during which the server was out of reach or silent does not count: its trouble never
        costs a target its deadline, for as long in all as the plan waits for a server. A process
        that was frozen when the time was over looks once more.
        """
        parked_before, granted = self._parked_s(), 0.0

        def more(late: float) -> float:
            nonlocal granted
            parked = min(self._parked_s() - parked_before, self.outage)
            allowed, granted = parked - granted, max(parked, granted)
            return max(allowed, LOOK_AGAIN) if late > FROZEN_AFTER else allowed

        with EndedAfter(seconds, more):
            return await ask()
        return None

    def _parked_s(self) -> float:
        """Return how long the server has been out of reach so far, in seconds."""
        now, since = self._ledger.now(), self._down_since
        if since is None and self._connection is not None:
            silent = self._silence.since(self._connection.session.idle_s)
            since = silent if silent is not None and now - silent > QUIET else None
        return self._waited_s + (now - since if since is not None else 0.0)

    def trouble(self, exc: Exception, since: float | None = None) -> None:
        """Note that the server could not be used, `since` then; its targets wait from now on.

        Without `since` it was asked for a mount, just now.
        A refusal that stands alone is no trouble: only what was refused is to be asked once more.
        """
        if self._is_lone_refusal(exc, of_mount=since is None):
            return
        self._trouble = exc
        if self.gate.is_open and _is_overload(exc):
            self.pace.overloaded(self._ledger.now())
        if self._down_since is None:
            now = self._ledger.now()
            self._unanswered = 0
            self._down_since = now if since is None else since
            self._reachability.parked(self, exc, self._down_since)
        self.gate.close()

    def _is_lone_refusal(self, exc: Exception, *, of_mount: bool) -> bool:
        """Note an error; return whether it is a refusal of a server that bears what it is asked.

        It is none where the server names a pause, or a load that was too much before.
        """
        if not (self.gate.is_open or self._logs_on_first) or not isinstance(exc, ServiceBusy):
            return False
        if exc.retry_after_s or exc.status not in REFUSALS:
            return False
        outweigh = self._refusals.add()
        in_a_row = of_mount and self._turned_away + 1 >= POSTS_OF_A_SERIES
        return not (outweigh or in_a_row or self.pace.has_failed)

    @property
    def _logs_on_first(self) -> bool:
        """True until the first session, or trouble."""
        return not self._sessions and self._down_since is None

    async def pause_after_refusal(self) -> None:
        """Wait before a mount is asked for once more that was refused alone."""
        await self._pause_after_refusal(self._turned_away)

    async def _pause_after_refusal(self, number: int) -> None:
        """Wait after one of so many refusals in a row, if the server takes other requests."""
        if number and self.gate.is_open:
            await anyio.sleep(ONCE_MORE.delay(number, self._rng))

    def accepted(self) -> None:
        """Note that the server took a mount."""
        self._turned_away = 0
        self._may_mount = True
        self._refusals.answered()
        self.pace.took()

    def denied(self, why: str) -> None:
        """Note that the account may not mount a restore point.

        One that may mount none of the first points may mount nothing here: it is asked no more.
        """
        self._denied += 1
        points = sum(
            max(1, len(each.planned.search.candidates))
            for each in self._ledger.records
            if each.planned.server == self.name
        )
        if not self._may_mount and self._denied >= min(DENIALS, points):
            self.refuse(f"the account may not mount: {why}")

    def turned_away(self, connection: Connection, why: str) -> None:
        """Note that the server started nothing for a mount POST, by no fault of the target's.

        A server that answers probes and takes no mount at all is given up after the outage too;
        while mounts are held there, or requests are in doubt, it only gets no more of them.
        """
        now = self._ledger.now()
        if not self._turned_away:
            self._turned_away_since = now
        self._turned_away += 1
        idle = not connection.watcher.in_flight and not connection.mounts - connection.held
        if idle and now - self._turned_away_since > self.outage:
            reason = f"took no mount for {duration(self.outage)}: {why}"
            if connection.held or connection.doubts:
                self._add_nothing(reason)
            else:
                self.give_up(reason)

    def _add_nothing(self, reason: str) -> None:
        """Mount nothing more here; held mounts stay held."""
        if self.closed_to_mounts is None:
            self.closed_to_mounts = reason
            self._ledger.note(f"{self.name} {reason}")
            self._moved()

    def lose(self, connection: Connection) -> None:
        """Note that the session is gone; a new logon follows, for new targets only."""
        if not connection.lost:
            connection.lost = True
            connection.denied_at = self._ledger.now()
            connection.over.set()
            self.gate.close()
            if not connection.answered:  # whatever took the logon, it is not the service
                why = SessionLost("it takes the logon, and does not know the session then")
                self.trouble(why, connection.opened_at)

    @property
    def trouble_now(self) -> str | None:
        """Why the server cannot be used, or None while it can."""
        if self.gate.given_up is not None:
            return self.gate.given_up
        if self.closed_to_mounts is not None:
            return self.closed_to_mounts
        return str(self._trouble) if self._down_since is not None else None

    def refuse(self, reason: str) -> None:
        """Give the server up for this run: it refused, and would refuse again."""
        self.refused = True
        self.give_up(reason)

    def abandon(self) -> None:
        """Give the server up after a bug, once its mounts are removed as far as possible."""
        self.give_up(self._about_bug)

    @property
    def _about_bug(self) -> str:
        return f"was given up after an internal error: {type(self.bug).__name__}"

    @property
    def is_settled(self) -> bool:
        """False while it is asked for something and cannot be used."""
        return not self._is_wanted or self.gate.is_open or self.gate.given_up is not None

    @property
    def is_wanted(self) -> bool:
        """True once it may log on, or take a session up."""
        return self._is_wanted

    def _recover(self) -> None:
        if self._sessions > 1 or self._down_since is not None:
            self.pace.reopened(self._unanswered)
        if self._down_since is not None:
            self._waited_s += self._ledger.now() - self._down_since
            self._down_since = None
        self._reachability.usable(self)
        self._openings += 1
        self._tell_pace()
        self.gate.open()

    def _tell_pace(self) -> None:
        """Record how many mounts the server is given, if that has changed."""
        if self._left is not None:
            return  # nothing new is mounted here
        allowed = int(self.pace.allowance) if self.pace.is_limiting else None
        if allowed != self._told_pace:
            self._told_pace = allowed
            self._ledger.record(
                ServerPaced(at=self._ledger.now(), server=self.name, allowed=allowed)
            )

    def give_up(self, reason: str) -> None:
        """Give the server up for this run, because of a fault."""
        if self.gate.given_up is None:
            self._reachability.given_up(self, reason)
            self.gate.give_up(reason)
            self._left_known.set()
            if self._connection is not None:
                self._connection.over.set()


def _is_overload(exc: Exception) -> bool:
    """Return whether load may be the cause: an answer that says so, or none in time."""
    busy = isinstance(exc, ServiceBusy) and exc.status != 401  # 401: the session may still live
    return busy or isinstance(exc, ResponseLost)
