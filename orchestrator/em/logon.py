"""Where a logon session begins and ends: the token, its GUID, the logoff.

Tasks and mounts live in the session that made them. A 401 on a session that worked means
that it is gone with all of them; nobody logs on again in its name.
Source: reference section 2.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from msgspec import Struct

from orchestrator.core.errors import (
    AccessDenied,
    AddressUnusable,
    CertificateRefused,
    EnterpriseManagerError,
    Fenced,
    LogonRefused,
    MalformedResponse,
    RequestNotSent,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
    SessionLost,
)
from orchestrator.core.token import KeptSession, Token
from orchestrator.em.budget import LogonBudget
from orchestrator.em.format import Format
from orchestrator.em.links import GUID
from orchestrator.em.meanings import http_date
from orchestrator.em.own_session import OwnSession
from orchestrator.em.transport import TOKEN, Answer, Transport
from orchestrator.em.wire import Codec

LOGOFF_GRACE = 1.5
"""Seconds that a logoff may take; the session dies by itself after 15 idle minutes, and who wants
the process to end does not wait longer."""


SIMULATED = "X-Simulated"
"""The header with which a simulated server answers a logon."""

_TOKEN = re.compile(r"[!-~]{1,4096}")
"""What can be sent back in a header as it came."""


class OpenedSession(Struct, frozen=True, kw_only=True):
    """The result of a logon. `collections`: the lower-case paths below /api/ that it may use."""

    kept: KeptSession
    user: str
    collections: frozenset[str]
    clock_offset_s: float | None = None
    simulated: bool = False
    """The server says of itself that it is simulated."""


@asynccontextmanager
async def logged_on(
    transport: Transport,
    form: Format,
    *,
    username: str,
    password: str,
    api_version: str,
    collections: frozenset[str],
    budget: LogonBudget,
) -> AsyncIterator[OpenedSession]:
    """Log on, and log off on the way out (unless it is to stay open), shielded and bounded.

    `collections` are the paths below /api/ that the account must be able to use. Every logon
    is noted in `budget`; one that it does not allow is not sent.

    Raises:
        LogonTooSoon: the account was logged on to often enough for now.
        LogonRefused: the account was refused; never repeated, accounts lock.
        AccessDenied: the account's role does not show a collection that the plan needs.
        EnterpriseManagerError: as for any request.
    """
    budget.require(transport.server)
    if budget.last_was_lost:
        await _see_service(transport, form)
    credentials = b64encode(f"{username}:{password}".encode()).decode("ascii")
    transport.hide(password)
    transport.hide(credentials)
    logon = budget.sent()
    try:
        opened = await _log_on(transport, form, username, credentials, api_version)
    except (CertificateRefused, RequestNotSent, ServiceBusy):
        budget.not_begun(logon)
        raise
    except AddressUnusable as exc:
        await _see_service(transport, form)  # is it really another service?
        raise ResponseLost(str(exc), server=exc.server, request=exc.request) from None
    except (RequestRefused, LogonRefused):
        budget.answered(logon)
        raise
    budget.answered(logon)
    try:
        _use(transport, opened.kept)
        missing = sorted(name for name in collections if name.lower() not in opened.collections)
        if opened.collections and missing:
            raise AccessDenied(
                f"{transport.server}: the account's role does not show {', '.join(missing)}; "
                "File Restore Operator is enough for replicas and backups",
                server=transport.server,
            )
        yield opened
    finally:
        if not transport.leave_session_open:
            await log_off(transport, form, opened.kept.guid)


@asynccontextmanager
async def taken_up(
    transport: Transport, form: Format, kept: KeptSession
) -> AsyncIterator[OpenedSession]:
    """Use a session that an earlier process opened; log off on the way out like `logged_on`.

    Raises:
        SessionLost: the server has forgotten it.
        EnterpriseManagerError: the server cannot be asked; nothing is said of the session.
    """
    _use(transport, kept)
    await _confirm(transport, form, kept)
    try:
        yield OpenedSession(kept=kept, user="", collections=frozenset())
    finally:
        if not transport.leave_session_open:
            await log_off(transport, form, kept.guid)


async def logged_off_again(transport: Transport, form: Format, kept: KeptSession) -> None:
    """End a session that may have been ended before, within a time limit and with any answer."""
    _use(transport, kept)
    await log_off(transport, form, kept.guid)


def _use(transport: Transport, kept: KeptSession) -> None:
    """Send the token from now on, and mask it and the session's id in every answer."""
    transport.hide(kept.guid.reveal(), unless_asked_for=True)
    transport.use_token(kept.token.reveal())


