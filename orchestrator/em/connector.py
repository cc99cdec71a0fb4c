"""The connections to one server: where it answers, which certificate it shows, how it is used."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

import aiohttp
from aiohttp.connector import Connection

from orchestrator.em import limits
from orchestrator.em.tls import peer_certificate

_TIMES: Final = aiohttp.ClientTimeout(
    total=None, connect=None, sock_connect=limits.CONNECT_S, sock_read=None
)
"""What aiohttp bounds. `connect` would count waiting for a pool slot; `deadlines` does the rest."""


class Connector(aiohttp.TCPConnector):
    """A TCP connector that remembers which certificate the server showed, and where it is."""

    certificate: bytes | None = None
    endpoints: frozenset[str] = frozenset()

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        resolved = [info[4] for info in kwargs.get("addr_infos", ())]
        transport, protocol = await super()._wrap_create_connection(*args, **kwargs)
        places = map(endpoint, [*resolved, transport.get_extra_info("peername")])
        self.endpoints |= {each for each in places if each is not None}
        self.certificate = peer_certificate(transport) or self.certificate
        return transport, protocol


class Lending(aiohttp.BaseConnector):
    """Lends the connections of another connector, and says when."""

    def __init__(self, lending: aiohttp.BaseConnector, when_lent: Callable[[], None]) -> None:
        """`when_lent` is called in the task of the request that gets a connection."""
        super().__init__(force_close=True)
        self._lending = lending
        self._when_lent = when_lent

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Connection:
        """Return a connection for a request."""
        connection = await self._lending.connect(req, traces, timeout)
        self._when_lent()
        return connection

    async def _close_both(self) -> None:
        await self._lending.close()
        await super().close()

    def close(self, *, abort_ssl: bool = False) -> Any:
        """Close the connections that it lends."""
        _ = abort_ssl
        return self._close_both()


class _Request(aiohttp.ClientRequest):
    """A request with the headers of its session, as they are."""

    def update_headers(self, headers: Any) -> None:
        """Take what the session has just put together; aiohttp (3.14) would copy them singly."""
        self.headers = headers


def http_session(
    connector: aiohttp.BaseConnector, headers: dict[str, str]
) -> aiohttp.ClientSession:
    """Return a session that adds nothing of its own: no cookies, no proxies of the environment.

    `headers` must be all that a request needs, `Host` too.
    """
    return aiohttp.ClientSession(
        connector=connector,
        timeout=_TIMES,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        request_class=_Request,
        auto_decompress=False,
        raise_for_status=False,
        trust_env=False,
    )


def endpoint(address: Any) -> str | None:
    """Return a socket's address in one spelling, `address:port`; None: it is none of IP."""
    try:
        host, port = address[:2]
        ip = ip_address(host.partition("%")[0])
    except (TypeError, ValueError, AttributeError):
        return None
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
