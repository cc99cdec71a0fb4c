"""One server's part in a run: its logon session, watcher, keep-alive and circuit breaker.

A connection logs on, keeps the session alive for as long as the run needs it, and logs off last.
A session that the server forgot is replaced by exactly one new logon; what belonged to the
old one stays with the old one. Trouble closes the gate; one probe opens it again, or the
server is given up when the outage has lasted as long as the plan allows.

A session that an earlier process left has a connection of its own, beside the one that logs on
for new mounts: it only finishes what was begun there. Each has its gate, probe and keep-alive, so
that losing one session does not lose the other; `Reachability` records once what they all meet.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio

from orchestrator.core.errors import (
    AccessDenied,
    AddressUnusable,
    CredentialError,
    EnterpriseManagerError,
    Fenced,
    HostExhausted,
    LogonRefused,
    LogonTooSoon,
    ResponseLost,
    ServerUnusable,
    ServiceBusy,
    SessionLost,
)
from orchestrator.core.policy import DENIED_FOR, KEEP_ALIVE_AFTER, KEEP_HELD_AFTER, RECONNECT
from orchestrator.core.ports.server import EnterpriseManager
from orchestrator.core.text import duration
from orchestrator.engine.accounting import ACCOUNT_AFTER, owes_account, take_account
from orchestrator.engine.adaptive_limit import TICK
from orchestrator.engine.availability import ONCE_MORE, TROUBLE, Terms
from orchestrator.engine.bounded import before
from orchestrator.engine.connection import Connection, EarlierSession
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.sessions import PROBE_ALLOWANCE, Sessions
from orchestrator.engine.silence import FROZEN_AFTER, overslept
from orchestrator.log import Log

log = Log(__name__)

REFUSAL = (LogonRefused, AddressUnusable, CredentialError, AccessDenied)
"""A logon that failed like this is never repeated."""

KEEP_ALIVE_TICK = 60.0

LISTEN_AFTER = 15.0
"""Seconds without any answer to a read after which one small question is asked beside it."""

HEAR_ALLOWANCE = 60.0
"""Seconds that the answer to it may take: a slow server is no dead one."""

LOGON_GRACE = 1.5
"""Seconds that a logon may still take once nothing of the run needs it any more."""

LEAST_S = 2.0
"""Seconds that the last question before a server is given up gets for its answer."""


class ServerConnection(Sessions):
    """One Enterprise Manager during one run, as far as one session at a time reaches."""

    def __init__(
        self,
        client: EnterpriseManager,
        ledger: Ledger,
        terms: Terms,
        *,
        on_gate: Callable[[ServerConnection], None] = lambda server: None,
        on_bug: Callable[[ServerConnection, Exception], None] = lambda server, exc: (
            server.abandon()
        ),
    ) -> None:
        """`on_gate` is called when its gate or its limit has changed.

        `on_bug` is told what nobody foresaw in one of the server's own tasks: it then removes
        what is mounted there, and calls `abandon()`.
        """
        super().__init__(client, ledger, terms, lambda: on_gate(self))
        self._on_bug = on_bug
        if terms.left is None:
            self._reachability.for_new = self
        self._woken = anyio.Event()
        if self._is_wanted:
            self._woken.set()
        self._opening: anyio.CancelScope | None = None
        self._denied_since: float | None = None
        """When the session of an earlier process was first denied, on the run's clock."""

    def leave_out(self) -> None:
        """Do not use the server at all: the run has no target there."""
        self.gate.give_up("not asked: the run wants nothing of it")
        self._left_known.set()
        self._decided.set()

    def break_down(self, exc: Exception) -> None:
        """Note a bug in one of the server's own tasks: it costs this server, and no other one.

        Raises:
            Fenced: it is no bug: another worker has the server.
        """
        if isinstance(exc, Fenced):
            raise exc
        if self.bug is not None:
            log.error("server.internal_error", server=self.name, exc_info=exc)
            return
        self.bug = exc
        log.error("server.internal_error", server=self.name, exc_info=exc)
        self._add_nothing(self._about_bug)
        self._on_bug(self, exc)

    async def looked(self) -> None:
        """Return once all awaited tasks were read again."""
        if self._connection is not None:
            await self._connection.watcher.looked()

    def want(self) -> None:
        """Allow a logon from now on: there is new work on the server."""
        self._is_wanted = True
        self._woken.set()

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
        """Allow the logoff: nothing of this run needs the server any more."""
        self._closing.set()
        self._woken.set()
        if self._connection is not None:
            self._connection.over.set()
        if self._opening is not None:
            limit = anyio.current_time() + LOGON_GRACE
            self._opening.deadline = min(self._opening.deadline, limit)

    async def serve(self) -> None:
        """Keep a session open until `close()`; then log off. Raises Fenced, and nothing else."""
        logons = 0
        try:
            await self._woken.wait()
            while self._goes_on:
                await self._one_session()
                logons += 1
                if not self._closing.is_set():
                    await self._rest(logons)
        except Fenced:
            raise  # nothing is wrong here
        except Exception as exc:  # noqa: BLE001 - one server's bug must not spread
            self.break_down(exc)
            self.abandon()
        finally:
            if not (self._client.fence.lost or self.is_resting):
                self._note_end()
            self.ended.set()

    def _note_end(self) -> None:
        """Record that this process uses the server no more, and let nobody wait for it."""
        self._note_unreached()
        for connection in self._lost:  # the server has not answered since
            self._note_unaudited(connection)
        lost = self._left is not None and not self._closing.is_set()
        why = "its logon session is gone" if lost else "the run is over"
        self.gate.give_up(why)  # nobody is left who could open it again
        self._left_known.set()
        self._decided.set()
        self._reachability.left(self)
        if self._is_wanted:
            self._measure()

    @property
    def _goes_on(self) -> bool:
        """True while another session is wanted."""
        wanted = self._left is None or not self._left_known.is_set()
        return (
            self._is_wanted and wanted and not self._closing.is_set() and self.gate.given_up is None
        )

    async def _one_session(self) -> None:
        if self._left is None and not self._client.fence.sure:
            # that no logon may be sent now is no silence of the server's
            await before(self._closing.wait, self._client.fence.until_sure)
            if self._closing.is_set():
                return
        asked_at = self._ledger.now()
        try:
            if self._left is not None:
                await self._again(self._left)
            else:
                await self._anew()
        except REFUSAL as exc:
            self.refuse(str(exc))
        except EnterpriseManagerError as exc:
            self.trouble(exc, asked_at)
            if not self._logs_on_first:
                self._unanswered += 1
                self._decided.set()

    async def _anew(self) -> None:
        """Log on, and use the new session."""
        with self._in_time() as opening:
            async with self._client.logon() as session:
                self._opened(opening)
                await self._use(self._open(session))
        self._require_answer(opening)

    async def _again(self, left: EarlierSession) -> None:
        """Use the session of an earlier process; if it is gone, record that once.

        Raises:
            ServiceBusy: it is denied, and may live: it has not been asked for long enough.
            EnterpriseManagerError: the server cannot be asked.
        """
        try:
            with self._in_time() as opening:
                async with self._client.take_up(left.session) as session:
                    self._opened(opening)
                    await self._use(self._take_up(session, left))
            self._require_answer(opening)
        except SessionLost as exc:
            if self._is_denied_briefly(left):
                why = f"{exc}, but the session of an earlier process may still live"
                raise ServiceBusy(why, server=self.name, status=exc.status) from None
            self.forgotten = True
            self._end_forgotten(left)
            self._left_known.set()

    def _is_denied_briefly(self, left: EarlierSession) -> bool:
        """Return whether a session that may live is denied for less than `DENIED_FOR`."""
        now = self._ledger.now()
        if self._denied_since is None:
            self._denied_since = now
        return left.may_live(now) and now - self._denied_since < DENIED_FOR

    @contextmanager
    def _in_time(self) -> Iterator[anyio.CancelScope]:
        """Bound a logon by the rest of the outage limit, and by the end of the run."""
        since = self._down_since if self._down_since is not None else self._ledger.now()
        remaining = max(LEAST_S, since + self.outage - self._ledger.now())
        with anyio.move_on_after(remaining) as self._opening:
            yield self._opening
        self._opening = None

    def _opened(self, opening: anyio.CancelScope) -> None:
        """Bound a session no more: its logon was answered."""
        opening.deadline = math.inf
        self._opening = None

    def _require_answer(self, opening: anyio.CancelScope) -> None:
        """Check that a logon was not given up because no answer came.

        Raises:
            ResponseLost: it was.
        """
        if opening.cancelled_caught and not self._closing.is_set():
            raise ResponseLost(f"{self.name} did not answer the logon", server=self.name)

    async def _use(self, connection: Connection) -> None:
        """Use one session until it is lost or no longer needed.

        Raises:
            Fenced: another worker uses it now.
        """
        try:
            async with anyio.create_task_group() as tasks:
                for part in (
                    self._watch_tasks,
                    self._keep_alive,
                    self._listen,
                    self._probe,
                    self._quicken,
                    self._look_for_neighbours,
                    self._watch_activity,
                    self._ask_denied,
                ):
                    tasks.start_soon(self._walled, part, connection)
                await connection.over.wait()
                tasks.cancel_scope.cancel()
            if self._client.fence.lost:
                raise Fenced(self.name)
            if self.is_unused(connection):
                connection.audited = True
            elif connection.audited is None and not connection.lost:
                await self._last_look(connection)
        finally:
            self._end(connection)
        await self._log_off_if_recorded(connection)

    async def _walled(
        self, part: Callable[[Connection], Awaitable[None]], connection: Connection
    ) -> None:
        """Run one part of the server's work; a bug in it ends no other part or server."""
        try:
            await part(connection)
        except Fenced:
            connection.over.set()
        except Exception as exc:  # noqa: BLE001 - one server's bug must not spread
            self.break_down(exc)

    async def _watch_tasks(self, connection: Connection) -> None:
        try:
            await connection.watcher.serve()
        except SessionLost:
            self.lose(connection)
        except ServerUnusable:
            pass  # given up: the gate has told everyone
        except EnterpriseManagerError as exc:  # a refusal of every way to read tasks
            log.warning("watcher.ended", server=self.name, why=str(exc))
            self.give_up(f"its tasks cannot be read: {exc}")

    async def _keep_alive(self, connection: Connection) -> None:
        """Use the session before it idles out; a queue may wait longer than 15 minutes."""
        while True:
            await anyio.sleep(KEEP_ALIVE_TICK)
            owes = owes_account(connection, self._ledger)
            allowed = KEEP_HELD_AFTER if connection.held else KEEP_ALIVE_AFTER
            allowed = ACCOUNT_AFTER if owes else allowed
            if connection.session.idle_s < allowed or not self.gate.is_open:
                continue
            account = partial(take_account, connection, self._ledger)
            ask = account if owes else connection.session.keep_alive
            try:
                await self.persistently(connection, ask)
            except (SessionLost, ServerUnusable):
                return
            except EnterpriseManagerError as exc:
                log.warning("keep_alive.refused", server=self.name, why=str(exc))

    async def _listen(self, connection: Connection) -> None:
        """If a read gets no answer, send a small request: is the server silent?"""
        pause = min(LISTEN_AFTER, self.outage / 3)
        while True:
            await self._silence.owing()
            try:
                await self.gate.passed()
            except ServerUnusable:
                return
            since = self._silence.since(connection.session.idle_s)
            left = pause if since is None else since + pause - self._ledger.now()
            if left > 0:
                if await overslept(left) > FROZEN_AFTER:
                    self._silence.forgive()
            elif since is not None and self.gate.is_open:
                await self._hear(connection, since)

    async def _hear(self, connection: Connection, since: float) -> None:
        """Send a small request to a server that has been silent `since` then."""
        allowance = min(HEAR_ALLOWANCE, max(LEAST_S, since + self.outage - self._ledger.now()))
        try:
            with anyio.fail_after(allowance):
                await connection.session.keep_alive()
        except TimeoutError:
            silent = self._ledger.now() - since
            exc = ResponseLost(f"{self.name} has answered nothing for {duration(silent)}")
            self.trouble(exc, since)
        except TROUBLE as exc:
            self.trouble(exc, since)
        except SessionLost:
            self.lose(connection)
        except EnterpriseManagerError:
            connection.answered = True  # a refusal is an answer, too

    async def _probe(self, connection: Connection) -> None:
        """While no requests may pass, ask from time to time until the server answers.

        In a session that follows trouble at once: a logon alone does not show that it is over.
        """
        attempt, rested = 0, not self.gate.is_open
        while True:
            await self.gate.shut()
            if connection.lost:
                return
            tries = attempt + 1 if self._refusals.are_many else attempt  # it has refused several
            if not rested and not await self._rest(max(tries, self._turned_away)):
                return
            attempt, rested = attempt + 1, False
            try:
                with anyio.fail_after(min(PROBE_ALLOWANCE, max(LEAST_S, self.outage))):
                    await connection.session.keep_alive()
            except SessionLost:
                self.lose(connection)
                return
            except (TimeoutError, EnterpriseManagerError) as exc:
                self._unanswered += 1
                if not isinstance(exc, TimeoutError):
                    self._trouble = exc
                continue
            attempt = 0
            connection.answered = True
            self._recover()

    async def _quicken(self, _connection: Connection) -> None:
        """Raise the adaptive limit while the server answers, and admit more targets."""
        while True:
            await self.pace.limiting()
            await anyio.sleep(TICK)
            if self.gate.is_open and self.pace.tick(self._ledger.now()):
                self._tell_pace()
                self._moved()

    async def _rest(self, attempt: int) -> bool:
        """Pause before the next probe; False when the outage has lasted too long."""
        exc = self._trouble
        wish = exc.retry_after_s if isinstance(exc, ServiceBusy) else None
        usual = ONCE_MORE if self._logs_on_first else RECONNECT
        pause = max(usual.delay(attempt, self._rng), min(wish or 0.0, 120.0))
        if isinstance(exc, LogonTooSoon):
            pause = max(pause, exc.wait_s)
        since = self._down_since if self._down_since is not None else self._ledger.now()
        remaining = since + self.outage - self._ledger.now()
        if remaining <= 0 and self.gate.given_up is None:
            own = isinstance(exc, HostExhausted)
            self.give_up(
                f"{'not asked' if own else 'out of reach'} for {duration(self.outage)}: {exc}"
            )
        if self.gate.given_up is not None:
            return False
        with anyio.move_on_after(min(pause, remaining)):
            await self._closing.wait()
        return not self._closing.is_set()
