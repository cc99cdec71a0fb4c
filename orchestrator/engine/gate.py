"""The gate in front of one server: closed while the server cannot be used.

A server's trouble never costs a target its attempts. Whoever meets it closes the gate and
waits there; one probe decides when it opens again, or that it is given up.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from orchestrator.errors import ServerUnusable
from orchestrator.model import ServerName


class Gate:
    """Open, closed, or given up for good. Starts closed."""

    def __init__(self, server: ServerName, on_change: Callable[[], None]) -> None:
        """`on_change` is told synchronously whenever the gate opens, closes or gives up."""
        self._server = server
        self._on_change = on_change
        self._open = False
        self._given_up: str | None = None
        self._opened = anyio.Event()
        self._closed = anyio.Event()

    @property
    def is_open(self) -> bool:
        """True while requests may be sent."""
        return self._open

    @property
    def given_up(self) -> str | None:
        """Why the server will not be used any more, or None."""
        return self._given_up

    def open(self) -> None:
        """Let everybody through."""
        if not self._open and self._given_up is None:
            self._open = True
            self._closed = anyio.Event()
            self._opened.set()
            self._on_change()

    def close(self) -> None:
        """Let nobody through until it is opened."""
        if self._open:
            self._open = False
            self._opened = anyio.Event()
            self._closed.set()
            self._on_change()

    def give_up(self, reason: str) -> None:
        """Never open again; whoever waits is told."""
        if self._given_up is None:
            self._given_up = reason
            self._open = False
            self._closed.set()
            self._opened.set()
            self._on_change()

    async def passed(self) -> None:
        """Return once the gate is open.

        Raises:
            ServerUnusable: the server was given up.
        """
        while not self._open:
            if self._given_up is not None:
                raise ServerUnusable(f"{self._server}: {self._given_up}")
            await self._opened.wait()

    async def shut(self) -> None:
        """Return once the gate is closed."""
        if self._open:
            await self._closed.wait()
