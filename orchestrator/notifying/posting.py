"""One webhook: its address checked, one POST and its few repetitions.

Nothing that names the address leaves this module: every failure is told in words of our own.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from dataclasses import dataclass
from functools import cache
from typing import Self

import aiohttp
import anyio
from yarl import URL

from orchestrator._version import __version__

LONGEST_ADDRESS = 4096
ANSWER_READ = 256
"""Bytes of an answer that are looked at, for one word such as `channel_is_archived`."""

_ONE_WORD = re.compile(r"[a-z]+(_[a-z]+)+")


class NotDelivered(Exception):
    """A message did not arrive, or nobody can say; the text says why and names no address."""


class _Again(NotDelivered):
    """It may be tried again, after `pause` seconds if the receiver named any."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one message may take, in seconds, and how often it is tried."""

    connect: float = 5.0
    answer: float = 10.0
    pauses: tuple[float, ...] = (1.0, 4.0)
    """Before each repetition; a receiver may ask for longer, up to `longest_pause`."""
    longest_pause: float = 10.0


class Webhook:
    """An open webhook. `async with` it; it keeps no connection and no cookie."""

    def __init__(self, address: str, ca_file: str | None, patience: Patience) -> None:
        """`address` is the secret.

        Raises:
            NotDelivered: it is no address that anything may be posted to.
        """
        self._address = _checked(address)
        self._patience = patience
        connector = aiohttp.TCPConnector(ssl=_context(ca_file), limit=1, force_close=True)
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
        """Deliver one message; one whose answer was lost is repeated too.

        Raises:
            NotDelivered: it was refused, or nobody took it in the time there is.
        """
        for pause in (*self._patience.pauses, None):
            try:
                return await self._posted(content)
            except _Again as exc:
                if pause is None:
                    raise NotDelivered(str(exc)) from None
                asked = exc.pause or 0.0
                await anyio.sleep(min(max(pause, asked), self._patience.longest_pause))
        raise AssertionError

    async def _posted(self, content: bytes) -> None:
        why: str
        try:
            async with self._session.post(
                self._address, data=content, allow_redirects=False
            ) as answer:
                word = await self._word(answer) if answer.status >= 300 else ""
                return _judge(answer.status, word, answer.headers.get("Retry-After"))
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            raise NotDelivered("its certificate is not trusted, or it speaks no TLS") from None
        except TimeoutError:
            why = f"it did not answer within {self._patience.answer:g} s"
        except aiohttp.ClientConnectorError as exc:
            number = exc.os_error.errno
            cause = f": {os.strerror(number)}" if number and number > 0 else ""
            why = f"it cannot be reached{cause}"
        except (aiohttp.ClientError, OSError, ValueError):
            why = "the connection broke, or what came back is no HTTP"
        raise _Again(why)

    async def _word(self, answer: aiohttp.ClientResponse) -> str:
        """Return the one word that an answer consists of, unless it may be of the address."""
        text = (await answer.content.read(ANSWER_READ)).decode("latin-1").strip()
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
        raise _Again(f"it answered {status}{word}", float(asked[0]) if asked else None)
    raise NotDelivered(f"it answered {status}{word}")


def _checked(address: str) -> URL:
    """Return the address, if https, or http to this machine, is what it asks for."""
    try:
        url = URL(address, encoded=True)
        host, _port = url.host, url.port
    except ValueError:
        raise NotDelivered("what its reference leads to is no address") from None
    if not address.isprintable() or " " in address or len(address) > LONGEST_ADDRESS or not host:
        raise NotDelivered("what its reference leads to is no address")
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


def _context(ca_file: str | None) -> ssl.SSLContext:
    if ca_file is None:
        return _system_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        reason = exc.strerror or "it holds no certificate"
        raise NotDelivered(f"its ca_file cannot be used: {reason}") from None


@cache
def _system_context() -> ssl.SSLContext:
    """Return the one context of the system's authorities; never changed."""
    return ssl.create_default_context()
