"""How long mounts take in a forecast, from what earlier runs measured.

The first play has each machine take what it took the last time, the second what it took the time
before, and so on. So a day on which everything was slow stays one such day.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from orchestrator.core.model import MountKey, MountRequest
from orchestrator.core.ports.journal import Durations
from orchestrator.engine.forecast.play import Seconds
from orchestrator.engine.limits import UNKNOWN_DURATION

WITHOUT_HISTORY = 120.0
"""Seconds that a mount counts of which no earlier run knows anything."""

HALF_OR_TWICE = 2.0
"""The ends of the range count such a mount half and twice as long."""


class MountHistory:
    """What earlier runs measured for the targets of a plan."""

    def __init__(
        self, requests: Sequence[MountRequest], durations: Durations, per_mount: float
    ) -> None:
        """`per_mount` are seconds that each mount takes beside what earlier runs measured."""
        recent = {each.key: durations.recent(each.server, each.vm) for each in requests}
        self._recent = {key: seen[::-1] for key, seen in recent.items() if seen}
        self._usual = {key: median(seen) for key, seen in self._recent.items()}
        self._per_mount = per_mount
        self.depth = max(map(len, self._recent.values()), default=0)
        """How many mounts are known of the machine that was mounted most, at most a few."""

    def knows(self, key: MountKey) -> bool:
        """Return whether a target's machine was mounted before."""
        return key in self._recent

    def expected(self, request: MountRequest) -> float:
        """Return what the scheduler of a run expects."""
        return self._usual.get(request.key, UNKNOWN_DURATION)

    def as_before(self, runs_ago: int, unknown: float = WITHOUT_HISTORY) -> Seconds:
        """Return what each mount takes if it goes as it went so many times ago; 0: the last."""
        recent, per_mount = self._recent, self._per_mount

        def takes(request: MountRequest) -> float:
            seen = recent.get(request.key)
            seconds = seen[runs_ago % len(seen)] if seen else unknown
            return seconds + per_mount

        return takes
