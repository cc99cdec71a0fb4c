"""One Enterprise Manager of the plan: its logon sessions, new ones and those taken up.

What speaks HTTP is imported with the first request: aiohttp takes 0.15 s of CPU, and nobody should
wait for it before the run says that it has begun.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import anyio

from orchestrator.core.errors import EnterpriseManagerError, SessionLost
from orchestrator.core.model import SessionId, Source
from orchestrator.core.ports.fence import NO_FENCE, Fence, NoFence
from orchestrator.core.token import KeptSession
from orchestrator.em.budget import LogonBudget
from orchestrator.em.credentials import resolve
from orchestrator.em.facts import ServiceRoot
from orchestrator.em.families import FAMILIES
from orchestrator.em.format import Format
from orchestrator.em.shortage import require_room
from orchestrator.em.wire import Codec
from orchestrator.plan.file.settings import ServerSettings, StopTasks

if TYPE_CHECKING:
    from orchestrator.em.logon import OpenedSession
    from orchestrator.em.session import Session
    from orchestrator.em.transport import ConnectorFactory, Transport


class Client:
    """One Enterprise Manager of the plan; implements `ports.EnterpriseManager`."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        families: Iterable[Source] = (Source.REPLICA,),
        rng: random.Random,
        connector: ConnectorFactory | None = None,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        boot_clock: Callable[[], float] = anyio.current_time,
        on_session: Callable[[Session], None] = lambda session: None,
        kept: Iterable[KeptSession] = (),
        withheld: frozenset[str] = frozenset(),
        may_write: bool = False,
        fence: Fence = NO_FENCE,
    ) -> None:
        """`families` are those the plan mounts from; `on_session` is called at every logon.

        With `may_write` its sessions write files into original guests when asked to: true only
        where a person insisted.

        `kept` are the sessions that earlier processes left, for `take_up`. Programs that know
        a secret do not see the environment variables `withheld`.

        Every request asks `fence`, and a session that is another worker's by now is left as it is.
        """
        self.server = settings.name
        self.fence = fence
        """Whether something may still be sent to the server."""
        self.stops_tasks = settings.stop_tasks is StopTasks.WHEN_NEEDED
        """Whether the tasks of mounts may be asked to stop."""
        self._settings = settings
        paths = (FAMILIES[source].path for source in families)
        self._collections = frozenset(path for path in paths if "/" not in path)
        """What a role must show; agents have a service link of their own."""
        self._rng = rng
        self._connector = connector
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock
        self._on_session = on_session
        self._kept = {each.id: each for each in kept}
        self._opened: dict[SessionId, KeptSession] = {}
        self._withheld = withheld
        self._may_write = may_write
        self._format = Format(settings.api_format)
        self._met = False
        self.logons = LogonBudget(boot_clock)
        """How often the account was logged on to; `logon` keeps to it."""
        self.certificate: tuple[str, datetime | None] | None = None
        """What the server showed when it was last asked without a logon, whatever it answered:
        the certificate's SHA-256, and until when it is valid. None without TLS."""

    @property
    def kept(self) -> tuple[SessionId, ...]:
        """The sessions that earlier processes left, as far as their tokens are known."""
        return tuple(self._kept)

    async def service_root(self) -> ServiceRoot:
        """Read what the service shows without a logon; changes nothing.

        Source: GET /api/ needs no authentication.

        Raises:
            EnterpriseManagerError: as for any request.
        """
        from orchestrator.em.logon import clock_offset

        require_room(self.server)
        transport = self._transport()
        reading = self._format.reading(Codec.versions)
        try:
            try:
                answer, versions = await transport.send("GET", "/api/", reading)
            except EnterpriseManagerError as exc:
                if not self._format.turns_at(exc):
                    raise
                transport.speak(self._format.codec.media_type)
                answer, versions = await transport.send("GET", "/api/", reading)
            return ServiceRoot(versions=versions, clock_offset_s=clock_offset(answer, transport))
        finally:
            self._met = transport.met
            shown = transport.certificate_sha256
            self.certificate = None if shown is None else (shown, transport.certificate_expires)
            with anyio.CancelScope(shield=True):
                await transport.close()

    async def find_secrets(self) -> bool:
        """Check that the account's secrets can be found, without using them; True if so.

        Raises:
            CredentialError: one cannot.
        """
        await self._account()
        return True

    async def _account(self) -> tuple[str, str]:
        username = await resolve(self._settings.username, withheld=self._withheld)
        return username, await resolve(self._settings.password, withheld=self._withheld)

    @asynccontextmanager
    async def logon(self) -> AsyncIterator[Session]:
        """Open a session; leaving the context logs off, shielded and bounded.

        With a lost fence it sends no logoff: the session is its successor's.

        At most 6 logons are sent in any 10 minutes, and at most 2 that repeat one whose answer
        was lost; before one that does, the service is asked without the account.

        Raises:
            Fenced: another worker serves the server now. Nothing was sent.
            LogonTooSoon: none may be sent now; it says for how long. Nothing was sent.
            EnterpriseManagerError, CredentialError: as `ports.EnterpriseManager` says.
        """
        from orchestrator.em.logon import logged_on

        await self.fence.until_sure()  # before it counts as sent
        require_room(self.server)
        self.logons.require(self.server)
        username, password = await self._account()
        transport = self._transport()
        opening = logged_on(
            transport,
            self._format,
            username=username,
            password=password,
            api_version=self._settings.api_version,
            collections=self._collections,
            budget=self.logons,
        )
        async with self._used(transport, opening) as session:
            self._opened[session.id] = session.kept
            self._on_session(session)
            yield session

    @asynccontextmanager
    async def take_up(self, session: SessionId) -> AsyncIterator[Session]:
        """Use a session again that was kept, or opened here; leaving the context logs off.

        Raises:
            SessionLost: the server has forgotten it, or nobody knows its token.
            Fenced: another worker serves the server now.
            EnterpriseManagerError: the server cannot be asked.
        """
        from orchestrator.em.logon import taken_up

        kept = self._kept.get(session) or self._opened.get(session)
        if kept is None:
            raise SessionLost("this session was not kept", server=self.server)
        require_room(self.server)
        transport = self._transport()
        async with self._used(transport, taken_up(transport, self._format, kept)) as again:
            yield again

    async def log_off(self, kept: KeptSession) -> None:
        """End a session in which nothing is open, within a time limit and with any answer.

        Safe to repeat.
        """
        from orchestrator.em.logon import logged_off_again

        transport = self._transport()
        try:
            await logged_off_again(transport, self._format, kept)
        finally:
            with anyio.CancelScope(shield=True):
                await transport.close()

    @asynccontextmanager
    async def _used(
        self, transport: Transport, opening: AbstractAsyncContextManager[OpenedSession]
    ) -> AsyncIterator[Session]:
        """Yield the session that `opening` gives, until it is left; then close everything."""
        from orchestrator.em.requests import SessionRequests
        from orchestrator.em.session import Session

        try:
            async with opening as opened:
                session = Session(
                    SessionRequests(transport, self._format.settled, opened.kept.guid),
                    self._format.codec,
                    opened,
                    self._settings.api_version,
                    may_write=self._may_write,
                )
                try:
                    yield session
                finally:
                    session.end()
        finally:
            self._met = transport.met
            with anyio.CancelScope(shield=True):
                await transport.close()

    def _transport(self) -> Transport:
        from orchestrator.em.transport import Transport

        make: Callable[..., Transport] = Transport
        if not isinstance(self.fence, NoFence):
            from orchestrator.em.fencing import FencedTransport

            make = partial(FencedTransport, fence=self.fence)
        transport = make(
            self.server,
            self._settings.url,
            self._settings.trust,
            rng=self._rng,
            media_type=self._format.codec.media_type,
            connector=self._connector,
            wall_clock=self._wall_clock,
            boot_clock=self._boot_clock,
        )
        transport.met = self._met
        return transport
