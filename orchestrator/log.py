"""The log: a line is the name of an event and its fields.

    log = Log(__name__)
    log.warning("notification.failed", to=name)

structlog imports rich: a tenth of a second of CPU, and most runs write no line. So it is imported
with the first line that is written. `app.logs` decides which lines are, and how they look.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress

_configure: list[Callable[[], None]] = []
_least = [logging.NOTSET]


def prepare(least: int, configure: Callable[[], None]) -> None:
    """Write only lines of at least this level; call `configure` before the first of them."""
    _least[:] = [least]
    _configure[:] = [configure]


class Log:
    """Writes the lines of one module."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        """`name` is the module's."""
        self._name = name

    def debug(self, event: str, *args: object, **fields: object) -> None:
        """Write what helps to find a fault: -vv shows it."""
        self._write(logging.DEBUG, "debug", (event, *args), fields)

    def info(self, event: str, *args: object, **fields: object) -> None:
        """Write what may interest somebody: -v shows it."""
        self._write(logging.INFO, "info", (event, *args), fields)

    def warning(self, event: str, *args: object, **fields: object) -> None:
        """Write what somebody should look at."""
        self._write(logging.WARNING, "warning", (event, *args), fields)

    def error(self, event: str, *args: object, **fields: object) -> None:
        """Write what went wrong."""
        self._write(logging.ERROR, "error", (event, *args), fields)

    def exception(self, event: str, *args: object, **fields: object) -> None:
        """Write what went wrong, with the exception that is being handled."""
        self._write(logging.ERROR, "exception", (event, *args), fields)

    def _write(
        self, level: int, method: str, words: tuple[object, ...], fields: dict[str, object]
    ) -> None:
        if level < _least[0]:
            return
        try:
            import structlog
        except (ImportError, OSError):  # no file can be opened: the caller must go on
            with suppress(OSError, ValueError):
                print(f"{method}: {words[0]}", file=sys.stderr)  # noqa: T201 - there is no log
            return
        if _configure:
            _configure.pop()()
        getattr(structlog.get_logger(self._name), method)(*words, **fields)
