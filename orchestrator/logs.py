"""Logs for whoever looks after the program: structlog on stderr, secrets removed.

Tracebacks are plain and hold no local variables, because local variables hold passwords.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

HIDDEN = "***"
SECRET_KEYS = re.compile(
    r"authorization|password|passwd|secret|token|cookie|x-restsvcsessionid|credential",
    re.IGNORECASE,
)
SECRET_TEXT = re.compile(
    r"(?i)(basic|bearer)\s+[A-Za-z0-9+/=_-]{6,}|(x-restsvcsessionid\s*[:=]\s*)\S+"
)


def configure(*, verbosity: int = 0, style: str = "auto", stream: TextIO | None = None) -> None:
    """Set up logging: `verbosity` -1 errors, 0 warnings, 1 info, 2 debug.

    `style` is auto (text on a terminal, JSON lines otherwise), console, or json.
    """
    out = stream or sys.stderr
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    as_json = style == "json" or (style == "auto" and not out.isatty() and verbosity > 0)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redacted,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)


def redacted(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace values under secret names, and secrets inside texts."""
    for key, value in event.items():
        if SECRET_KEYS.search(key):
            event[key] = HIDDEN
        elif isinstance(value, str):
            event[key] = SECRET_TEXT.sub(HIDDEN, value)
        elif not isinstance(value, int | float | bool | type(None)):
            event[key] = SECRET_TEXT.sub(HIDDEN, str(value))
    return event
