"""The least time between two mount requests to one server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class StartInterval:
    """Spaces the mount requests to one server, whichever session they are sent in.

    Counted from the answer to one to the next: so the server sees them apart, too, whatever the
    network does. Only the requests of one run count.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        """The first request need not wait."""
        self._seconds, self._last = seconds, -math.inf

    @property
    def left_s(self) -> float:
        """Seconds until the next request may be sent; none are left if it is not above 0."""
        return self._last + self._seconds - anyio.current_time()

    async def turn(self) -> None:
        """Return when the next request may be sent. Only one may wait at a time."""
        left = self.left_s
        if left > 0:
            await anyio.sleep(left)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Note that a request is sent in the context, and answered at its end."""
        try:
            yield
        finally:
            self._last = anyio.current_time()
