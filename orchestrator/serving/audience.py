"""Who listens, and what each of them has not heard yet: one picture and one number.

Nothing in here waits: whoever tells the audience something is done at once, however many
listen and however slowly they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Full(Exception):
    """Nobody more can listen now."""


class Listener:
    """One connected page. What it has not taken yet is replaced, never queued."""

    def __init__(self) -> None:
        """Nothing heard yet."""
        self.place = 0
        """How far it has read the timeline."""
        self.missed = 0
        """Pictures that were replaced before it took them."""
        self._picture: bytes | None = None
        self._news = anyio.Event()

    @property
    def waiting_bytes(self) -> int:
        """What is kept for it alone: nothing, or a reference to the newest picture."""
        return len(self._picture) if self._picture is not None else 0

    def offer(self, picture: bytes) -> None:
        """Put the newest picture down for it."""
        self.missed += self._picture is not None
        self._picture = picture
        self.nudge()

    def nudge(self) -> None:
        """Wake it, if it waits."""
        self._news.set()

    async def news(self, patience_s: float) -> None:
        """Return when there is something new, or after `patience_s`."""
        with anyio.move_on_after(patience_s):
            await self._news.wait()

    def take(self) -> bytes | None:
        """Return the newest picture, if it is new to this listener."""
        picture, self._picture = self._picture, None
        self._news = anyio.Event()
        return picture


class Audience:
    """All listeners of one page."""

    def __init__(self, most: int) -> None:
        """Let in `most` of them at once."""
        self._most = most
        self._listeners: set[Listener] = set()
        self._empty = anyio.Event()
        self.over = False
        """Set when there will be nothing more to hear."""
        self.missed = 0
        """Pictures that listeners who have left did not take."""

    def __len__(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    def __iter__(self) -> Iterator[Listener]:
        """Iterate over those who listen now."""
        return iter(self._listeners)

    @contextmanager
    def joined(self) -> Iterator[Listener]:
        """Take a seat.

        Raises:
            Full: there is none.
        """
        if len(self._listeners) >= self._most:
            raise Full
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self.missed += listener.missed
            self._note_empty()

    def publish(self, picture: bytes) -> None:
        """Give everybody the newest picture."""
        for listener in self._listeners:
            listener.offer(picture)

    def end(self) -> None:
        """Send everybody home once they have heard the last of it."""
        self.over = True
        for listener in self._listeners:
            listener.nudge()
        self._note_empty()

    async def gone(self) -> None:
        """Return when the last listener has left after the end."""
        await self._empty.wait()

    def _note_empty(self) -> None:
        if self.over and not self._listeners:
            self._empty.set()
