"""The pages that are open, and what each of them has not read yet: one snapshot and one number.

Publishing never waits, however many subscribers there are and however slowly they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Full(Exception):
    """There is no room for another subscriber now."""


class Subscriber:
    """One connected page. What it has not taken yet is replaced, never queued."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self.place = 0
        """How far it has read the timeline."""
        self.missed = 0
        """Snapshots that were replaced before it took them."""
        self._picture: bytes | None = None
        self._news = anyio.Event()

    @property
    def waiting_bytes(self) -> int:
        """What is kept for it alone: nothing, or a reference to the newest snapshot."""
        return len(self._picture) if self._picture is not None else 0

    def offer(self, snapshot: bytes) -> None:
        """Keep the newest snapshot for it."""
        self.missed += self._picture is not None
        self._picture = snapshot
        self.wake()

    def wake(self) -> None:
        """End its wait, if it waits."""
        self._news.set()

    async def wait(self, patience_s: float) -> None:
        """Return when there is something new, or after `patience_s`."""
        with anyio.move_on_after(patience_s):
            await self._news.wait()

    def take(self) -> bytes | None:
        """Return the newest snapshot, if this subscriber has not taken it."""
        snapshot, self._picture = self._picture, None
        self._news = anyio.Event()
        return snapshot


class Subscribers:
    """All subscribers of one page."""

    def __init__(self, most: int) -> None:
        """Accept at most `most` at once."""
        self._most = most
        self._subscribers: set[Subscriber] = set()
        self.empty = anyio.Event()
        """Set when the last subscriber has left after the end."""
        self.has_ended = False
        """Set when nothing more will be published."""

    def __len__(self) -> int:
        """How many there are now."""
        return len(self._subscribers)

    def __iter__(self) -> Iterator[Subscriber]:
        """Iterate over the present ones."""
        return iter(self._subscribers)

    @contextmanager
    def subscribe(self) -> Iterator[Subscriber]:
        """Add a subscriber for as long as the context is open.

        Raises:
            Full: there is no room.
        """
        if len(self._subscribers) >= self._most:
            raise Full
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            self._note_empty()

    def publish(self, snapshot: bytes) -> None:
        """Give every subscriber the newest snapshot."""
        for subscriber in self._subscribers:
            subscriber.offer(snapshot)

    def end(self) -> None:
        """Publish nothing more; subscribers leave once they have read the last snapshot."""
        self.has_ended = True
        for subscriber in self._subscribers:
            subscriber.wake()
        self._note_empty()

    def _note_empty(self) -> None:
        if self.has_ended and not self._subscribers:
            self.empty.set()
