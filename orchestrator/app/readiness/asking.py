"""One server is asked: the service root, one logon, a handful of reads, the logoff.

No mount is asked for, nothing is deleted but our own session. Each answer stands for itself:
what one question could not learn does not keep the next from being asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import anyio
from msgspec import Struct, field

from orchestrator.core.activity import Activity
from orchestrator.core.errors import (
    AccessDenied,
    AnsweredByPage,
    CertificateRefused,
    OrchestratorError,
    RequestRefused,
    SessionLost,
)
from orchestrator.core.model import RestorePoint, ServerName, SessionId, Source
from orchestrator.core.policy import clock_correction
from orchestrator.core.text import duration
from orchestrator.em.client import Client
from orchestrator.em.facts import BackupServer, OpenSession, ServiceRoot
from orchestrator.em.session import Session
from orchestrator.engine.inventory import gather_once
from orchestrator.plan.choose.inventory import InventoryNeeds, Listing

T = TypeVar("T")


class LoggedOn(Struct, frozen=True, kw_only=True):
    """What the logon answered."""

    session: SessionId
    user: str
    endpoints: frozenset[str] = frozenset()


class ServerAnswers(Struct, kw_only=True):
    """What one server showed: per question an answer, the error, or None if it was not asked."""

    server: ServerName
    sources: tuple[Source, ...]
    root: ServiceRoot | OrchestratorError | None = None
    certificate: tuple[str, datetime | None] | None = None
    """SHA-256 of what it showed there, whatever it answered, and until when that is valid."""
    logon: LoggedOn | OrchestratorError | None = None
    secret: bool | OrchestratorError | None = None
    """Looked for on its own only where no logon was tried."""
    clock_offset_s: float | None = None
    sessions: Sequence[OpenSession] | OrchestratorError | None = None
    backup_servers: Sequence[BackupServer] | OrchestratorError | None = None
    replications: Sequence[Activity] | OrchestratorError | None = None
    restores: Sequence[Activity] | OrchestratorError | None = None
    newest: dict[Source, RestorePoint | OrchestratorError | None] = field(default_factory=dict)
    points: Listing | OrchestratorError | None = None
    mounting: dict[Source, OrchestratorError | None] = field(default_factory=dict)
    """Families whose mounts were asked for, and None where the role may see them."""
    broke_off: OrchestratorError | None = None
    """Why the session ended before every question was asked."""
    patience: float = 0.0
    out_of_patience: bool = False
    """True if `patience` seconds were not enough for all questions."""

    @property
    def listed(self) -> Sequence[RestorePoint]:
        """The restore points that the plan asked for and the server listed."""
        return self.points.points if isinstance(self.points, Listing) else ()

    @property
    def endpoints(self) -> frozenset[str]:
        """Where the server answers; empty if nobody logged on."""
        return self.logon.endpoints if isinstance(self.logon, LoggedOn) else frozenset()

    def clock(self, now: datetime) -> datetime:
        """Return what the server's clock shows when ours shows `now`."""
        return now + timedelta(seconds=clock_correction(self.clock_offset_s))

    def why_not(self, answer: object, otherwise: str = "") -> str:
        """Return why there is no answer: the role, the server's words, or that it was not asked."""
        if isinstance(answer, AccessDenied) or isinstance(self.logon, AccessDenied):
            return "not visible to this role"
        if isinstance(self.root, CertificateRefused):
            return "not asked: the server is not trusted"
        if isinstance(self.root, OrchestratorError) and self.logon is None:
            return "not asked: the server cannot be reached"
        if isinstance(answer, OrchestratorError) and answer is not self.logon:
            return str(answer)
        if isinstance(self.logon, OrchestratorError):
            return "not asked: no logon"
        if self.out_of_patience:
            return f"not asked: the time limit of {duration(self.patience)} was reached"
        return otherwise or "not asked: the logon session ended"


async def look(
    client: Client, needs: InventoryNeeds, sources: Sequence[Source], *, patience: float
) -> ServerAnswers:
    """Ask one server everything, within `patience` seconds and the grace of a logoff."""
    sight = ServerAnswers(server=client.server, sources=tuple(sources), patience=patience)
    with anyio.move_on_after(patience) as scope:
        await _look(client, needs, sight)
    sight.out_of_patience = scope.cancelled_caught
    return sight


async def _look(client: Client, needs: InventoryNeeds, sight: ServerAnswers) -> None:
    try:
        sight.root = await answer_or_error(client.service_root())
    finally:
        sight.certificate = client.certificate
    if isinstance(sight.root, ServiceRoot):
        sight.clock_offset_s = sight.root.clock_offset_s
    elif isinstance(sight.root, AnsweredByPage) or not isinstance(sight.root, RequestRefused):
        sight.secret = await answer_or_error(client.find_secrets())
        return  # unreachable, not trusted, or not this service: no account is sent there
    try:
        async with client.logon() as session:
            session.believe_denials()
            sight.logon = LoggedOn(
                session=session.id, user=session.user, endpoints=session.endpoints
            )
            if session.clock_offset_s is not None:
                sight.clock_offset_s = session.clock_offset_s
            await _read(session, needs, sight)
    except OrchestratorError as exc:
        if sight.logon is None:
            sight.logon = exc
        else:
            sight.broke_off = exc


async def _read(session: Session, needs: InventoryNeeds, sight: ServerAnswers) -> None:
    sight.points = await answer_or_error(gather_once(session, needs))
    for source in sight.sources:
        sight.newest[source] = await answer_or_error(session.newest_point(source))
        await _look_at_mounts(session, source, sight)
    sight.sessions = await answer_or_error(session.open_sessions())
    sight.backup_servers = await answer_or_error(session.backup_servers())
    sight.replications = await answer_or_error(session.replications())
    sight.restores = await answer_or_error(session.restores())


async def _look_at_mounts(session: Session, source: Source, sight: ServerAnswers) -> None:
    """List this session's mounts of some point: a role that may not list may not mount either."""
    known = [point for point in sight.listed if point.source is source]
    newest = sight.newest[source]
    if isinstance(newest, RestorePoint):
        known.append(newest)
    if not known:
        return
    sight.mounting[source] = await answer_or_error(session.see_mounts(known[0].id, source))


async def answer_or_error(question: Awaitable[T]) -> T | OrchestratorError:
    """Return the answer, or the error in its place; a lost session ends the asking.

    Raises:
        SessionLost: no further question would be answered.
    """
    try:
        return await question
    except SessionLost:
        raise
    except OrchestratorError as exc:
        return exc
