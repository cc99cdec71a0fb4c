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
from dataclasses import dataclass
from typing import NoReturn

import anyio

from orchestrator.em.links import GUID
from orchestrator.em.transport import Answer, Transport, http_date
from orchestrator.em.wire import Codec
from orchestrator.errors import (
    AccessDenied,
    EnterpriseManagerError,
    LogonRefused,
    MalformedResponse,
    RequestRefused,
    SessionLost,
)
from orchestrator.model import SessionId

LOGOFF_GRACE = 10.0
"""Seconds that a logoff may take; the session dies by itself after 15 idle minutes."""


_TOKEN = re.compile(r"[!-~]{1,4096}")
"""What can be sent back in a header as it came."""


class Token:
    """The session token: opaque, secret, shown to nobody."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Keep `value`."""
        self._value = value

    def __repr__(self) -> str:
        """Never the token."""
        return "Token(***)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        """A token is never pickled."""
        raise TypeError("a session token is not pickled")

    def reveal(self) -> str:
        """Return the token, for the request header and the owner-only side file only."""
        return self._value


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSession:
    """A session that an earlier process opened, as its owner-only side file names it."""

    id: SessionId
    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a logon gave. `collections` are the lower-case paths below /api/ it may use."""

    id: SessionId
    token: Token
    user: str
    collections: frozenset[str]
    clock_offset_s: float | None = None


@asynccontextmanager
async def logged_on(
    transport: Transport,
    codec: Codec,
    *,
    username: str,
    password: str,
    api_version: str,
    collections: frozenset[str],
) -> AsyncIterator[Opened]:
    """Log on, and log off on the way out (unless told to leave it), shielded and bounded.

    `collections` are the paths below /api/ that the account must be able to use.

    Raises:
        LogonRefused: the account was refused; never repeated, accounts lock.
        AccessDenied: the account's role does not show a collection that the plan needs.
        EnterpriseManagerError: as for any request.
    """
    opened = await _log_on(transport, codec, username, password, api_version)
    try:
        transport.use_token(opened.token.reveal())
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
            await log_off(transport, codec, opened.id)


@asynccontextmanager
async def taken_up(transport: Transport, codec: Codec, kept: KeptSession) -> AsyncIterator[Opened]:
    """Use a session that an earlier process opened; log off on the way out like `logged_on`.

    Raises:
        SessionLost: the server has forgotten it.
        EnterpriseManagerError: the server cannot be asked; nothing is said of the session.
    """
    transport.use_token(kept.token.reveal())
    await _confirm(transport, codec, kept)
    try:
        yield Opened(id=kept.id, token=kept.token, user="", collections=frozenset())
    finally:
        if not transport.leave_session_open:
            await log_off(transport, codec, kept.id)


async def _confirm(transport: Transport, codec: Codec, kept: KeptSession) -> None:
    """Use the session once; only a second 401 says that it is gone."""
    ask = f"/api/logonSessions/{kept.id}"
    try:
        await transport.send("GET", ask, codec.anything)
    except SessionLost:
        await transport.send("GET", ask, codec.anything)


async def _log_on(
    transport: Transport, codec: Codec, username: str, password: str, api_version: str
) -> Opened:
    credentials = b64encode(f"{username}:{password}".encode()).decode("ascii")
    try:
        answer, body = await transport.send(
            "POST",
            f"/api/sessionMngr/?v={api_version}",
            codec.logon,
            body=b"",
            headers={"Authorization": f"Basic {credentials}"},
        )
    except RequestRefused as exc:
        if exc.status == 403:
            raise LogonRefused(str(exc), server=exc.server, status=403, words=exc.words) from None
        raise
    token = answer.headers.get("X-RestSvcSessionId")
    session = body.session or _session_in(answer)
    if not token or not _TOKEN.fullmatch(token) or session is None:
        raise MalformedResponse(
            f"{transport.server} answered the logon without a session; is this the REST API of "
            "Enterprise Manager (port 9398 by default)?",
            server=transport.server,
        )
    return Opened(
        id=session,
        token=Token(token),
        user=body.user or username,
        collections=body.collections,
        clock_offset_s=clock_offset(answer, transport),
    )


def _session_in(answer: Answer) -> SessionId | None:
    """Return the session's GUID from the Location header, if it is there."""
    found = GUID.search(answer.headers.get("Location", "").rpartition("/")[2])
    return SessionId(found.group().lower()) if found else None


def clock_offset(answer: Answer, transport: Transport) -> float | None:
    """Return server time minus ours in seconds, from the Date header, if there is one."""
    theirs = http_date(answer.headers.get("Date", ""))
    return (theirs - transport.wall_clock()).total_seconds() if theirs is not None else None


async def log_off(transport: Transport, codec: Codec, session: SessionId) -> None:
    """End the session, within a grace and whatever the server says.

    Addressed by the GUID, not the token. Safe to repeat.
    """
    with anyio.move_on_after(LOGOFF_GRACE, shield=True):
        try:
            await transport.send("DELETE", f"/api/logonSessions/{session}", codec.anything)
        except EnterpriseManagerError:
            return  # it ends by itself, and nothing is mounted in it any more
