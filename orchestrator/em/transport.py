"""One request to one Enterprise Manager: was it sent, what did it answer, what does that mean.

The token goes into a header and nowhere else: no cookies, no redirects, no other host. One
media type in Accept and the same in Content-Type. Bodies are read in chunks under a cap, not
compressed. Mount POSTs go over a connection that is new or was used a moment ago: a stale
one loses the answer of a request that must not be repeated.
"""

from __future__ import annotations

import hashlib
import random
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import aiohttp
import anyio
from yarl import URL

from orchestrator._version import __version__
from orchestrator.em.elements import Reading, is_error, words_of
from orchestrator.em.links import guard
from orchestrator.em.shortage import exhausted, is_shortage
from orchestrator.em.tls import certificate_expires, peer_certificate, ssl_argument
from orchestrator.errors import (
    AccessDenied,
    CertificateRefused,
    EnterpriseManagerError,
    LogonRefused,
    MalformedResponse,
    NotFound,
    PageNotFound,
    RequestNotSent,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
    SessionLost,
)
from orchestrator.model import ServerName
from orchestrator.plan.settings import Trust

T = TypeVar("T")

CONNECTIONS: Final = 6
"""Kept connections per server for everything but mount POSTs: TLS costs 0.3 MB each."""

KEPT_S: Final = 60.0
"""An idle connection is kept this long; HTTP.sys closes it after about 120 s."""

FRESH_S: Final = 2.0
"""A mount POST uses a connection no older than this since its last use."""

CHUNK: Final = 64 * 1024
SMALL: Final = 1024 * 1024
LARGE: Final = 64 * 1024 * 1024
"""Caps on answers, in bytes: single things, and lists."""

RETRIES: Final = 2
MAX_RETRY_AFTER: Final = 300.0
SHORTEST_SECRET: Final = 4
"""Characters; leaving out anything shorter would tell more of it than it hides."""
NOT_ACTED_ON: Final = frozenset({501, 503, 505})
"""Server errors that say that a request was not even begun; the others leave it in doubt."""
TASK_OF_ANOTHER_SESSION: Final = "There is no backup task"
"""How the server's HTTP 500 for an unknown task begins. Source: reference 5.3."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits of one kind of request, in seconds."""

    total: float
    silence: float

    def as_timeout(self) -> aiohttp.ClientTimeout:
        """Return aiohttp's form; `connect` would count waiting for a pool slot, so it is unset."""
        return aiohttp.ClientTimeout(
            total=self.total, connect=None, sock_connect=15.0, sock_read=self.silence
        )


READ = Patience(120.0, 60.0).as_timeout()
LIST = Patience(300.0, 60.0).as_timeout()
POST = Patience(180.0, 120.0).as_timeout()
"""A mount POST answers at once, unless the service queues it behind others."""
FILE = Patience(4 * 3600.0, 120.0).as_timeout()
"""A download lasts as long as its size asks for; the plan's limit of the phase bounds it."""
UNMOUNT = Patience(300.0, 300.0).as_timeout()
"""An unmount works synchronously, so its silence is work. Source: reference 6.1."""

ConnectorFactory = Callable[..., aiohttp.BaseConnector]
"""Makes a connector from aiohttp's keyword arguments; the simulator brings its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and headers of an answer whose body has been read."""

    status: int
    headers: Any


