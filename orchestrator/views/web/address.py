"""Where the page is served, the names that it may be asked for by, and the token that opens it."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable

from msgspec import Struct

SHORTEST = 20
_USABLE = re.compile(r"[A-Za-z0-9._~-]+")
"""Characters that need no escape in a link or a header."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class NotAnAddress(ValueError):
    """The text is not ADDR:PORT; the message has the reason."""


class Address(Struct, frozen=True):
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
            raise NotAnAddress(f"write an IPv6 address in brackets: [{host}]:{port}")
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
        """Return it as a URL has it."""
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
        values = {authority(host, self.port) for host in hosts}
        if self.port == 80:  # browsers leave it out
            values |= {each.removesuffix(":80") for each in values}
        return frozenset(values)

    @property
    def is_any(self) -> bool:
        """Whether it is the wildcard address: then any IP address of the machine will do."""
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


def fresh_token() -> str:
    """Return a random token."""
    return secrets.token_urlsafe(24)


def own_token(text: str) -> str:
    """Return a person's own token, as its file holds it.

    Raises:
        ValueError: it is too short to be safe, or cannot stand in a link. Says nothing of it.
    """
    token = text.strip()
    if len(token) < SHORTEST:
        raise ValueError(f"a token has {SHORTEST} characters or more")
    if _USABLE.fullmatch(token) is None:
        raise ValueError("a token consists of letters, digits and . _ ~ -")
    return token
