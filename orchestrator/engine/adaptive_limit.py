"""The adaptive limit of one server: its open mounts now, between 1 and the plan's limit.

The gate says whether a server may be asked at all, the pace how much it is asked for.

- Overload (503, 429, no answer in time, a reset) while several mounts are open shrinks the
  level to a share of what was open. One closing of the gate shrinks it once, however many
  requests met the same trouble.
- Growth is gradual: while the level is what holds mounts back and answers are good, it grows
  by 1, 2, 4, ... at a time. After overload it first stands still, twice as long each time, so
  that refusals become rare; growing past the level that failed makes it forget that.
- After an outage the allowance ramps up from 1, doubling, to the level of before. A server
  that answered not even the probes was down, not overloaded: what was shrunk is taken back.
- Where the plan has a ramp, the allowance grows with it from the first mount on, too: the
  least of all counts.

Mounts that are open above the allowance stay open; only nothing is added to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from orchestrator.core.model import Ramp

SHRINK = 0.8
"""What overload leaves of the number of open mounts."""

TICK = 3.0
"""Seconds between two steps of a ramp: 500 mounts are reached after 27 s."""

GROWTH_S = 9.0
"""Seconds between two steps of growth."""

HOLD_S, LONGEST_HOLD_S = 30.0, 240.0
"""Seconds without growth after overload: the first time, and at most."""

PROBES_OF_AN_OUTAGE = 4
"""So many probes without an answer (30 s) are an outage; overload lets a lone read through."""


class AdaptiveLimit:
    """How many mounts one server may have open now. Times are the loop's seconds."""

    def __init__(
        self,
        limit: int | None = None,
        in_use: Callable[[], int] = lambda: 0,
        start: Ramp | None = None,
    ) -> None:
        """`limit` and `start` are the plan's, if it names them; `in_use` counts open mounts."""
        self._limit = math.inf if limit is None else float(limit)
        self._in_use = in_use
        self._level = self._limit
        self._ramp = math.inf
        self._start, self._begun_at = start, math.inf
        self._given = math.inf if start is None else float(start.mounts)
        """What the plan's ramp has given by now."""
        self._step = 1.0
        self._grow_at = 0.0
        self._hold = HOLD_S
        self._failed_at = math.inf
        self._too_many = math.inf
        self._undo: tuple[float, float, float] | None = None
        self._good = False
        self._limiting = anyio.Event()

    @property
    def allowance(self) -> float:
        """Mounts that may be open now: whole, at least 1, at most the limit; inf without one."""
        allowed = min(self._limit, self._level, self._ramp, self._given)
        return max(1.0, allowed if math.isinf(allowed) else math.floor(allowed))

    def raise_to(self, limit: int) -> None:
        """Allow up to `limit` where a person allows more than the plan; never less than now."""
        if limit > self._limit:
            if self._level >= self._limit:
                self._level = float(limit)
            self._limit = float(limit)

    @property
    def is_limiting(self) -> bool:
        """True while the server gets less than the plan would give it."""
        return self.allowance < self._limit

    @property
    def has_failed(self) -> bool:
        """True while as many mounts are open as were too many, and never taken since."""
        return self._in_use() >= self._too_many

    def begin(self, now: float) -> None:
        """Note that the first mount is asked for: the plan's ramp counts from here. Repeatable."""
        self._begun_at = min(self._begun_at, now)

    def took(self) -> None:
        """Note that the server took a mount with as many open as there are now."""
        self._good = True
        if self._in_use() > self._too_many:
            self._too_many = math.inf

    def good(self) -> None:
        """Note a good answer."""
        self._good = True

    def overloaded(self, now: float) -> None:
        """Shrink: the server is overloaded. Call once each time that requests are stopped."""
        in_use = self._in_use()
        if in_use < 2:
            return  # one mount is the least there is: no load of ours
        self._undo = min(self._level, self._ramp), self._hold, self._too_many
        self._too_many = min(self._too_many, in_use)
        self._failed_at = min(self.allowance, in_use)
        self._level = max(1.0, SHRINK * self._failed_at)
        self._grow_at = now + self._hold
        self._hold = min(2 * self._hold, LONGEST_HOLD_S)
        self._step = 1.0
        self._good = False
        self._limiting.set()

    def reopened(self, unanswered: int) -> None:
        """Begin a ramp after trouble in which so many probes were `unanswered`."""
        if self._undo is not None and unanswered >= PROBES_OF_AN_OUTAGE:
            self._level, self._hold, self._too_many = self._undo
            self._grow_at = 0.0
        self._undo = None
        self._ramp = 1.0
        self._limiting.set()

    async def limiting(self) -> None:
        """Return once the server gets less than the plan would give it."""
        if not self.is_limiting:
            self._limiting = anyio.Event()
            await self._limiting.wait()

    def tick(self, now: float) -> bool:
        """Ramp or grow if due, every `TICK` seconds while the server answers; True if it did."""
        before = self.allowance
        good, self._good = self._good, False
        self._give_more(now)
        if self._ramp < self._level:
            self._ramp *= 2
        elif (
            good and self._level < self._limit and now >= self._grow_at and self._in_use() >= before
        ):
            self._grow(now)
        if self._ramp >= self._level:
            self._ramp = math.inf
        return self.allowance > before

    def _give_more(self, now: float) -> None:
        """Follow the plan's ramp; without a limit of the server it has no end."""
        if self._start is not None and now >= self._begun_at:
            steps = 1 + math.floor((now - self._begun_at) / self._start.every)
            self._given = float(steps * self._start.mounts)

    def _grow(self, now: float) -> None:
        self._level = min(math.floor(self._level) + self._step, self._limit)
        self._step *= 2
        self._grow_at = now + GROWTH_S
        if self._level > self._failed_at + 1:
            self._hold = HOLD_S