async def _confirm(transport: Transport, form: Format, kept: KeptSession) -> None:
    """Use the session once; only a second 401 of the service's own proves that it is gone."""
    itself = OwnSession(transport, form, kept.guid)
    try:
        await itself.seen()
    except SessionLost:
        await itself.seen()
    except EnterpriseManagerError as exc:
        if not form.turns_at(exc):
            raise
        transport.speak(form.codec.media_type)
        await itself.seen()
    transport.speak(form.codec.media_type)


async def _see_service(transport: Transport, form: Format) -> None:
    """Return if the service itself answers, without an account.

    After a lost logon it is asked first: a proxy that loses every answer would have the same
    account logged on to again and again. Source: GET /api/ needs no authentication; trap 55.

    Raises:
        EnterpriseManagerError: it does not.
    """
    try:
        await transport.send("GET", "/api/", form.reading(Codec.versions))
    except LogonRefused:
        return  # it asks for an account, so it is there
    except RequestRefused as exc:
        if exc.is_internal or isinstance(exc, ServiceBusy):
            raise


async def _log_on(
    transport: Transport, form: Format, username: str, credentials: str, api_version: str
) -> OpenedSession:
    try:
        answer, body = await transport.send(
            "POST",
            f"/api/sessionMngr/?v={api_version}",
            form.reading(Codec.logon),
            body=b"",
            headers={"Authorization": f"Basic {credentials}"},
        )
    except (RequestRefused, ResponseLost) as exc:
        if exc.status == 403 and isinstance(exc, RequestRefused):
            raise LogonRefused(str(exc), server=exc.server, status=403, words=exc.words) from None
        if form.turns_at(exc):
            raise ServiceBusy(
                f"{exc}; it is asked in JSON from now on", server=exc.server, status=exc.status
            ) from None
        raise
    transport.speak(form.codec.media_type)
    token = answer.headers.get(TOKEN)
    guid = body.guid or _guid_in(answer)
    if not token or not _TOKEN.fullmatch(token) or guid is None:
        raise MalformedResponse(
            f"{transport.server} answered the logon without a session; is this the REST API of "
            "Enterprise Manager (port 9398 by default)?",
            server=transport.server,
        )
    return OpenedSession(
        kept=KeptSession(guid=Token(guid), token=Token(token)),
        user=body.user or username,
        collections=body.collections,
        clock_offset_s=clock_offset(answer, transport),
        simulated=SIMULATED in answer.headers,
    )


def _guid_in(answer: Answer) -> str | None:
    """Return the session's GUID from the Location header, if it is there."""
    found = GUID.search(answer.headers.get("Location", "").rpartition("/")[2])
    return found.group().lower() if found else None


def clock_offset(answer: Answer, transport: Transport) -> float | None:
    """Return server time minus ours in seconds, from the Date header, if there is one."""
    theirs = http_date(answer.headers.get("Date", ""))
    return (theirs - transport.wall_clock()).total_seconds() if theirs is not None else None


async def log_off(transport: Transport, form: Format, guid: Token) -> None:
    """End the session, within a time limit and with any answer.

    Addressed by the GUID, not the token. Safe to repeat.
    """
    with anyio.move_on_after(LOGOFF_GRACE, shield=True):
        try:
            await transport.send(
                "DELETE", f"/api/logonSessions/{guid.reveal()}", form.codec.anything
            )
        except (EnterpriseManagerError, Fenced):
            return  # it ends by itself, and nothing is mounted in it any more
