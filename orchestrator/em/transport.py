"""One request to one Enterprise Manager: whether it was sent, its answer, and the meaning.

The token goes into a header and nowhere else: no cookies, no redirects, no other host. One
media type in Accept and the same in Content-Type. Bodies are read in chunks under a cap, not
compressed. Mount POSTs go over a connection that is new or was used a moment ago: a stale
one loses the answer of a request that must not be repeated.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import aiohttp
import anyio
from aiohttp import hdrs
from msgspec import Struct
from yarl import URL

from orchestrator.core.errors import (
    AddressUnusable,
    EmptyAnswer,
    EnterpriseManagerError,
    ForeignAnswer,
    MalformedResponse,
    RequestRefused,
    ResponseLost,
    SessionLost,
)
from orchestrator.core.model import ServerName
from orchestrator.core.version import __version__
from orchestrator.em import limits
from orchestrator.em.bodies import CountedBody, TakerFailed, feed_body, read_body
from orchestrator.em.connector import Connector, Lending, http_session
from orchestrator.em.deadlines import Deadlines
from orchestrator.em.elements import Reading
from orchestrator.em.error_bodies import is_answer, words_of
from orchestrator.em.links import guard, shown_path
from orchestrator.em.masking import AnswerMasks
from orchestrator.em.meanings import ErrorAnswer, RequestFacts, http_date, meaning
from orchestrator.em.posting import PostConnector
from orchestrator.em.tls import (
    certificate_expires,
    handshake_words,
    ssl_argument,
)
from orchestrator.em.unanswered import translated
from orchestrator.plan.file.access import Trust

T = TypeVar("T")

TOKEN: Final = "X-RestSvcSessionId"  # noqa: S105 - the name of a header, no secret
"""The header that carries the token, in either direction."""

ConnectorFactory = Callable[..., aiohttp.BaseConnector]
"""Makes a connector from aiohttp's keyword arguments; the simulator brings its own."""


class Answer(Struct, frozen=True):
    """Status and headers of an answer whose body has been read."""

    status: int
    headers: Any


_FAILURES: Final = (
    EnterpriseManagerError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    ValueError,
    RuntimeError,
)
"""What a request may raise."""

_UNTYPED: Final = ("Content-Type",)
"""What aiohttp adds to a POST without a body, unless it is told not to."""

CLOSED_UNREAD = "Connection closed."
"""What aiohttp (3.14) says of a body whose connection ended before the body was asked for."""


