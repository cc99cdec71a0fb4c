"""A run's clock as one worker keeps it: the database's, carried on by this machine's own."""

from __future__ import annotations

from collections.abc import Callable


class RunClock:
    """Seconds since the run was submitted. It never goes back, and never is far ahead."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is this machine's, in seconds."""
        self._clock = clock
        self._ahead = 0.0
        self._last = 0.0

    def least(self, at: float) -> None:
        """Never return less than the time of what was recorded last."""
        self._last = max(self._last, at)

    def set(self, at: float, *, heard: float) -> None:
        """Note that the run's clock read `at` at the latest when this machine's read `heard`."""
        self._ahead = at - heard

    def __call__(self) -> float:
        """Return the run's clock now."""
        self._last = max(self._last, self._clock() + self._ahead)
        return self._last
