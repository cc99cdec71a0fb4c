"""The circuit breaker of one server: no requests pass while the server cannot be used.

A server's trouble never costs a target its attempts. Whoever meets it closes the gate and
waits there; one probe decides when it opens again, or that it is given up.

A server that refuses now and then (503, 429) is not in trouble yet: whoever was refused asks once
more after a pause, and the gate stays open until the refusals are a series.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from orchestrator.core.errors import ServerUnusable
from orchestrator.core.model import ServerName

SERIES = 4.0
"""Weight of refusals that closes the gate: so many without any answer between them."""

ANSWER_WEIGHS = 0.25
"""What an answer takes from it. At 5 % of refusals 40,000 answers come between two series, at 30 %
about 27."""


class Refusals:
    """How far the refusals of one server outweigh its answers."""

    def __init__(self) -> None:
        """Nothing was refused yet."""
        self._weight = 0.0

    @property
    def are_many(self) -> bool:
        """True after a series, until enough was answered."""
        return self._weight >= SERIES - 1.0

    def answered(self) -> None:
        """Note a good answer."""
        self._weight = max(0.0, self._weight - ANSWER_WEIGHS)

    def add(self) -> bool:
        """Note a refusal, and return whether it completes a series; the next one may, at once."""
        self._weight += 1.0
        if self._weight < SERIES:
            return False
        self._weight = SERIES - 1.0
        return True


class CircuitBreaker:
    """Open, closed, or given up for good. Starts closed."""

    def __init__(self, server: ServerName, on_change: Callable[[], None]) -> None:
        """`on_change` is called synchronously at each change of the state."""
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
        """Let all requests pass."""
        if not self._open and self._given_up is None:
            self._open = True
            self._closed = anyio.Event()
            self._opened.set()
            self._on_change()

    def close(self) -> None:
        """Let no request pass until it is opened."""
        if self._open:
            self._open = False
            self._opened = anyio.Event()
            self._closed.set()
            self._on_change()

    def give_up(self, reason: str) -> None:
        """Give up for good; everything that waits for it ends with an error."""
        if self._given_up is None:
            self._given_up = reason
            self._open = False
            self._closed.set()
            self._opened.set()
            self._on_change()

    async def passed(self) -> None:
        """Return once requests may pass.

        Raises:
            ServerUnusable: the server was given up.
        """
        while not self._open:
            if self._given_up is not None:
                raise ServerUnusable(f"{self._server}: {self._given_up}")
            await self._opened.wait()

    async def shut(self) -> None:
        """Return once requests may not pass."""
        if self._open:
            await self._closed.wait()
