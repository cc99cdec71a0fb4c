"""The lease of one server as its holder sees it: pure, on a clock that is given.

The database alone decides who holds a lease, on its own clock. The holder uses its clock only to
stop earlier; the clocks of two machines are never compared.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core.clock import boot_clock
from orchestrator.core.policy import LEASE_LIFE, LEASE_MARGIN


class Lease:
    """One taking of a lease. `epoch` is its number; each taking, by anybody, adds 1 to it."""

    __slots__ = ("_clock", "_sure_until", "epoch", "lost")

    def __init__(
        self, epoch: int, *, sent_at: float, clock: Callable[[], float] = boot_clock
    ) -> None:
        """`sent_at`: when the statement that took it was sent, in seconds of `clock`.

        `clock` must go on while this machine sleeps, as the database's does.
        """
        self.epoch = epoch
        self.lost = False
        """True for ever, once another worker is known to have taken it."""
        self._clock = clock
        self._sure_until = sent_at + LEASE_LIFE - LEASE_MARGIN

    @property
    def sure(self) -> bool:
        """True while nobody else can hold it: the database has not let it expire yet."""
        return not self.lost and self._clock() < self._sure_until

    def renewed(self, sent_at: float) -> None:
        """Note a renewal that the database has confirmed, by when it was *sent*.

        The database may have renewed it at any time from then on, so it counts from then. A late
        confirmation of an earlier one changes nothing; one after the loss does not undo that.
        """
        self._sure_until = max(self._sure_until, sent_at + LEASE_LIFE - LEASE_MARGIN)

    def lose(self) -> None:
        """Note that another worker has it. Safe to repeat."""
        self.lost = True
