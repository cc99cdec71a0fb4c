"""The tokens of a shard's sessions, sealed in the database: with them another worker goes on.

Who ends a session records that before its logoff, and may die between them: a request of its own
that acts late would then find a session in which nobody looks any more. So the tokens of sessions
that are over stay until the shard ends, or another worker has sent the logoff again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from typing import TYPE_CHECKING

import anyio

from orchestrator.app.sites.serving import Serving
from orchestrator.core.errors import DatabaseAway, Fenced, TokenUnusable
from orchestrator.core.model import SessionId
from orchestrator.core.sites import Lease
from orchestrator.core.token import KeptSession, Token
from orchestrator.log import Log

if TYPE_CHECKING:
    from orchestrator.em.session import Session

log = Log(__name__)

AGAIN_S = 1.0

LogOff = Callable[[KeptSession], Awaitable[None]]
"""Sends a logoff, within a time limit and with any answer."""


class KeptTokens:
    """Seals and stores the tokens of one shard."""

    def __init__(
        self,
        serving: Serving,
        lease: Lease,
        *,
        on_fenced: Callable[[], None],
    ) -> None:
        """Without a key nothing is stored, and nothing is found.

        `on_fenced` is called at once when the database says that another worker has the lease.
        """
        self._serving, self._lease, self._on_fenced = serving, lease, on_fenced
        self.known: frozenset[SessionId] = frozenset()
        """The sessions whose tokens earlier workers have stored, whoever can open them."""
        self._to_keep: dict[SessionId, KeptSession] = {}
        self.ended: dict[SessionId, KeptSession] = {}
        """Sessions that are over by what is recorded: they are logged off again."""
        self._to_drop: list[SessionId] = []
        self._woken = anyio.Event()
        self._stored = anyio.Event()
        self._stored.set()

    async def usable(self, over: Container[SessionId]) -> Sequence[KeptSession]:
        """Return the sessions that earlier workers have stored, as far as this key opens them.

        Those that are `over` by what is recorded are not among them: see `ended`.

        Raises:
            Fenced: another worker has the lease.
            DatabaseAway: try again.
        """
        sealer, lease = self._serving.sealer, self._lease
        database, worker = self._serving.database, self._serving.worker.worker
        sealed = await database.tokens(worker, lease)
        self.known = frozenset(each.session for each in sealed)
        if sealer is None:
            return []
        from orchestrator.database.sealing import Binding

        found: list[KeptSession] = []
        for each in sealed:
            binding = Binding(
                run=lease.run, server=lease.server, session=each.session, epoch=each.epoch
            )
            try:
                guid, token = sealer.open(each.sealed, binding).decode().split("\n")
            except (TokenUnusable, ValueError) as exc:
                log.warning("token.unusable", server=lease.server, why=str(exc))
            else:
                kept = KeptSession(guid=Token(guid), token=Token(token))
                if each.session in over:
                    self.ended[each.session] = kept
                else:
                    found.append(kept)
        return found

    def keep(self, session: Session) -> None:
        """Store the token of a new session, soon: no mount is asked for before it is stored."""
        if self._serving.sealer is not None:
            self._to_keep[session.id] = session.kept
            self._stored = anyio.Event()
            self._woken.set()

    def give_up(self) -> None:
        """Let nobody wait any more: another worker has the lease."""
        self._stored.set()

    async def stored(self) -> None:
        """Return when every token that was kept is in the database, or never will be."""
        await self._stored.wait()

    async def serve(self, log_off: LogOff) -> None:
        """Store what is kept, and end what is over with `log_off`, until cancelled.

        Raises:
            Fenced: another worker has the lease.
        """
        async with anyio.create_task_group() as tasks:
            for session in self.ended.values():
                tasks.start_soon(self._end, session, log_off)
            while True:
                await self._woken.wait()
                self._woken = anyio.Event()
                await self.settle()

    async def _end(self, session: KeptSession, log_off: LogOff) -> None:
        """Log off from a session that is over, with any answer, and drop its token."""
        await log_off(session)
        self._to_drop.append(session.id)
        self._woken.set()

    async def settle(self) -> None:
        """Store and drop what is to be, however long the database is away.

        Raises:
            Fenced: another worker has the lease.
        """
        while self._to_keep or self._to_drop:
            try:
                await self._settle_now()
            except DatabaseAway:
                await anyio.sleep(AGAIN_S)
            except Fenced:
                self._on_fenced()  # before anything is cleaned up because of this error
                raise
        self._stored.set()

    async def _settle_now(self) -> None:
        from orchestrator.database.sealing import Binding

        database, worker = self._serving.database, self._serving.worker.worker
        lease, sealer = self._lease, self._serving.sealer
        for session, kept in list(self._to_keep.items()):
            binding = Binding(
                run=lease.run, server=lease.server, session=session, epoch=lease.epoch
            )
            secret = f"{kept.guid.reveal()}\n{kept.token.reveal()}".encode()
            assert sealer is not None  # noqa: S101 - nothing is kept without one
            await database.keep_token(worker, lease, session, sealer.seal(secret, binding))
            del self._to_keep[session]
        self._stored.set()
        for session in list(self._to_drop):
            await database.drop_token(worker, lease, session)
            self._to_drop.remove(session)
