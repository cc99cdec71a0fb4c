"""One webhook: its address checked, one POST and its few repetitions.

The address never leaves this module: every failure has words of our own. aiohttp and yarl are
imported with the first webhook: most plans have none.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from functools import cache
from typing import TYPE_CHECKING, Self

import anyio
from msgspec import Struct

from orchestrator.core.text import duration
from orchestrator.core.version import __version__
from orchestrator.plan.file.settings import HookKind

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

LONGEST_ADDRESS = 4096
ANSWER_READ = 1024
"""Bytes of an answer that are looked at, for one word such as `channel_is_archived`."""

_ONE_WORD = re.compile(r"[a-z]+(_[a-z]+)+")

_TEAMS_ERROR = re.compile(
    r"error|fail|exception|invalid|denied|disabled|refused|rejected|throttl|too (?:large|many)"
    r"|not (?:found|allowed|supported|delivered)|bad (?:payload|request)|required",
    re.IGNORECASE,
)
"""What Teams and its workflows answer when they took no message, also with status 200.

Source: Microsoft, Create Incoming Webhooks, rate limiting: "Webhook message delivery failed with
error: Microsoft Teams endpoint returned HTTP error 429 with ContextId ...". A message that was
taken is answered with `1` or nothing.
"""

_TEAMS_STATUS = re.compile(r"HTTP error (\d{3})")


class NotDelivered(Exception):
    """A message did not arrive, or its fate is unknown; the text has the reason, no address."""


class _TryAgain(NotDelivered):
    """It may be tried again, after `pause` seconds if the receiver named any.

    `in_doubt`: it was sent, and may have been taken.
    """

    def __init__(self, why: str, pause: float | None = None, *, in_doubt: bool = False) -> None:
        super().__init__(why)
        self.pause, self.in_doubt = pause, in_doubt


class Patience(Struct, frozen=True, kw_only=True):
    """How long one message may take, in seconds, and how often it is tried."""

    connect: float = 5.0
    answer: float = 10.0
    pauses: tuple[float, ...] = (1.0, 4.0)
    """Before each repetition; a receiver may ask for longer, up to `longest_pause`."""
    longest_pause: float = 10.0


class Webhook:
    """An open webhook. `async with` it; it keeps no connection and no cookie."""

    def __init__(
        self,
        address: str,
        authorities: bytes | None,
        patience: Patience,
        *,
        kind: HookKind = HookKind.GENERIC,
    ) -> None:
        """`address` is the secret; `kind` says how its answers are read.

        `authorities` are certificates (PEM) to trust in place of the system's.

        Raises:
            NotDelivered: it is no address that anything may be posted to.
        """
        import aiohttp

        self._address = _checked(address)
        self._patience = patience
        self._kind = kind
        connector = aiohttp.TCPConnector(ssl=_context(authorities), limit=1, force_close=True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=patience.answer, sock_connect=patience.connect),
            headers={
                "User-Agent": f"bulk-restore/{__version__}",
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
            },
        )

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close what is open."""
        await self._session.close()

    async def post(self, content: bytes) -> None:
        """Deliver one message.

        One that was not taken is repeated. One whose answer was lost may have been taken: a
        program knows it again by its `id`, so it gets it again; people would read it twice.

        Raises:
            NotDelivered: it was refused, nobody took it in the time there is, or nobody can say.
        """
        for pause in (*self._patience.pauses, None):
            try:
                return await self._posted(content)
            except _TryAgain as exc:
                if pause is None or (exc.in_doubt and self._kind is not HookKind.GENERIC):
                    raise NotDelivered(str(exc)) from None
                asked = exc.pause or 0.0
                await anyio.sleep(min(max(pause, asked), self._patience.longest_pause))
        raise AssertionError

    async def _posted(self, content: bytes) -> None:
        import aiohttp

        why: str
        try:
            async with self._session.post(
                self._address, data=content, allow_redirects=False
            ) as answer:
                text = await self._read(answer)
                if self._kind is HookKind.TEAMS and 200 <= answer.status < 300:
                    return _judge_teams(answer.status, text)
                return _judge(answer.status, self._word(text), answer.headers.get("Retry-After"))
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            raise NotDelivered("its certificate is not trusted, or it does not use TLS") from None
        except aiohttp.ConnectionTimeoutError:
            raise _TryAgain("it cannot be reached in time") from None
        except TimeoutError:
            why = f"it did not answer within {duration(self._patience.answer)}"
        except aiohttp.ClientConnectorError as exc:
            number = exc.os_error.errno
            cause = f": {os.strerror(number)}" if number and number > 0 else ""
            raise _TryAgain(f"it cannot be reached{cause}") from None
        except (aiohttp.ClientError, OSError, ValueError):
            why = "the connection broke, or the answer is not HTTP"
        raise _TryAgain(why, in_doubt=True)

    async def _read(self, answer: aiohttp.ClientResponse) -> str:
        """Return the beginning of an answer's body, where anybody reads it."""
        if answer.status < 300 and self._kind is not HookKind.TEAMS:
            return ""
        return (await answer.content.read(ANSWER_READ)).decode("latin-1").strip()

    def _word(self, text: str) -> str:
        """Return the one word that an answer consists of, unless it may be of the address."""
        fits = _ONE_WORD.fullmatch(text) is not None and text not in str(self._address)
        return f" ({text})" if fits else ""


def _judge(status: int, word: str, retry_after: str | None) -> None:
    """Return if a message was taken.

    Raises:
        NotDelivered: it was not.
    """
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise NotDelivered(f"it answered {status}: redirects are not followed")
    if status == 429 or status >= 500:
        asked = re.fullmatch(r"[0-9]{1,6}", retry_after or "")
        pause = float(asked[0]) if asked else None
        raise _TryAgain(f"it answered {status}{word}", pause, in_doubt=status not in {429, 503})
    raise NotDelivered(f"it answered {status}{word}")


def _judge_teams(status: int, text: str) -> None:
    """Return if Teams took a message: a good status alone does not prove it.

    Raises:
        NotDelivered: the body has the text of an error.
    """
    if _TEAMS_ERROR.search(text) is None:
        return
    inner = _TEAMS_STATUS.search(text)
    if inner is None:
        raise NotDelivered(f"it answered {status} with the text of an error")
    error = _TryAgain if inner[1] == "429" else NotDelivered
    raise error(f"it answered {status}, and in the text: HTTP error {inner[1]}")


def _checked(address: str) -> URL:
    """Return the address, if https, or http to this machine, is what it asks for."""
    from yarl import URL

    try:
        url = URL(address, encoded=True)
        host, _port = url.host, url.port
    except ValueError:
        raise NotDelivered("its reference does not lead to an address") from None
    if not address.isprintable() or " " in address or len(address) > LONGEST_ADDRESS or not host:
        raise NotDelivered("its reference does not lead to an address")
    if url.scheme == "http" and _is_here(host):
        return url
    if url.scheme != "https":
        raise NotDelivered("its address must begin with https://")
    return url


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _context(authorities: bytes | None) -> ssl.SSLContext:
    if authorities is None:
        return _system_context()
    text = authorities.decode("ascii", errors="replace")
    try:
        # of an empty text, ssl would make the system's authorities
        return ssl.create_default_context(cadata=text or "none")
    except (OSError, ValueError):  # ssl.SSLError among them
        raise NotDelivered("its ca_file cannot be used: it holds no certificate") from None


@cache
def _system_context() -> ssl.SSLContext:
    """Return the one context of the system's authorities; never changed."""
    return ssl.create_default_context()
