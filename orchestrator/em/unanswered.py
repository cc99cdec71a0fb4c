"""What a request without an answer means: whether anything of it was sent."""

from __future__ import annotations

import aiohttp

from orchestrator.core.errors import (
    CertificateRefused,
    EnterpriseManagerError,
    RequestNotSent,
    ResponseLost,
)
from orchestrator.em.shortage import exhausted, is_shortage
from orchestrator.em.tls import certificate_words


def translated(exc: Exception, server: str, request: str) -> EnterpriseManagerError:
    """Return our error for one of aiohttp's, whose own texts may hold credentials.

    Only failures before the connection existed mean "not sent": a reset before the request
    was read and one after it was carried out look the same.
    """
    kind: type[EnterpriseManagerError]
    if isinstance(exc, aiohttp.ServerFingerprintMismatch):
        kind = CertificateRefused
        words = f"{server} shows the certificate {exc.got.hex()}, which the plan does not pin"
    elif isinstance(exc, aiohttp.ClientConnectorCertificateError):
        kind, why = CertificateRefused, certificate_words(exc.certificate_error)
        words = f"{server}'s certificate is not trusted: {why}"
    elif isinstance(exc, aiohttp.ClientConnectorError):
        if is_shortage(exc.os_error):
            return exhausted(exc.os_error, server, request)
        kind, words = RequestNotSent, f"{server} cannot be reached: {_reason(exc.os_error)}"
    elif isinstance(exc, aiohttp.ConnectionTimeoutError):
        kind, words = RequestNotSent, f"{server} cannot be reached: no connection within 15 s"
    else:
        what = "no answer in time" if isinstance(exc, TimeoutError) else type(exc).__name__
        kind, words = ResponseLost, f"{server} did not answer {request}: {what}"
    return kind(words, server=server, request=request)


def _reason(exc: BaseException) -> str:
    """Return the operating system's or TLS library's words, without addresses or paths."""
    words = getattr(exc, "verify_message", None) or getattr(exc, "strerror", None)
    return str(words) if words else type(exc).__name__
