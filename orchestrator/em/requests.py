"""How a logon session sends a request: pages, doubtful answers, and whether it is still valid.

An answer is believed only from a service that is there: a strange one is followed by one small
question, and what that says decides whether the request, the server or the session is at fault.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from typing import TypeVar

import anyio

from orchestrator.core.errors import (
    EnterpriseManagerError,
    MalformedResponse,
    RequestRefused,
    ServiceBusy,
    SessionLost,
    Unreadable,
)
from orchestrator.core.model import ServerName
from orchestrator.core.policy import DENIED_FOR, SESSION_IDLE_LIMIT
from orchestrator.core.token import Token
from orchestrator.em import limits
from orchestrator.em.elements import Reading
from orchestrator.em.format import Format
from orchestrator.em.own_session import OwnSession
from orchestrator.em.transport import Answer, Transport
from orchestrator.em.wire import Page

T = TypeVar("T")

PAGE_SIZE = 500
"""Rows per page; always sent, because the server's own default is 15 for tasks, 100 for points."""

MAX_ROWS = 200_000
"""Rows of one listing, all pages together."""


class SessionRequests:
    """The requests of one logon session, until its end."""

    def __init__(self, transport: Transport, form: Format, guid: Token) -> None:
        """Nothing is sent yet."""
        self.transport = transport
        self._itself = OwnSession(transport, form, guid)
        self._lost = False
        self._has_answered = self._has_idled = False
        self._denied_since: float | None = None
        self.denied_for = DENIED_FOR
        self._asking = anyio.Lock()

    @property
    def server(self) -> ServerName:
        """The server it is a session of."""
        return self.transport.server

    @property
    def idle_s(self) -> float:
        """Seconds since this session was last used, those of a suspended machine included."""
        return self.transport.boot_clock() - self.transport.last_used

    def end(self) -> None:
        """Send nothing more on this session: later calls raise that it is gone."""
        self._lost = True

    async def keep_alive(self) -> None:
        """Use the session, by one request: the circuit breaker's probe; a dead server gets few.

        Source: any request counts; this one is small and always allowed.

        Raises:
            SessionLost: the session is gone.
            ServiceBusy: something else than the service answered, or it could not.
            EnterpriseManagerError: as for any request.
        """
        self._check()
        try:
            await self._guarded(self._itself.seen())
        except RequestRefused as exc:
            if not exc.is_internal:
                raise
            raise _busy(exc, "when it was asked for the session itself") from None

    async def pages(
        self,
        base: str,
        reading: Callable[[], Reading[Page[T]]],
        too_many: str | None = None,
    ) -> AsyncIterator[Page[T]]:
        """Yield every page; page addresses are built here, because links may lose the filter.

        `too_many` says what is too much, and how to ask for less.

        Raises:
            RequestRefused: the list is longer than any that is read here, and `too_many` says so.
            MalformedResponse: it has no end.
        """
        rows = 0
        before: tuple[Sequence[T], Sequence[str]] = ((), ())
        for number in count(1):
            page = await self.get(f"{base}&pageSize={PAGE_SIZE}&page={number}", reading, large=True)
            shown = len(page.rows) + len(page.set_aside)
            rows += shown
            if rows > MAX_ROWS and too_many is not None:
                raise RequestRefused(
                    f"{self.server} lists more than {MAX_ROWS} {too_many}", server=self.server
                )
            if rows > MAX_ROWS or (shown and (page.rows, page.set_aside) == before):
                raise MalformedResponse(f"{self.server} lists without end")
            yield page
            if not page.has_next or not shown:
                return
            before = (page.rows, page.set_aside)

    async def send(
        self,
        method: str,
        target: str,
        reading: Callable[[], Reading[T]],
        *,
        body: bytes | None = None,
        timeout: limits.Patience = limits.READ,
        mount_post: bool = False,
        never_again: bool = False,
    ) -> tuple[Answer, T]:
        """Send one request, once, if the session may be used; as `Transport.send`."""
        await self._alive()
        return await self._guarded(
            self.transport.send(
                method,
                target,
                reading,
                body=body,
                timeout=timeout,
                mount_post=mount_post,
                never_again=never_again,
            )
        )

    async def stream(self, target: str, take: Callable[[bytes], None], *, limit: int) -> int:
        """Hand over a body as it comes, if the session may be used; as `Transport.stream`."""
        await self._alive()
        return await self._guarded(self.transport.stream(target, take, limit=limit))

    async def get(
        self,
        target: str,
        reading: Callable[[], Reading[T]],
        *,
        large: bool = False,
        shows_sessions: bool = False,
    ) -> T:
        """Read one thing, or with `large` a list; repeated where that may help.

        Raises:
            Unreadable: the answer cannot be read, and the server answers well otherwise.
            EnterpriseManagerError: what the answer means.
        """
        await self._alive()
        cap, timeout = (limits.LARGE, limits.LIST) if large else (limits.SMALL, limits.READ)
        try:
            return await self._guarded(
                self.transport.get(
                    target, reading, cap=cap, timeout=timeout, shows_sessions=shows_sessions
                )
            )
        except MalformedResponse as exc:
            if await self._answers():
                raise Unreadable(
                    str(exc), server=exc.server, request=exc.request, status=exc.status
                ) from None
            raise

    # --- what an answer says of the session ---------------------------------------------------

    async def _guarded(self, request: Awaitable[T]) -> T:
        try:
            answer = await request
        except RequestRefused as exc:
            if exc.is_internal and not await self._answers():
                raise _busy(exc, "and its service does not answer") from None
            raise
        except SessionLost as exc:
            if not self._lost and (await self._may_live() or self._is_denied_briefly()):
                raise _busy(exc, "but the session may still live") from None
            self._lost = True
            raise
        self._has_answered, self._has_idled, self._denied_since = True, False, None
        return answer

    def _is_denied_briefly(self) -> bool:
        """Return whether a session that has answered is denied for less than `DENIED_FOR`.

        One that may have idled out is not waited for: the server has forgotten it.
        """
        now = self.transport.boot_clock()
        if self._denied_since is None:
            self._denied_since = now
        is_young = now - self._denied_since < self.denied_for
        return self._has_answered and not self._has_idled and is_young

    async def _answers(self) -> bool:
        """Ask once whether the service is there and well: only then it is about the request.

        Whoever answers in its place, while it is stopped, finds no mount either.
        """
        try:
            await self._itself.seen()
        except EnterpriseManagerError:
            return False
        return True

    async def _may_live(self) -> bool:
        """Ask once whether a 401 was the session's end: only a second one confirms it.

        Giving a living session up would leave its mounts open with nobody watching them.
        """
        try:
            await self._itself.seen()
        except SessionLost:
            return False
        except EnterpriseManagerError:
            return True  # not known: the server's gate asks on
        return True

    async def _alive(self) -> None:
        """Check that the session may be used; one that may have idled out is asked for first.

        While this machine is suspended, nobody keeps its sessions alive.

        Raises:
            SessionLost: the server has forgotten it.
            EnterpriseManagerError: the server cannot be asked.
        """
        if self.idle_s > SESSION_IDLE_LIMIT:
            async with self._asking:
                if self.idle_s > SESSION_IDLE_LIMIT:  # nobody has asked meanwhile
                    self._has_idled = True
                    await self.keep_alive()
        self._check()

    def _check(self) -> None:
        if self._lost:
            raise SessionLost("the logon session is gone", server=self.server)


def _busy(exc: EnterpriseManagerError, but: str) -> ServiceBusy:
    """Return the error that says why another answer is waited for, instead of this one."""
    words = f"{exc}, {but}"
    return ServiceBusy(
        words, server=exc.server, request=exc.request, status=exc.status, words=exc.words
    )
