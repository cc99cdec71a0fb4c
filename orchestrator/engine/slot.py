"""The right to have one mount open: given by the scheduler, held until the mount is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.core.model import MountRequest
from orchestrator.engine.waiting import Lane, Machine

if TYPE_CHECKING:
    from orchestrator.engine.scheduler import Scheduler


class Slot:
    """The right to have one mount open. Hold it until the mount is known to be gone."""

    __slots__ = ("_claim", "_idle", "_lane", "_machine", "_scheduler", "_seconds", "request")

    def __init__(
        self,
        scheduler: Scheduler,
        request: MountRequest,
        lane: Lane,
        machine: Machine,
        claim: int,
        seconds: float,
    ) -> None:
        """Made by the scheduler only; `seconds` of work are counted for it."""
        self.request = request
        self._seconds = seconds
        self._lane, self._machine = lane, machine
        self._claim = claim
        self._scheduler: Scheduler | None = scheduler
        self._idle: bool | None = None

    def idle(self, *, endless: bool) -> None:
        """Note that its mount is only held open now: it counts in every limit, and is no load.

        What waits for a limit that `endless` ones have used up gets no slot any more.
        """
        if self._scheduler is not None and self._idle is None:
            self._idle = endless
            self._scheduler._rest(self.request, self._lane, endless=endless)  # noqa: SLF001 - two halves of one thing

    def wake(self) -> None:
        """Note that its mount is worked on again. Repeatable."""
        endless, self._idle = self._idle, None
        if self._scheduler is not None and endless is not None:
            self._scheduler._wake(self.request, self._lane, endless=endless)  # noqa: SLF001 - two halves of one thing

    def release(self) -> None:
        """Give the slot back; the next target is admitted before this returns. Safe to repeat."""
        self.wake()
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler._release(self._lane, self._machine, self._claim, self._seconds)  # noqa: SLF001 - two halves of one thing

    def release_after(self, remaining: Callable[[], float]) -> None:
        """Give the slot back once `remaining` seconds are over; they are asked for again then.

        For a mount in a session that the server denies: it is gone when the session must be. If
        nothing is admitted any more by then, the slot is kept, and other runs count it on.
        """

        def look_again() -> None:
            left, scheduler = remaining(), self._scheduler
            if left > 0:
                asyncio.get_running_loop().call_later(left, look_again)
            elif scheduler is not None and not scheduler._closed:  # noqa: SLF001 - two halves of one thing
                self.release()

        self.wake()
        look_again()

    def forfeit(self) -> None:
        """Never give it back: a mount that is out of reach may still be open."""
        self.wake()
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler._forfeit(self.request, self._lane, self._seconds)  # noqa: SLF001 - two halves of one thing
