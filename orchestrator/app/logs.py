"""Logs: structlog on stderr, secrets removed.

Tracebacks are plain and hold no local variables, because local variables hold passwords.
Control characters are escaped, and a closed stream is no error.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import Any, TextIO, cast

from orchestrator import log
from orchestrator.core.text import inert, printable, printable_json

Fields = MutableMapping[str, Any]
HIDDEN = "***"
SECRET_KEYS = re.compile(
    r"authorization|password|passwd|secret|token|cookie|x-restsvcsessionid|credential",
    re.IGNORECASE,
)
_VALUE = r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\S+)"""
SECRET_TEXT = re.compile(
    rf"""
    (\b(?:basic|bearer)\s+) [A-Za-z0-9+/=_-]{{6,}}
    | (cookie\s*:\s*) [^\r\n"']+
    | ((?:authorization|cookie|x-restsvcsessionid)["']?\s*[:=]\s*) (?:(?:basic|bearer)\s+)? {_VALUE}
    | ((?:password|passwd|secret|token|credential)s?(?:["']?\s*=|["']\s*:)\s*) {_VALUE}
    | (://[^\s/@:]+:) [^\s/]+ (?=@)
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""What goes before a secret is the one group of each alternative."""
LONGEST_TEXT = 4000
"""Characters of one value, or of one line of a traceback, on a console."""


def configure(*, verbosity: int = 0, style: str = "auto", stream: TextIO | None = None) -> None:
    """Set up logging: `verbosity` -1 errors, 0 warnings, 1 info, 2 debug.

    `style` is auto (text on a terminal, JSON lines otherwise), console, or json. Tracebacks are
    shown from 1 on; below, an exception is one line.
    """
    out = stream or sys.stderr
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    as_json = style == "json" or (style == "auto" and not out.isatty() and verbosity > 0)
    log.prepare(level, partial(_configure, level, out, as_json=as_json, traces=verbosity > 0))
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)


def _configure(level: int, out: TextIO, *, as_json: bool, traces: bool) -> None:
    import structlog

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
            *([] if traces else [in_one_line]),
            structlog.processors.format_exc_info,
            redacted,
            *([] if as_json else [spelled_out]),
            renderer,
            # What a CI system would obey is escaped, also within a list or a mapping.
            lambda _logger, _method, lines: (printable_json if as_json else inert)(str(lines)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _ClosableStream(out))),
        cache_logger_on_first_use=False,
    )


def in_one_line(_logger: Any, _method: str, event: Fields) -> Fields:
    """Replace a traceback by the exception: -v shows where it was raised."""
    exc_info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if exc_info is True else exc_info
    error = error[1] if isinstance(error, tuple) else error
    if isinstance(error, BaseException):
        event["error"] = f"{type(error).__name__}: {error}"
    return event


def redacted(_logger: Any, _method: str, event: Fields) -> Fields:
    """Replace values under secret names, at any depth, and secrets inside texts."""
    shown: Fields = _without_secret(event)
    return shown


def _without_secret(value: Any) -> Any:
    if isinstance(value, int | float | bool | None):
        return value
    if isinstance(value, Mapping):
        return {
            without_secrets(key): HIDDEN if SECRET_KEYS.search(str(key)) else _without_secret(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_secret(each) for each in value]
    return without_secrets(value)


def without_secrets(value: Any) -> str:
    """Return a text in which what looks like a secret is hidden."""
    return SECRET_TEXT.sub(lambda found: found[found.lastindex or 0] + HIDDEN, str(value))


def spelled_out(_logger: Any, _method: str, event: Fields) -> Fields:
    """Escape control characters in texts; only a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if name == "exception" else [value]
            event[name] = "\n".join(printable(line, LONGEST_TEXT) for line in lines)
    return event


class _ClosableStream(io.TextIOBase):
    """A stream that may be closed: what is written afterwards is dropped without an error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return
