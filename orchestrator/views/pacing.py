"""How fast the plan lets each server be given mounts: `start_interval` and `ramp`."""

from __future__ import annotations

from math import floor, inf

from orchestrator.core.events import RunStarted
from orchestrator.core.model import ServerName

LATE_S = 5.0
"""Seconds after a step of the ramp within which the run may not have taken it yet."""


class Pacing:
    """What the ramps of a run have given so far, and how long work takes on their way up."""

    def __init__(self) -> None:
        """Without start interval and ramp."""
        self.interval_s = 0.0
        self._mounts, self._every = inf, inf
        self._begun: dict[ServerName, float] = {}

    def begin(self, started: RunStarted) -> None:
        """Take over what the plan says."""
        self.interval_s = started.start_interval_s or 0.0
        if started.ramp is not None:
            self._mounts, self._every = started.ramp.mounts, started.ramp.every

    def start_process(self) -> None:
        """Begin every ramp anew: another process goes on with the run."""
        self._begun = {}

    def submitted(self, server: ServerName, at: float) -> None:
        """Note that a server was asked for a mount: its ramp counts from the first one."""
        self._begun.setdefault(server, at)

    def given(self, server: ServerName, at: float) -> float:
        """Return how many mounts the ramp of a server allows at a second of the run."""
        return self._mounts * (1 + self._steps(server, at))

    def is_ramp(self, server: ServerName, allowed: int, at: float) -> bool:
        """Return whether it is the ramp alone that holds a server down to so many mounts."""
        return self._mounts < inf and allowed >= self.given(server, at - LATE_S)

    def seconds(self, server: ServerName, work: float, limit: float, at: float) -> float:
        """Return how long a server takes from `at` on for so many seconds of slots."""
        begun, step = self._begun.get(server, at), self._steps(server, at)
        passed = 0.0
        while (slots := self._mounts * (1 + step)) < limit:
            step += 1
            until = begun + step * self._every - at
            if work <= slots * (until - passed):
                return passed + work / slots
            work -= slots * (until - passed)
            passed = until
        return passed + work / limit

    def _steps(self, server: ServerName, at: float) -> int:
        """Return how many steps a ramp has taken; none before its first mount."""
        since = at - self._begun.get(server, at)
        return 0 if self._every == inf else max(0, floor(since / self._every))
