"""What this machine may run out of: no server is to blame, and nothing was sent."""

from __future__ import annotations

import errno
import os

from orchestrator.core.errors import HostExhausted

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

SPARE = 8
"""Descriptors that a logon needs at once: certificates, a program that tells a secret, sockets."""


def require_room(server: str) -> None:
    """Return if a logon would find the descriptors it needs.

    Otherwise a missing descriptor would look like a missing certificate or secret.

    Raises:
        HostExhausted: it would not.
    """
    taken: list[int] = []
    try:
        taken.extend(_opened() for _ in range(SPARE))
    except OSError as exc:
        raise exhausted(exc, server, "") from None
    finally:
        for number in taken:
            os.close(number)


def _opened() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def is_shortage(exc: OSError) -> bool:
    """Return whether a failed connection is this machine's own fault.

    A failed name resolution does not say why, so it is asked whether a descriptor can be had.
    """
    if exc.errno in SHORTAGES:
        return True
    try:
        os.close(_opened())
    except OSError:
        return True
    return False


def exhausted(exc: OSError, server: str, request: str) -> HostExhausted:
    """Return the error that names what is missing and what to do about it."""
    remedy = " (raise its limit: ulimit -n)" if exc.errno in {errno.EMFILE, errno.ENFILE} else ""
    return HostExhausted(
        f"this machine, not {server}, is short of something: {os.strerror(exc.errno or 0)}{remedy}",
        server=server,
        request=request,
    )
