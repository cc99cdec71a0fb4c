"""Knows whether this process tried to reach anybody: an audit hook below every library."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_REACHING = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
_heard: list[str] | None = None
_installed = False


def _hook(event: str, _arguments: tuple[object, ...]) -> None:
    if _heard is not None and event in _REACHING:
        _heard.append(event)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Yield a list of every attempt to resolve a name or connect while the context is open."""
    global _heard, _installed
    if not _installed:
        sys.addaudithook(_hook)  # cannot be taken out again, so it is put in once
        _installed = True
    _heard = []
    try:
        yield _heard
    finally:
        _heard = None
