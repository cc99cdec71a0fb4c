"""Waiting for what another process does: until it is so, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

PATIENCE_S = 60.0
"""What takes longer hangs. No test measures by it."""


def until_overdue() -> Iterator[None]:
    """Yield again and again; fail the test when that has gone on for too long."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        yield
    pytest.fail("what was waited for did not happen")