class _Connector(aiohttp.TCPConnector):
    """A TCP connector that remembers which certificate the server showed."""

    certificate: bytes | None = None

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await super()._wrap_create_connection(*args, **kwargs)
        self.certificate = peer_certificate(transport) or self.certificate
        return transport, protocol


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
        self._rng = rng
        self.wall_clock = wall_clock
        self.boot_clock = boot_clock
        make = connector or _Connector
        tls = ssl_argument(trust, server)
        self._connector = make(limit=CONNECTIONS, keepalive_timeout=KEPT_S, ssl=tls)
        headers = {
            "Accept": media_type,
            "Accept-Encoding": "identity",
            "User-Agent": f"bulk-restore/{__version__}",
        }
        self._kept = _session(self._connector, headers)
        self._posts = _session(make(limit=1, keepalive_timeout=FRESH_S, ssl=tls), headers)
        self._content_type = {"Content-Type": media_type}
        self._token: dict[str, str] = {}
        self.leave_session_open = False
        """Set when a later process is to take the session up again."""
        self.requests = 0
        self.retries = 0
        self.last_used = boot_clock()
        """When the last request was answered, on the boot clock."""

    @property
    def certificate_sha256(self) -> str | None:
        """SHA-256 of the certificate the server showed, or None without TLS."""
        shown = self._certificate
        return hashlib.sha256(shown).hexdigest() if shown is not None else None

    @property
    def certificate_expires(self) -> datetime | None:
        """Until when that certificate is valid."""
        shown = self._certificate
        return certificate_expires(shown) if shown is not None else None

    @property
    def _certificate(self) -> bytes | None:
        found: bytes | None = getattr(self._connector, "certificate", None)
        return found

    def use_token(self, token: str | None) -> None:
        """Send `token` with every request from now on, or none."""
        self._token = {"X-RestSvcSessionId": token} if token is not None else {}

    async def close(self) -> None:
        """Close all connections."""
        await self._kept.close()
        await self._posts.close()

    async def get(
        self,
        target: str,
        reading: Callable[[], Reading[T]],
        *,
        cap: int = SMALL,
        timeout: aiohttp.ClientTimeout = READ,
    ) -> T:
        """Read `target` (path and query); repeated a little where the answer was lost.

        Raises:
            EnterpriseManagerError: as `errors` says; 500 counts as a refusal in the end.
        """
        for attempt in range(RETRIES + 1):
            try:
                return (await self.send("GET", target, reading, cap=cap, timeout=timeout))[1]
            except (ResponseLost, RequestRefused) as exc:
                worth = isinstance(exc, ResponseLost) or exc.status == 500
                if isinstance(exc, NotFound) or not worth or attempt == RETRIES:
                    raise
            self.retries += 1
            await anyio.sleep(self._rng.uniform(0.1, 0.3) * 2**attempt)
        raise AssertionError("unreachable")

    async def send(
        self,
        method: str,
        target: str,
        reading: Callable[[], Reading[T]],
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        cap: int = SMALL,
        timeout: aiohttp.ClientTimeout = READ,
        mount_post: bool = False,
    ) -> tuple[Answer, T]:
        """Send one request, once, and read its answer; an empty one reads as nothing.

        Raises:
            ForbiddenAction: not on the allow-list; nothing was sent.
            SessionLost: this transport is closed; nothing was sent.
            RequestNotSent: no connection was made; nothing was sent.
            ResponseLost: it was sent, or may have been, and the answer is lost.
            EnterpriseManagerError: what the answer means.
        """
        guard(method, target)
        request = f"{method} {target.partition('?')[0]}"
        if self._kept.closed:
            raise SessionLost("the logon session is over", server=self.server, request=request)
        every = {**self._token, **(headers or {})}
        if body is not None:
            every.update(self._content_type)
        http = self._posts if mount_post else self._kept
        self.requests += 1
        try:
            async with http.request(
                method,
                URL(self._base + target, encoded=True),
                data=body,
                headers=every,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                self.last_used = self.boot_clock()
                value = await self._read(
                    response, request, reading, cap, _secrets(every), mount_post=mount_post
                )
                return Answer(response.status, response.headers), value
        except EnterpriseManagerError as exc:
            exc.server, exc.request = self.server, request
            raise
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise _translated(exc, self.server, request) from None

    async def stream(self, target: str, take: Callable[[bytes], None], *, limit: int) -> int:
        """Hand over the body of `target` as it comes, up to `limit` bytes; return its size.

        What `take` raises comes out as it is, and the connection is closed.

        Raises:
            MalformedResponse: it is larger, or no file at all (another success than 200).
            ResponseLost: it ended before its own Content-Length.
            EnterpriseManagerError: as `send`.
        """
        counted = _Counted(take)
        try:
            answer, _ = await self.send("GET", target, lambda: counted, cap=limit, timeout=FILE)
        except _TakerFailed as exc:
            raise exc.error from None
        if answer.status != 200:
            raise MalformedResponse(
                f"{self.server} answered with {answer.status} in place of a file",
                server=self.server,
                request=f"GET {target.partition('?')[0]}",
                status=answer.status,
            )
        return counted.size

    async def _read(
        self,
        response: aiohttp.ClientResponse,
        request: str,
        reading: Callable[[], Reading[T]],
        cap: int,
        secrets: Sequence[str],
        *,
        mount_post: bool,
    ) -> T:
        status = response.status
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise MalformedResponse(f"{self.server} compressed an answer; it was not asked to")
        if status == 204 or (status == 200 and response.method == "DELETE"):
            return None  # type: ignore[return-value]  # nothing to read, and nobody asks
        if status not in {200, 201, 202}:
            body = await _collected(response, SMALL)
            raise _error(
                self.server,
                request,
                status,
                words_of(body, secrets),
                retry_after(response.headers.get("Retry-After"), self._now_of(response)),
                has_token=bool(self._token),
                mount_post=mount_post,
                is_page=not is_error(body),
            )
        return await _fed(response, reading(), cap)

    def _now_of(self, response: aiohttp.ClientResponse) -> datetime:
        """Return what time the server thinks it is; our own clock may be wrong, or jump."""
        return http_date(response.headers.get("Date", "")) or self.wall_clock()


class _TakerFailed(Exception):
    """Whoever takes a body could not: nothing of the server's, so nobody may translate it."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Counted:
    """A body that somebody else takes; implements `Reading`."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self.size = 0

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        try:
            self._take(chunk)
        except Exception as exc:
            raise _TakerFailed(exc) from exc

    def close(self) -> None:
        return None


def _secrets(headers: Mapping[str, str]) -> Sequence[str]:
    """Return what an error must not repeat, though the server may: pages show what was asked."""
    found = [headers.get("X-RestSvcSessionId", "")]
    _, _, credentials = headers.get("Authorization", "").partition(" ")
    if credentials:
        _, _, password = b64decode(credentials).decode("utf-8", errors="replace").partition(":")
        found += [credentials, password]
    return [secret for secret in found if len(secret) >= SHORTEST_SECRET]


def http_date(text: str) -> datetime | None:
    """Return the moment that a header names, or None if it names none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _session(connector: aiohttp.BaseConnector, headers: dict[str, str]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        auto_decompress=False,
        raise_for_status=False,
        trust_env=False,
        skip_auto_headers=("Content-Type",),
    )


async def _fed(response: aiohttp.ClientResponse, reading: Reading[T], cap: int) -> T:
    """Feed the body to `reading` as it comes, up to `cap` bytes."""
    size = 0
    async for chunk in response.content.iter_chunked(CHUNK):
        size += len(chunk)
        if size > cap:
            response.close()
            raise MalformedResponse(f"the answer is larger than {cap} bytes")
        reading.feed(chunk)
    return reading.close()


async def _collected(response: aiohttp.ClientResponse, cap: int) -> bytes:
    parts = []
    size = 0
    async for chunk in response.content.iter_chunked(CHUNK):
        size += len(chunk)
        if size > cap:
            response.close()
            break
        parts.append(chunk)
    return b"".join(parts)


def _translated(exc: Exception, server: str, request: str) -> EnterpriseManagerError:
    """Return our error for one of aiohttp's, whose own texts may hold credentials.

    Only failures before the connection existed mean "not sent": a reset before the request
    was read and one after it was carried out look the same.
    """
    if isinstance(exc, aiohttp.ServerFingerprintMismatch):
        return CertificateRefused(
            f"{server} shows the certificate {exc.got.hex()}, which the plan does not pin",
            server=server,
            request=request,
        )
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return CertificateRefused(
            f"{server}'s certificate is not trusted: {_reason(exc.certificate_error)}; name its "
            "`ca_file` or `fingerprint_sha256` under `tls`",
            server=server,
            request=request,
        )
    if isinstance(exc, aiohttp.ClientConnectorError):
        if is_shortage(exc.os_error):
            return exhausted(exc.os_error, server, request)
        return RequestNotSent(
            f"{server} cannot be reached: {_reason(exc.os_error)}", server=server, request=request
        )
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return RequestNotSent(
            f"{server} cannot be reached: no connection within 15 s",
            server=server,
            request=request,
        )
    what = "no answer in time" if isinstance(exc, TimeoutError) else type(exc).__name__
    return ResponseLost(
        f"{server} did not answer {request}: {what}", server=server, request=request
    )


def _reason(exc: BaseException) -> str:
    """Return the operating system's or TLS library's words, without addresses or paths."""
    words = getattr(exc, "verify_message", None) or getattr(exc, "strerror", None)
    return str(words) if words else type(exc).__name__


def _error(
    server: str,
    request: str,
    status: int,
    words: str | None,
    pause: float | None,
    *,
    has_token: bool,
    mount_post: bool,
    is_page: bool,
) -> EnterpriseManagerError:
    """Return what a status other than success means. Source: reference section 8."""
    quoted = f": {words!r}" if words else ""
    message = f"{server} answered {request} with {status}{quoted}"
    kind: type[EnterpriseManagerError]
    if status == 401:
        kind = SessionLost if has_token else LogonRefused
    elif status == 403:
        kind = AccessDenied
    elif status == 404:
        kind = PageNotFound if is_page else NotFound
    elif mount_post and status >= 500 and status not in NOT_ACTED_ON:
        kind = ResponseLost
    elif status == 500 and words and words.startswith(TASK_OF_ANOTHER_SESSION):
        kind = NotFound
    elif status in {408, 429, 502, 503, 504}:
        return ServiceBusy(
            message,
            retry_after_s=pause,
            server=server,
            request=request,
            status=status,
            words=words,
        )
    elif 400 <= status <= 599:
        kind = RequestRefused
    else:
        kind = MalformedResponse
    return kind(message, server=server, request=request, status=status, words=words)


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
