"""Contain bugs: a clean-up that fails never hides the error that caused it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.log import Log

log = Log(__name__)


@contextmanager
def harmless(event: str, **about: object) -> Iterator[None]:
    """Log an error in a clean-up as `event`, and continue."""
    try:
        yield
    except Exception:
        log.exception(event, **about)
