"""One run without a clock: the real scheduler and the waves, each mount taking a given time."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

from msgspec import Struct

from orchestrator.core.model import MountKey, MountRequest, ServerName, WaveFacts, WaveName
from orchestrator.engine.limits import Limits
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.slot import Slot
from orchestrator.engine.waiting import Resource

Seconds = Callable[[MountRequest], float]
"""How long a mount of a target takes, from its slot to the end of the unmount."""


class OfWave(NamedTuple):
    """The limit of a wave."""

    wave: WaveName


Limited = Resource | OfWave
"""What has a limit: None for the run, a wave, a server, a backup server or a machine."""


class PlayedMount(Struct):
    """One mount of a play; times in seconds since the start of the run."""

    request: MountRequest
    start: float
    """When it got its slot; a start interval may let it wait before it is asked for."""
    done: float
    """When its target is decided; a hold comes after it."""
    end: float
    """When its slot is given back."""
    after: PlayedMount | None = None
    """The mount whose slot it got; None: there was room when its wave began."""
    waited_for: tuple[Limited, ...] = ()
    """The limits that were full until then, and that it shares with that mount."""


class PlayedWave(Struct):
    """When a wave began, and when its last target was decided.

    `after` is the mount whose verdict let it begin; None: it waited for nothing.
    """

    name: WaveName
    start: float
    end: float
    after: PlayedMount | None = None


class Played(Struct):
    """A run that was played to its end. An empty wave has `start` equal to `end`."""

    waves: dict[WaveName, PlayedWave]
    mounts: list[PlayedMount]
    end: float
    last: PlayedMount | None


def play(
    requests: Sequence[MountRequest],
    waves: Sequence[WaveFacts],
    limits: Limits,
    takes: Seconds,
    *,
    expected: Seconds | None = None,
    begins: float = 0.0,
    answer: float = 0.0,
    hold: float = 0.0,
    bounds: Bounds | None = None,
) -> Played:
    """Return how a run goes in which each mount takes as long as `takes` says.

    The scheduler only knows what is `expected`. The first wave begins at `begins`, each mount
    request is answered within `answer`, each mount is held for `hold`, and nothing fails. Nothing
    waits for servers that slow down, or other runs. `bounds` are those of the `limits`: several
    plays with the same limits share them.
    """
    bounds = bounds or Bounds(limits)
    pace = _Pace(limits, answer, Counter(each.server for each in requests))
    return _Play(
        requests, waves, limits, takes, expected or takes, begins, hold, pace, bounds
    ).to_the_end()


class _Play:
    """The state between two events: what is open, what waits, and what is full."""

    def __init__(
        self,
        requests: Sequence[MountRequest],
        waves: Sequence[WaveFacts],
        limits: Limits,
        takes: Seconds,
        expected: Seconds,
        begins: float,
        hold: float,
        pace: _Pace,
        bounds: Bounds,
    ) -> None:
        self._takes, self._hold, self._now, self._pace = takes, hold, begins, pace
        self._waiting = {wave.name: wave.after for wave in waves}
        self._left = Counter(each.wave for each in requests)
        self._requests: defaultdict[WaveName, list[MountRequest]] = defaultdict(list)
        for request in requests:
            self._requests[request.wave].append(request)
        self._scheduler = Scheduler(limits, list(self._waiting), expected, pace.allowance)
        self._bounds = bounds
        self._open: dict[Limited, int] = defaultdict(int)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._freed: PlayedMount | None = None
        self._were_full: tuple[Limited, ...] = ()
        self._played = Played(waves={}, mounts=[], end=begins, last=None)

    def to_the_end(self) -> Played:
        """Go from event to event until nothing is open."""
        self._start_waves()
        while self._events:
            self._now, _, do, what = heapq.heappop(self._events)
            do(*what)
        return self._played

    def _later(self, at: float, do: Callable[..., None], *what: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, do, what))

    def _end(self, mount: PlayedMount, slot: Slot) -> None:
        self._decide(mount)
        self._release(mount, slot)

    def _count_less(self, request: MountRequest) -> tuple[Limited, ...]:
        """Count a mount no more; return its limits that were full with it."""
        full, is_open = [], self._open
        for each, limit in self._bounds.of(request):
            if is_open[each] >= limit:
                full.append(each)
            is_open[each] -= 1
        return tuple(full)

    def _begin_hold(self, mount: PlayedMount, slot: Slot) -> None:
        slot.idle(endless=False)
        self._decide(mount)

    def _give_more(self, server: ServerName) -> None:
        """Go one step up the ramp of a server, and on while something waits there."""
        self._pace.step(server)
        self._scheduler.open_server(server)
        self._climb(server)

    def _climb(self, server: ServerName) -> None:
        next_step = self._pace.next_step(server)
        if next_step is not None:
            self._later(self._now + next_step, self._give_more, server)

    def _release(self, mount: PlayedMount, slot: Slot) -> None:
        self._played.end, self._played.last = self._now, mount
        self._freed, self._were_full = mount, self._count_less(mount.request)
        slot.release()
        self._freed, self._were_full = None, ()

    def _decide(self, mount: PlayedMount) -> None:
        name = mount.request.wave
        self._left[name] -= 1
        self._played.waves[name].end = self._now
        if not self._left[name]:
            self._start_waves(mount)

    def _start_waves(self, after: PlayedMount | None = None) -> None:
        """Offer every wave of which all predecessors have ended; an empty one ends at once."""
        ready = [name for name, after in self._waiting.items() if all(map(self._is_over, after))]
        for name in ready:
            del self._waiting[name]
            self._played.waves[name] = PlayedWave(name, self._now, self._now, after)
        for name in ready:
            self._scheduler.offer(self._requests[name], self._deliver)
        if any(self._is_over(name) for name in ready):
            self._start_waves(after)

    def _is_over(self, wave: WaveName) -> bool:
        return wave not in self._waiting and not self._left[wave]

    def _deliver(self, request: MountRequest, slot: Slot | None) -> None:
        if slot is None:
            return  # no slot is ever forfeited here
        is_first, wait = self._pace.begin(request.server, self._now)
        done = self._now + wait + self._takes(request)
        shared: tuple[Limited, ...] = ()
        own = self._bounds.of(request)
        if self._were_full:
            shared = tuple(each for each, _ in own if each in self._were_full)
        mount = PlayedMount(request, self._now, done, done + self._hold, self._freed, shared)
        for each, _ in own:
            self._open[each] += 1
        self._played.mounts.append(mount)
        if self._hold:
            self._later(mount.done, self._begin_hold, mount, slot)
            self._later(mount.end, self._release, mount, slot)
        else:
            self._later(mount.done, self._end, mount, slot)
        if is_first:
            self._climb(request.server)


class _Pace:
    """How fast each server is given mounts: the start interval and the ramp of the plan."""

    def __init__(self, limits: Limits, answer: float, to_come: Counter[ServerName]) -> None:
        """`to_come` counts the mounts that each server will be asked for."""
        self._ramp, self._limits, self._to_come = limits.ramp, limits.servers, to_come
        self._apart = answer + limits.start_interval if limits.start_interval else 0.0
        self._turn: dict[ServerName, float] = {}
        self._steps: Counter[ServerName] = Counter()

    def allowance(self, server: ServerName) -> float:
        """Return how many mounts the server is given now."""
        return inf if self._ramp is None else self._ramp.mounts * (1 + self._steps[server])

    def begin(self, server: ServerName, now: float) -> tuple[bool, float]:
        """Return whether a mount is the first of its server, and how long it waits for its turn."""
        turn = self._turn.get(server)
        wait = 0.0 if turn is None else max(0.0, turn - now)
        self._turn[server] = now + wait + self._apart
        self._to_come[server] -= 1
        return turn is None, wait

    def step(self, server: ServerName) -> None:
        """Give the server more."""
        self._steps[server] += 1

    def next_step(self, server: ServerName) -> float | None:
        """Return the seconds until the server is given more; None: no matter any more."""
        if self._ramp is None or self._to_come[server] <= 0:
            return None
        limit = self._limits.get(server, inf)
        return self._ramp.every if self.allowance(server) < limit else None


class Bounds:
    """The limits that each target's mount counts in."""

    def __init__(self, limits: Limits) -> None:
        """Found once for each target."""
        self._limits = limits
        self._backup = limits.by_folded_name()
        self._known: dict[MountKey, tuple[tuple[Limited, int], ...]] = {}

    def of(self, request: MountRequest) -> tuple[tuple[Limited, int], ...]:
        """Return what has a limit that a mount counts in, the widest first, with the limit."""
        found = self._known.get(request.key)
        if found is None:
            found = self._known[request.key] = tuple(self._of(request))
        return found

    def _of(self, request: MountRequest) -> Iterator[tuple[Limited, int]]:
        limits, server, backup = self._limits, request.server, request.backup_server
        default = limits.backup_server_default
        own: tuple[tuple[Limited, int | None], ...] = (
            (None, limits.run),
            (OfWave(request.wave), limits.waves.get(request.wave)),
            (server, limits.servers.get(server)),
            ((server, backup), self._backup.get((server, backup.casefold()), default)),
            ((server, backup, request.vm), limits.per_vm),
        )
        for resource, limit in own:
            if limit is not None:
                yield resource, limit
