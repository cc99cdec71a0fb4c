"""Where the page is served, and by which names it may be asked for."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class NotAnAddress(ValueError):
    """The text is not ADDR:PORT; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address and a port of this machine; port 0 means any that is free."""

    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that `ADDR:PORT` names: an IP address (v6 in brackets), or localhost.

        Names are not looked up: what they lead to is not for the one who asks to say.

        Raises:
            NotAnAddress: it is something else.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise NotAnAddress(f"{text!r} is not ADDR:PORT, such as 127.0.0.1:8080")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise NotAnAddress(f"an IPv6 address stands in brackets: [{host}]:{port}")
        try:
            ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            raise NotAnAddress(f"{host!r} is neither an IP address nor localhost") from None
        return cls(ip, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.ip.is_loopback

    @property
    def authority(self) -> str:
        """Return it as it stands in a URL."""
        return authority(str(self.ip), self.port)

    def authorities(self, hostname: str = "", names: Iterable[str] = ()) -> frozenset[str]:
        """Return every `Host` by which a browser may ask for it; see `is_any` for the rest.

        `hostname` is what the machine calls itself; `names` are a person's, on loopback too.
        """
        hosts = {str(self.ip), *names}
        if self.is_loopback or self.is_any:
            hosts.add("localhost")
        if hostname and not self.is_loopback:
            hosts.add(hostname.lower())
        found = {authority(host, self.port) for host in hosts}
        if self.port == 80:  # browsers leave it out
            found |= {each.removesuffix(":80") for each in found}
        return frozenset(found)

    @property
    def is_any(self) -> bool:
        """Whether it stands for every address of the machine: then any IP address is its name."""
        return self.ip.is_unspecified


def served_name(text: str) -> str:
    """Return a name of this machine's as a browser writes it in its `Host`.

    Raises:
        NotAnAddress: it is none; there is no name that stands for all names.
    """
    name = text.strip().lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise NotAnAddress(
            f"{text!r} is not a name such as backup.example.com, without scheme and port"
        )
    return name


def authority(host: str, port: int) -> str:
    """Return HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


LOOPBACK = Address(ipaddress.IPv4Address("127.0.0.1"), 0)
