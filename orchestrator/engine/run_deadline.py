"""When all of a run's mounts are to be gone, and what may still be begun by then.

A target is begun only if it can end in time: its expected time and half of it again, and a
reserve for the unmount. Expected is the median of its machine's last mounts. Without any, it is
the longest mount that was seen in this run on its server, else on any. While nothing is known,
there is nothing to say that it cannot end. No mount is given more than its time limits.

What takes longer all the same meets a time limit earlier than the plan's: mount and checks get
what is left before the reserve. The task of a mount that runs on is asked to stop then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from orchestrator.core.earlier_runs.durations import MountTimes
from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import MountRequest, ServerName
from orchestrator.core.text import duration

SHARE = 0.2
"""The reserve is `timeouts.unmount`, but at most this share of the deadline."""

SPREAD = 1.5
"""So many times its expected time a mount may take."""


class RunDeadline:
    """The deadline of a run, as one shard knows it; an `Observer` of the shard's ledger."""

    def __init__(
        self,
        allowed_s: float | None = None,
        begins_at: float = 0.0,
        now: Callable[[], float] = lambda: 0.0,
        expected: Callable[[MountRequest], float | None] = lambda request: None,
    ) -> None:
        """`allowed_s` counts from `begins_at`, both on the clock `now`; None: there is no end."""
        self._allowed = math.inf if allowed_s is None else allowed_s
        self._now, self._expected = now, expected
        self._ends_at = begins_at + self._allowed
        self._times = MountTimes()
        self._longest: dict[ServerName, float] = {}

    def remember(self, earlier: Iterable[MountRecord]) -> None:
        """Know the targets that an earlier process has planned."""
        for record in earlier:
            self._times.take(record.planned)

    def ends_in(self, seconds: float) -> None:
        """Move the end: the run's own clock, which is elsewhere, says how much is left."""
        self._ends_at = self._now() + seconds

    def observe(self, event: Event, _record: MountRecord | None) -> None:
        """Note how long a mount took."""
        time = self._times.take(event)
        if time is not None:
            self._longest[time.server] = max(time.seconds, self._longest.get(time.server, 0.0))

    def has_time(self, request: MountRequest) -> bool:
        """Return whether the target may be begun now. Once it may not, it never may again."""
        if self._ends_at == math.inf:  # of most runs
            return True
        return self._now() + self._needed(request) <= self._ends_at

    def why_not(self, request: MountRequest) -> str:
        """Return in words why the target may not be begun."""
        left = max(0.0, self._ends_at - self._now())
        return (
            f"no time: it may need {duration(self._needed(request))}, and the run's deadline was "
            f"{duration(left)} away"
        )

    def left_for(self, request: MountRequest) -> float:
        """Return how many seconds are left before the reserve of a target; inf: no end."""
        return max(0.0, self.last_moment(request) - self._now())

    def last_moment(self, request: MountRequest) -> float:
        """Return when the mount of a target must begin to be removed, on the run's clock."""
        return self._ends_at - self._reserve(request)

    def _reserve(self, request: MountRequest) -> float:
        return min(request.timeouts.unmount, SHARE * self._allowed)

    def _needed(self, request: MountRequest) -> float:
        """Return how many seconds a target may need, from its request to the end of its mount."""
        known = self._expected(request)
        if known is None:
            longest = max(self._longest.values(), default=0.0)
            known = self._longest.get(request.server, longest)
        limits = request.timeouts
        judged = limits.checks if request.checks or request.downloads else 0.0
        return min(SPREAD * known + self._reserve(request), limits.mount + judged + limits.unmount)


NO_DEADLINE = RunDeadline()
"""There is always time."""
