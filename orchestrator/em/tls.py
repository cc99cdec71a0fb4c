"""How a server's certificate is judged: system trust, a CA file, pinned fingerprints, or not.

`insecure` is possible because a drill on a self-signed laboratory server is; it is explicit,
and every report of such a run says so.
"""

from __future__ import annotations

import hashlib
import ssl
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

import aiohttp

from orchestrator.errors import CertificateRefused
from orchestrator.plan.settings import (
    CaFileTrust,
    FingerprintTrust,
    NoTrust,
    SystemTrust,
    Trust,
)

if TYPE_CHECKING:
    import asyncio


class Fingerprints(aiohttp.Fingerprint):
    """Several pinned certificates: a server is accepted if it shows any of them."""

    def __init__(self, pins: tuple[str, ...]) -> None:
        """`pins` are SHA-256 digests as 64 hex digits."""
        super().__init__(bytes.fromhex(pins[0]))
        self._pins = frozenset(bytes.fromhex(pin) for pin in pins)

    def check(self, transport: asyncio.Transport) -> None:
        """Raise aiohttp.ServerFingerprintMismatch unless the peer shows a pinned certificate."""
        shown = certificate_sha256(transport)
        if shown is not None and bytes.fromhex(shown) not in self._pins:
            host, port, *_ = transport.get_extra_info("peername")
            raise aiohttp.ServerFingerprintMismatch(
                self.fingerprint, bytes.fromhex(shown), host, port
            )


def peer_certificate(transport: asyncio.BaseTransport) -> bytes | None:
    """Return the peer's certificate as DER, or None without TLS."""
    tls = transport.get_extra_info("ssl_object")
    return (tls.getpeercert(binary_form=True) or None) if tls is not None else None


def certificate_sha256(transport: asyncio.BaseTransport) -> str | None:
    """Return the peer certificate's SHA-256 as hex, or None without TLS."""
    certificate = peer_certificate(transport)
    return hashlib.sha256(certificate).hexdigest() if certificate else None


def certificate_expires(certificate: bytes) -> datetime | None:
    """Return until when a certificate (DER) is valid, or None if it says no time."""
    from cryptography import x509  # its start costs every run, and only a check asks

    try:
        return x509.load_der_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        return None


@cache
def _system_context() -> ssl.SSLContext:
    """Return the one context for system trust: read once per process, and never changed."""
    return ssl.create_default_context()


def ssl_argument(trust: Trust, server: str) -> ssl.SSLContext | aiohttp.Fingerprint | bool:
    """Return what aiohttp's connector takes for this trust.

    Raises:
        CertificateRefused: the CA file cannot be read.
    """
    match trust:
        case SystemTrust():
            return _system_context()
        case CaFileTrust(path=path):
            try:
                return ssl.create_default_context(cafile=path)
            except (OSError, ssl.SSLError) as exc:
                raise CertificateRefused(
                    f"{server}: the CA file {path} cannot be used: {exc}", server=server
                ) from exc
        case FingerprintTrust(sha256=pins):
            return Fingerprints(pins)
        case NoTrust():
            return False
