"""The lines of the log that a test causes, whatever tests before it have set up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from structlog.testing import capture_logs

from orchestrator import log


@contextmanager
def captured_logs() -> Iterator[list[Any]]:
    """Collect every line; a command that was run before in this process configures none of them."""
    log.prepare(logging.NOTSET, lambda: None)
    with capture_logs() as lines:
        yield lines
