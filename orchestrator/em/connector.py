"""The connections to one server: where it answers, and which certificate it shows."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import aiohttp

from orchestrator.em.tls import peer_certificate


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


def endpoint(address: Any) -> str | None:
    """Return a socket's address in one spelling, `address:port`; None: it is none of IP."""
    try:
        host, port = address[:2]
        ip = ip_address(host.partition("%")[0])
    except (TypeError, ValueError, AttributeError):
        return None
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
