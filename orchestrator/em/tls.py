"""How a server's certificate is checked: system trust, a CA file, pinned fingerprints, or not.

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

from orchestrator.core.errors import CertificateRefused
from orchestrator.em.authorities import certificates_in
from orchestrator.plan.file.access import CaFileTrust, FingerprintTrust, NoTrust, SystemTrust, Trust

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
        certificate = peer_certificate(transport)
        shown = hashlib.sha256(certificate).digest() if certificate else None
        if shown is not None and shown not in self._pins:
            host, port, *_ = transport.get_extra_info("peername")
            raise aiohttp.ServerFingerprintMismatch(self.fingerprint, shown, host, port)


def peer_certificate(transport: asyncio.BaseTransport) -> bytes | None:
    """Return the peer's certificate as DER, or None without TLS."""
    tls = transport.get_extra_info("ssl_object")
    return (tls.getpeercert(binary_form=True) or None) if tls is not None else None


def certificate_expires(certificate: bytes) -> datetime | None:
    """Return until when a certificate (DER) is valid, or None if it names no time."""
    from cryptography import x509  # its start costs every run, and only a check asks

    try:
        return x509.load_der_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        return None


def _context() -> ssl.SSLContext:
    """Return a context that trusts no authority yet, the same on every version of Python.

    Python 3.13 refuses by default what older versions take: a certificate of version 1, one that
    may sign and does not say that it is an authority. An issued certificate is accepted as its
    own CA file. Source: reference trap 73.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@cache
def _system_context() -> ssl.SSLContext:
    """Return the one context for system trust: read once per process, and never changed."""
    context = _context()
    context.load_default_certs()
    return context


def _context_of(content: bytes) -> ssl.SSLContext:
    """Return a context that trusts what a CA file holds, and nothing else.

    Raises:
        OSError, ValueError: it holds nothing that can be trusted.
    """
    found = certificates_in(content)
    context = _context()
    context.load_verify_locations(cadata=b"".join(found))
    return context


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
                return _context_of(trust.read())
            except (OSError, ValueError) as exc:
                why = getattr(exc, "strerror", None) or exc
                raise CertificateRefused(
                    f"{server}: the CA file {path} cannot be used: {why}", server=server
                ) from exc
        case FingerprintTrust(sha256=pins):
            return Fingerprints(pins)
        case NoTrust():
            return False


# --- what goes wrong, in a person's words --------------------------------------------------

_PIN = "or pin it by `fingerprint_sha256` under `tls`"
_UNKNOWN = "name its `ca_file` or `fingerprint_sha256` under `tls`"
_ADVICE: dict[int, str] = {
    9: f"compare the clocks of this machine and of the server, {_PIN}",
    10: f"renew it on the server, {_PIN}",
    24: f"name the root that issued it as `ca_file` under `tls`, {_PIN}",
    26: f"give the server one that is made for servers, {_PIN}",
    62: f"write in `url` a name that is in the certificate, {_PIN}",
    64: f"write in `url` an address or name that is in the certificate, {_PIN}",
    66: f"give the server one with a stronger key (RSA with 2,048 bits), {_PIN}",
    67: f"its authority must have a stronger key (RSA with 2,048 bits); renew it, {_PIN}",
    68: f"its authority must sign with SHA-256; renew it, {_PIN}",
}
"""What helps, by OpenSSL's X509_V_ERR number; for all others the certificate is just not known."""


def certificate_words(exc: Exception) -> str:
    """Return why a certificate is not trusted, and what to do about it."""
    code = getattr(exc, "verify_code", 0)
    why = getattr(exc, "verify_message", None) or "it does not say why"
    return f"{why.rstrip('.')}; {_ADVICE.get(code, _UNKNOWN)}"


_NO_TLS = (
    "what answers there does not speak TLS (plain HTTP, or another service): is the port right? "
    "(9398 by default)"
)
_OLD_TLS = "the server offers no TLS 1.2 or newer: enable TLS 1.2 there"
_CLIENT = (
    "the server wants a client certificate, and this program has none: Enterprise Manager itself "
    "never asks for one, so it is a proxy in front of it"
)
_REFUSED = (
    "the server refused the TLS handshake: it wants a client certificate (which this program does "
    "not have), or allows no cipher of TLS 1.2 and newer"
)
_NAME = "the server knows no certificate for the host name in `url`"
_WEAK = "the server's key is too weak for TLS: give it one with 2,048 bits of RSA or more"
_HANDSHAKES: dict[str, str] = {
    **dict.fromkeys(
        ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG"),
        _NO_TLS,
    ),
    **dict.fromkeys(("RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "BAD_RECORD_TYPE"), _NO_TLS),
    **dict.fromkeys(
        (
            "TLSV1_ALERT_PROTOCOL_VERSION",
            "UNSUPPORTED_PROTOCOL",
            "NO_PROTOCOLS_AVAILABLE",
            "VERSION_TOO_LOW",
        ),
        _OLD_TLS,
    ),
    **dict.fromkeys(
        (
            "TLSV13_ALERT_CERTIFICATE_REQUIRED",
            "SSLV3_ALERT_BAD_CERTIFICATE",
            "SSLV3_ALERT_NO_CERTIFICATE",
        ),
        _CLIENT,
    ),
    **dict.fromkeys(
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY"), _REFUSED
    ),
    **dict.fromkeys(
        ("DH_KEY_TOO_SMALL", "EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"), _WEAK
    ),
    **dict.fromkeys(("TLSV1_UNRECOGNIZED_NAME", "TLSV1_ALERT_UNRECOGNIZED_NAME"), _NAME),
}
"""By OpenSSL's name of the reason. What is not here may be an outage, such as a lost connection."""


def handshake_words(exc: BaseException | None) -> str | None:
    """Return what is wrong with TLS there until somebody changes it; None if it may pass."""
    if not isinstance(exc, ssl.SSLError):
        return None
    return _HANDSHAKES.get(getattr(exc, "reason", None) or "")  # aiohttp's have none
