"""How long a run may take: its mounts passed through the real scheduler, without a clock."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from statistics import median

from msgspec import Struct

from orchestrator.core.model import MountRequest, WaveName
from orchestrator.core.ports.journal import Durations
from orchestrator.engine.limits import Limits
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.slot import Slot
from orchestrator.plan.file.settings import Wave


class ExpectedDuration(Struct, frozen=True, kw_only=True):
    """`seconds` is None where no target was ever mounted; `unknown` of `targets` were not."""

    seconds: float | None
    unknown: int
    targets: int


def expected_duration(
    requests: Sequence[MountRequest], waves: Sequence[Wave], limits: Limits, durations: Durations
) -> ExpectedDuration:
    """Return how long the run takes if every mount takes as long as it usually does.

    Machines without a history count as the median of the others. Nothing fails, nothing is
    slowed down by load, and servers answer at once: hardly ever shorter, often longer.
    """
    known = {each.key: durations.expected(each.server, each.vm) for each in requests}
    history = [seconds for seconds in known.values() if seconds is not None]
    unknown = len(known) - len(history)
    if not history:
        return ExpectedDuration(seconds=None, unknown=unknown, targets=len(known))
    usual = median(history)

    def seconds_of(request: MountRequest) -> float:
        seconds = known[request.key]
        return usual if seconds is None else seconds

    played = _Play(requests, waves, limits, seconds_of)
    return ExpectedDuration(seconds=played.end(), unknown=unknown, targets=len(known))


class _Play:
    """The waves of a run, each mount taking exactly its expected seconds."""

    def __init__(
        self,
        requests: Sequence[MountRequest],
        waves: Sequence[Wave],
        limits: Limits,
        seconds_of: Callable[[MountRequest], float],
    ) -> None:
        self._requests = requests
        self._waiting = {wave.name: wave.after for wave in waves}
        self._left = Counter(each.wave for each in requests)
        self._admission = Scheduler(limits, [wave.name for wave in waves], seconds_of)
        self._seconds_of = seconds_of
        self._open: list[tuple[float, int, Slot]] = []
        self._number = count()
        self._now = 0.0

    def end(self) -> float:
        """Return when the last mount is gone."""
        self._start_waves()
        while self._open:
            self._now, _, slot = heapq.heappop(self._open)
            self._left[slot.request.wave] -= 1
            slot.release()
            if not self._left[slot.request.wave]:
                self._start_waves()
        return self._now

    def _start_waves(self) -> None:
        """Offer every wave of which all predecessors have ended; an empty one ends at once."""
        ready = [name for name, after in self._waiting.items() if all(map(self._is_over, after))]
        for name in ready:
            del self._waiting[name]
        for name in ready:
            self._admission.offer(
                [each for each in self._requests if each.wave == name], self._deliver
            )
        if any(self._is_over(name) for name in ready):
            self._start_waves()

    def _is_over(self, wave: WaveName) -> bool:
        return wave not in self._waiting and not self._left[wave]

    def _deliver(self, request: MountRequest, slot: Slot | None) -> None:
        if slot is not None:
            ends = self._now + self._seconds_of(request)
            heapq.heappush(self._open, (ends, next(self._number), slot))