class Transport:
    """Requests to one server. One object per logon session; close it with `close()`."""

    def __init__(
        self,
        server: ServerName,
        base: str,
        trust: Trust,
        *,
        rng: random.Random,
        media_type: str,
        connector: ConnectorFactory | None = None,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        boot_clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        """`base` is scheme, host and port; only https is spoken.

        `boot_clock` gives seconds and goes on while this machine is suspended, as the server's
        clock does.

        Raises:
            CertificateRefused: the CA file cannot be read.
        """
        self.server = server
        self._base = base
        self._root = URL(base, encoded=True)
        self._rng = rng
        self.wall_clock = wall_clock
        self.boot_clock = boot_clock
        make = connector or Connector
        tls = ssl_argument(trust, server)
        self._connector = make(limit=limits.CONNECTIONS, keepalive_timeout=limits.KEPT_S, ssl=tls)
        headers = {
            "Host": self._root.host_port_subcomponent or "",
            "Accept": media_type,
            "Accept-Encoding": "identity",
            "User-Agent": f"bulk-restore/{__version__}",
        }
        self._deadlines = Deadlines()
        self._kept = http_session(self._lending(self._connector), headers)
        alone = make(limit=1, keepalive_timeout=limits.FRESH_S, ssl=tls)
        posts = PostConnector(self._connector, alone)
        self._posts = http_session(self._lending(posts), headers)
        self._posts._retry_connection = False  # noqa: SLF001 - nothing public keeps aiohttp (3.14) from sending a DELETE twice
        self.media_type = media_type
        """Of the bodies that are sent."""
        self._has_token = False
        self._secrets: set[str] = set()
        self._asked_for: set[str] = set()
        self._masks = AnswerMasks(())
        self.met = False
        """Whether the service itself has answered here before; then no mistake of the plan's is
        to blame for what a stranger says."""
        self.leave_session_open = False
        """Set when a later process is to take the session up again."""
        self.requests = 0
        self.retries = 0
        self.last_used = boot_clock()
        """When the last request was answered, on the boot clock."""

    def _lending(self, connector: aiohttp.BaseConnector) -> Lending:
        """Return what lends the connections of `connector` to requests."""
        return Lending(connector, self._deadlines.heard)

    @property
    def certificate_sha256(self) -> str | None:
        """SHA-256 of the certificate the server showed, or None without TLS."""
        shown = self._certificate
        return hashlib.sha256(shown).hexdigest() if shown is not None else None

    @property
    def endpoints(self) -> frozenset[str]:
        """IP addresses and ports where the server answers; empty if that is not known."""
        found: frozenset[str] = getattr(self._connector, "endpoints", frozenset())
        return found

    @property
    def certificate_expires(self) -> datetime | None:
        """Until when that certificate is valid."""
        shown = self._certificate
        return certificate_expires(shown) if shown is not None else None

    @property
    def _certificate(self) -> bytes | None:
        found: bytes | None = getattr(self._connector, "certificate", None)
        return found

    def speak(self, media_type: str) -> None:
        """Ask for `media_type` from now on, and send bodies of it: always the same of both.

        Source: reference 1.3, rule 3.
        """
        for http in (self._kept, self._posts):
            http.headers["Accept"] = media_type
        self.media_type = media_type

    def use_token(self, token: str | None) -> None:
        """Send `token` with every request from now on, or none."""
        self._has_token = token is not None
        for http in (self._kept, self._posts):
            http.headers.popall(TOKEN, None)
            if token is not None:
                http.headers[TOKEN] = token
        if token is not None:
            self.hide(token)

    def hide(self, secret: str, *, unless_asked_for: bool = False) -> None:
        """Mask `secret` in every body before it is read, and in every error.

        With `unless_asked_for` it is left in what only lists logon sessions, and shows none.
        """
        (self._asked_for if unless_asked_for else self._secrets).add(secret)
        self._masks = AnswerMasks(self._secrets, self._asked_for)

    async def close(self) -> None:
        """Close all connections."""
        self._deadlines.close()
        await self._kept.close()
        await self._posts.close()

    async def get(
        self,
        target: str,
        reading: Callable[[], Reading[T]],
        *,
        cap: int = limits.SMALL,
        timeout: limits.Patience = limits.READ,
        shows_sessions: bool = False,
    ) -> T:
        """Read `target` (path and query); repeated a little where the answer was lost.

        So are a page in place of an answer, and an answer without a body.

        Raises:
            EnterpriseManagerError: as `errors` says; 500 counts as a refusal in the end.
        """
        for attempt in range(limits.RETRIES + 1):
            try:
                _, value = await self.send(
                    "GET",
                    target,
                    reading,
                    cap=cap,
                    timeout=timeout,
                    shows_sessions=shows_sessions,
                )
            except (ResponseLost, EmptyAnswer, RequestRefused) as exc:
                if attempt == limits.RETRIES or (
                    isinstance(exc, RequestRefused) and not exc.is_internal
                ):
                    raise
            else:
                return value
            self.retries += 1
            await anyio.sleep(self._rng.uniform(0.1, 0.3) * 2**attempt)
        raise AssertionError("unreachable")

    async def send(
        self,
        method: str,
        target: str,
        reading: Callable[[], Reading[T]],
        *,
        body: bytes | aiohttp.BytesPayload | None = None,
        headers: dict[str, str] | None = None,
        cap: int = limits.SMALL,
        timeout: limits.Patience = limits.READ,
        mount_post: bool = False,
        never_again: bool = False,
        shows_sessions: bool = False,
    ) -> tuple[Answer, T]:
        """Send one request, once, and read its answer; that of a DELETE may be None.

        Without `never_again` aiohttp sends a DELETE twice if its connection breaks. Every secret
        is masked in what is read; with `shows_sessions` the session's own id is left.

        Raises:
            ForbiddenAction: not on the allow-list; nothing was sent.
            SessionLost: this transport is closed; nothing was sent.
            RequestNotSent: no connection was made; nothing was sent.
            ResponseLost: it was sent, or may have been, and the answer is lost; or it acts, and
                the answer is not the service's own.
            EnterpriseManagerError: what the answer means.
        """
        guard(method, target)
        asked = partial(self._facts, method, target, mount_post, self._has_token)
        if self._kept.closed:
            raise _is_over(asked())
        if isinstance(body, bytes):
            body = aiohttp.BytesPayload(body, content_type=self.media_type)
        http = self._posts if mount_post or never_again else self._kept
        self.requests += 1
        try:
            with self._deadlines.within(timeout.total, timeout.silence):
                response = await http.request(
                    method,
                    self._url(target),
                    data=body,
                    headers=headers,
                    skip_auto_headers=_UNTYPED if body is None and method == "POST" else None,
                    allow_redirects=False,
                )
                try:
                    self.last_used = self.boot_clock()
                    value = await self._read(
                        response, asked, reading, cap, shows_sessions=shows_sessions
                    )
                finally:
                    if not response.closed:  # by its end
                        response.close()
            self.met = True
            return Answer(response.status, response.headers), value
        except _FAILURES as exc:
            error = self._meant(exc, asked())
            if error is exc:
                raise
            raise error from None

    def _meant(self, exc: Exception, asked: RequestFacts) -> Exception:
        """Return what an error of a request means for the caller; a bug is itself."""
        if isinstance(exc, MalformedResponse):
            is_foreign = isinstance(exc, ForeignAnswer)
            unmet = self._unmet(asked, "a page or document of its own") if is_foreign else None
            return unmet or _in_place(exc, asked)
        if isinstance(exc, EnterpriseManagerError):
            exc.server, exc.request = self.server, asked.request
            return exc
        if isinstance(exc, RuntimeError):
            if str(exc) != CLOSED_UNREAD:
                return exc
            exc = ConnectionResetError()
        return self._translated(exc, asked.request)

    def _url(self, target: str) -> URL:
        """Return the address of a target, as it is; without a query it is nearly there."""
        if "?" in target or "#" in target:
            return URL(self._base + target, encoded=True)
        return self._root.with_path(target, encoded=True)

    def _facts(
        self,
        method: str,
        target: str,
        starts_work: bool,
        has_token: bool,
    ) -> RequestFacts:
        """Return the words for a request; only an answer that is no success needs them."""
        return RequestFacts(
            server=self.server,
            request=f"{method} {shown_path(target)}",
            acts=method != "GET",
            starts_work=starts_work,
            has_token=has_token,
        )

    async def stream(self, target: str, take: Callable[[bytes], None], *, limit: int) -> int:
        """Hand over the body of `target` as it comes, up to `limit` bytes; return its size.

        What `take` raises comes out as it is, and the connection is closed.

        Raises:
            MalformedResponse: it is larger, or no file at all (another success than 200).
            ResponseLost: it ended before its own Content-Length.
            EnterpriseManagerError: as `send`.
        """
        counted = CountedBody(take)
        try:
            answer, _ = await self.send(
                "GET", target, lambda: counted, cap=limit, timeout=limits.FILE
            )
        except TakerFailed as exc:
            raise exc.error from None
        if answer.status != 200:
            raise MalformedResponse(
                f"{self.server} answered with {answer.status} in place of a file",
                server=self.server,
                request=f"GET {shown_path(target)}",
                status=answer.status,
            )
        return counted.size

    async def _read(
        self,
        response: aiohttp.ClientResponse,
        asked: Callable[[], RequestFacts],
        reading: Callable[[], Reading[T]],
        cap: int,
        *,
        shows_sessions: bool,
    ) -> T:
        status, masks = response.status, self._masks
        if not self._has_token and (told := response.headers.get(TOKEN)) is not None:
            masks = AnswerMasks({*self._secrets, told})
        encoding = response.headers.get(hdrs.CONTENT_ENCODING)
        if encoding is not None and encoding.lower() != "identity":
            raise MalformedResponse(f"{self.server} compressed an answer; it was not asked to")
        if response.method == "DELETE" and status in {200, 204}:
            body = await read_body(response, limits.SMALL, self._deadlines.heard)
            if not is_answer(body):
                raise MalformedResponse(f"{self.server} answered {asked().request} with a page")
            return None  # type: ignore[return-value]  # nothing to read, and nobody asks
        if status not in {200, 201, 202, 204}:
            body = await read_body(response, limits.SMALL, self._deadlines.heard)
            said = ErrorAnswer(
                status=status,
                headers=response.headers,
                body=body,
                words=words_of(masks.in_errors.apply(body)),
                now=self._now_of(response),
            )
            self.met = self.met or said.is_believed
            foreign = said.is_of_another_service or said.wants_certificate
            answered = f"{status}{f': {said.words!r}' if said.words else ''}"
            raise (foreign and self._unmet(asked(), answered)) or meaning(asked(), said)
        hidden = masks.of(shows_sessions=shows_sessions)
        return await feed_body(response, reading(), hidden, cap, self._deadlines.heard)

    def _unmet(self, asked: RequestFacts, answered: str) -> AddressUnusable | None:
        """Return what it means that another service answered first; None if it was not first."""
        if self.met or asked.has_token:
            return None
        return AddressUnusable(
            f"what answers at {self._base} is not the REST API of Enterprise Manager (it answered "
            f"{asked.request} with {answered}): is the port right? 9398 is the default; 9419 is "
            "the backup server's own API, 9443 the web interface",
            server=self.server,
            request=asked.request,
        )

    def _translated(self, exc: Exception, request: str) -> EnterpriseManagerError:
        """Return our error; a handshake that can never succeed is only one before the first."""
        error = getattr(exc, "os_error", None) or exc.__cause__
        words = handshake_words(error) or handshake_words(exc)
        if words is not None and not self.met and not self._has_token:
            return AddressUnusable(
                f"{self.server} cannot be used: {words}", server=self.server, request=request
            )
        return translated(exc, self.server, request)

    def _now_of(self, response: aiohttp.ClientResponse) -> datetime:
        """Return the server's time; our own clock may be wrong, or jump."""
        return http_date(response.headers.get("Date", "")) or self.wall_clock()


def _is_over(asked: RequestFacts) -> SessionLost:
    return SessionLost("the logon session is over", server=asked.server, request=asked.request)


def _in_place(exc: MalformedResponse, asked: RequestFacts) -> EnterpriseManagerError:
    """Return what an unreadable answer means: a request that changes something may have done so."""
    kind = ResponseLost if asked.acts else type(exc)
    return kind(
        str(exc), server=asked.server, request=asked.request, status=exc.status, words=exc.words
    )
