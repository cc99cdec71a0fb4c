"""The meaning of an answer other than success, and whether the service itself wrote it.

A request that acts (a mount, an unmount, a staging, a write into a guest, a logon, a logoff) has
three outcomes: done, not begun, in doubt. It was not begun only where the service itself says so:
by its Error in XML, its error in JSON, or a page of the operating system that serves it. Whoever
stands in front of the service may answer anything after the service has acted, with any status.

Of a read, the service's own words say what there is; a page says nothing about the thing.
Source: reference sections 8 and 18.1, traps 44, 45, 49 and 50.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from msgspec import Struct

from orchestrator.core.errors import (
    AccessDenied,
    AnsweredByPage,
    EnterpriseManagerError,
    LogonRefused,
    MalformedResponse,
    NotFound,
    PageNotFound,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
    SessionLost,
)
from orchestrator.em.elements import BOM, is_page
from orchestrator.em.error_bodies import is_error

MAX_RETRY_AFTER: Final = 300.0
NOT_ACTED_ON: Final = frozenset({501, 503, 505})
"""Server errors that say that a request was not even begun; the others leave it in doubt."""
BUSY: Final = frozenset({408, 429, 502, 503, 504})
TASK_OF_ANOTHER_SESSION: Final = "There is no backup task"
"""How the server's HTTP 500 for an unknown task begins. Source: reference 5.3."""


class RequestFacts(Struct, frozen=True, kw_only=True):
    """What is known of a request whose answer is judged.

    `acts`: it changes something on the server. `starts_work`: it starts what must not be started
    twice, so that an internal error of the service leaves it in doubt, too.
    """

    server: str
    request: str
    acts: bool
    starts_work: bool = False
    has_token: bool = True


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """An answer other than success; `words` are safe to show."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    words: str | None
    now: datetime

    @property
    def is_own(self) -> bool:
        """True if the service itself wrote the answer: its Error in XML, or its error in JSON."""
        return is_error(self.body)

    @property
    def is_believed(self) -> bool:
        """True if the service wrote the answer, or the system in front of it while it is stopped.

        A 401 is often empty: there the challenge is the service's own, or the header that only
        its system sends.
        """
        if self.is_own:
            return True
        of_system = self.headers.get("Server", "").lower().startswith("microsoft-httpapi")
        if self.status == 401 and not self.body.strip():
            return of_system or "restsvc" in self.headers.get("WWW-Authenticate", "").lower()
        return of_system and is_page(self.body)

    @property
    def is_of_another_service(self) -> bool:
        """True if it is what another port or service would answer to a request it does not know.

        A proxy whose service is down answers with 5xx; that is an outage.
        """
        if self.is_believed or self.status in BUSY:
            return False
        moved = 300 <= self.status < 400 or self.status in {404, 405}
        return moved or self.body.removeprefix(BOM).lstrip()[:1] in {b"{", b"["}

    @property
    def wants_certificate(self) -> bool:
        """True if a proxy demands a client certificate, as nginx does with 400."""
        return self.status in {400, 403, 496} and "ssl certificate" in (self.words or "").lower()


def meaning(asked: RequestFacts, said: ErrorAnswer) -> EnterpriseManagerError:
    """Return what the answer means for the caller."""
    kind = _kind(asked, said)
    quoted = f": {said.words!r}" if said.words else ""
    whose = "" if said.is_believed else ", which is not its own answer"
    message = f"{asked.server} answered {asked.request} with {said.status}{quoted}{whose}"
    if kind is LogonRefused:
        message += _between(said.headers)
    error = kind(
        message,
        server=asked.server,
        request=asked.request,
        status=said.status,
        words=said.words,
    )
    if isinstance(error, ServiceBusy):
        error.retry_after_s = retry_after(said.headers.get("Retry-After"), said.now)
    return error


def _between(headers: Mapping[str, str]) -> str:
    """Return what a proxy may have to do with a refused logon. Source: trap 53."""
    if "Via" not in headers and "X-Squid-Error" not in headers:
        return ""
    return (
        "; a proxy is in between, which may have removed the account from the request (Squid does "
        "without login=PASSTHRU)"
    )


def _kind(asked: RequestFacts, said: ErrorAnswer) -> type[EnterpriseManagerError]:
    status = said.status
    if status == 401 and not asked.has_token:
        return LogonRefused  # whoever says it: accounts lock
    if asked.acts and not said.is_believed:
        return ResponseLost
    if not 400 <= status <= 599:
        return ResponseLost if asked.acts else MalformedResponse
    if asked.starts_work and status >= 500 and status not in NOT_ACTED_ON:
        return ResponseLost
    if status == 404 and not said.is_own:
        return PageNotFound  # the system says so of everything while the service is stopped
    if status in BUSY:
        return ServiceBusy
    if not said.is_believed:
        return AnsweredByPage
    return _refusal(said)


def _refusal(said: ErrorAnswer) -> type[EnterpriseManagerError]:
    """Return what the service's own refusal means."""
    if said.status == 401:
        return SessionLost
    if said.status == 403:
        return AccessDenied
    unknown_task = (said.words or "").startswith(TASK_OF_ANOTHER_SESSION)
    if said.status == 404 or (said.status == 500 and said.is_own and unknown_task):
        return NotFound
    return RequestRefused


def http_date(text: str) -> datetime | None:
    """Return the moment that a header names, or None if it names none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the pause in seconds that a Retry-After header asks for: 0 to 300, or None.

    Takes seconds or an HTTP date; anything else is as good as absent.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        wanted = http_date(text)
        if wanted is None:
            return None
        seconds = (wanted - now).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
