"""How long the rest of a run may take: a range, and None where that cannot be known.

What is left is work, the seconds that mounts keep their slots, over slots: of each backup
server, each server, each wave and the run, whichever takes longest, and waves that wait for
each other one after the other. A server takes no more at once than its ramp gives it by then,
and no two within the start interval. A machine is expected to take what it took in earlier runs,
else what mounts of its server have taken in this one. The other end of the range is the rate
at which targets have been done so far.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from math import inf, sqrt
from typing import NamedTuple

from msgspec import Struct, field

from orchestrator.core.events import RunStarted, ServerFacts
from orchestrator.core.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.core.model import BackupServerName, MountKey, ServerName, WaveName
from orchestrator.core.text import counted, rough
from orchestrator.views.pacing import Pacing

ENOUGH = 3
"""Mounts that must have ended before this run's own durations mean anything."""

USUAL_VARIATION = 0.5
"""Standard deviation over mean of mounts' durations, until enough were measured."""

CERTAINTY = 1.5
"""Standard deviations that the range spans on either side."""

RELEASE_S = 10.0
"""Seconds that removing what was held may take."""

STRAGGLING = 2.0
"""How many times the expected duration a mount takes before nothing is known of its end."""

Expected = Callable[[ServerName, str], float | None]
"""How long a machine's mount took in earlier runs, in seconds; None: not known."""


def nothing_known(_server: ServerName, _vm: str) -> float | None:
    """Return what is expected without a history: nothing."""
    return None


WORKING_PHASES = HOLDING_PHASES - {Phase.HELD}


class TimeLeft(NamedTuple):
    """Seconds to the end of the run, between `low` and `high`.

    `low` None: unknown, because of `why` if that is said. `high` None: nobody can know,
    because of `why`.
    """

    low: float | None = None
    high: float | None = None
    why: str = ""

    @property
    def about(self) -> float | None:
        """The middle of the range, or None while there is no end to it."""
        return None if self.low is None or self.high is None else (self.low + self.high) / 2

    @property
    def words(self) -> str:
        """Return the range as a person reads it."""
        if self.low is None:
            return self.why or "time left: not known"
        if self.high is None:
            return f"at least {rough(self.low)} left, {self.why}"
        middle = (self.low + self.high) / 2
        low, high = rough(self.low), rough(self.high)
        if low == high or self.high - self.low <= max(10.0, 0.25 * middle):
            return f"about {rough(middle)} left"
        return f"{low} to {high} left"


class Lane(NamedTuple):
    """What shares its limits, except those of one machine."""

    wave: WaveName
    server: ServerName
    backup_server: BackupServerName


class _Queue(Struct):
    """What waits in a lane: how many targets, and the seconds of those with a history."""

    known: int = 0
    known_s: float = 0.0
    new: int = 0

    def add(self, seconds: float | None, sign: int = 1) -> None:
        if seconds is None:
            self.new += sign
        else:
            self.known += sign
            self.known_s += sign * seconds


class _SlotTimes(Struct):
    """How long mounts have kept their slots in this run."""

    count: int = 0
    seconds: float = 0.0
    squares: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds
        self.squares += seconds * seconds

    @property
    def variation(self) -> float:
        """Standard deviation over mean; a guess until enough have ended."""
        if self.count < ENOUGH or not self.seconds:
            return USUAL_VARIATION
        mean = self.seconds / self.count
        return sqrt(max(0.0, self.squares / self.count - mean * mean)) / mean

    def mean(self) -> float | None:
        return self.seconds / self.count if self.count >= ENOUGH else None


class Situation(Struct):
    """What the end of the run depends on now; `at` is on the run's clock."""

    at: float
    running: Iterable[MountRecord]
    allowed: Mapping[ServerName, int]
    parked: Iterable[ServerName]
    ending: bool
    """Nothing more is submitted."""


class _Starts(Struct):
    """What waits to be asked for on a server: how many mounts, and their seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        self.count += count
        self.seconds += seconds

    def least(self, interval_s: float) -> float:
        """Return how long it takes to ask for them one after another, and for the last to end."""
        return self.count * interval_s + self.seconds / self.count if interval_s else 0.0


class _SlotWork(Struct):
    """Seconds of slots that are needed, per lane, and the longest single mount among them."""

    seconds: defaultdict[Lane, float] = field(default_factory=lambda: defaultdict(float))
    longest: defaultdict[WaveName, float] = field(default_factory=lambda: defaultdict(float))
    waiting: defaultdict[tuple[WaveName, ServerName], _Starts] = field(
        default_factory=lambda: defaultdict(_Starts)
    )
    straggling: float = 0.0
    """Age of the oldest mount that takes far too long: it may take as long again."""

    def add(self, lane: Lane, seconds: float, longest: float) -> None:
        self.seconds[lane] += seconds
        self.longest[lane.wave] = max(self.longest[lane.wave], longest)


class Eta:
    """Estimates how long the rest may take, from what waits and how long mounts took."""

    def __init__(self, expected: Expected) -> None:
        """Before the first event; `expected` is what earlier runs say."""
        self._expected, self._pacing = expected, Pacing()
        self._servers: dict[ServerName, ServerFacts] = {}
        self._wave_limits: dict[WaveName, float] = {}
        self._after: dict[WaveName, tuple[WaveName, ...]] = {}
        self._order: list[WaveName] = []
        self._run_limit = inf
        self._hold = 0.0
        self._queues: defaultdict[Lane, _Queue] = defaultdict(_Queue)
        self._waiting: dict[MountKey, tuple[Lane, float | None]] = {}
        self._seen: defaultdict[ServerName, _SlotTimes] = defaultdict(_SlotTimes)
        self._all_seen = _SlotTimes()
        self._began = 0.0
        self._first: float | None = None
        """When the first mount since the last wave began was accepted, by this process."""
        self._done = 0
        """Targets that have ended since then."""
        self._started: set[WaveName] = set()

    def begin(self, started: RunStarted) -> None:
        """Take over the limits of a run."""
        self._servers = {facts.name: facts for facts in started.servers}
        self._wave_limits = {w.name: w.mounts_limit or inf for w in started.waves}
        self._after = {wave.name: wave.after for wave in started.waves}
        try:
            self._order = list(TopologicalSorter(self._after).static_order())
        except CycleError:
            self._order = list(self._after)
        self._run_limit = started.mounts_limit or inf
        self._hold = started.hold_s or 0.0
        self._pacing.begin(started)

    def start_process(self, at: float) -> None:
        """Start measuring again: another process goes on with the run."""
        self._began, self._first, self._done = at, None, 0
        self._pacing.start_process()

    def wave_started(self, wave: WaveName) -> None:
        """Start measuring the rate again: it may change with the wave."""
        self._started.add(wave)
        self._first, self._done = None, 0

    def accepted(self, at: float) -> None:
        """Note that a mount was accepted."""
        if self._first is None:
            self._first = at

    def moved(self, record: MountRecord, before: Phase | None, after: Phase) -> None:
        """Note that a target has gone from one phase to another."""
        key = record.planned.key
        if before is Phase.QUEUED:
            self.forget(key)
        if after is Phase.SUBMITTING:
            self._pacing.submitted(record.planned.server, record.attempts[-1].submitted_at)
        if after is Phase.QUEUED:
            lane, seconds = self.lane(record), self._history(record)
            self._waiting[key] = lane, seconds
            self._queues[lane].add(seconds)

    def forget(self, key: MountKey) -> None:
        """Note that a target waits no more."""
        known = self._waiting.pop(key, None)
        if known is not None:
            self._queues[known[0]].add(known[1], -1)

    def concluded(self, record: MountRecord) -> None:
        """Learn from a target that this process mounted from its beginning to its end."""
        self._done += 1
        if not record.attempts or record.attempts[0].submitted_at < self._began:
            return
        seconds = sum(s.end - s.start for s in record.spans if s.phase in WORKING_PHASES)
        for seen in (self._seen[record.planned.server], self._all_seen):
            seen.add(seconds)

    def is_ramp(self, server: ServerName, allowed: int, at: float) -> bool:
        """Return whether it is the ramp alone that holds a server down to so many mounts."""
        return self._pacing.is_ramp(server, allowed, at)

    def time_left(self, now: Situation, left: int) -> TimeLeft:
        """Return how long the rest may take; `left` are the targets without a result."""
        running = list(now.running)
        work = self._work(now, running)
        if work is None or (not left and not running):
            return TimeLeft()
        bound = self._bound(work, now)
        error = self._error(left)
        why = self._open_end(now, running)
        if why:
            return TimeLeft(bound * (1 - error), None, why)
        ends = [bound, *self._at_this_rate(now, left, len(running))]
        tail = max(work.longest.values(), default=0.0) / 2  # the last ones do not end together
        high = max(max(ends) * (1 + error) + tail, work.straggling)
        held = [record for record in running if record.phase is Phase.HELD]
        kept = max((self._rest_of(record, None, now.at) or 0.0 for record in held), default=0.0)
        if len(held) == left:  # nothing else is left, and their end is known
            return TimeLeft(kept, kept + RELEASE_S)
        return TimeLeft(max(min(ends) * (1 - error), kept), max(high, kept + RELEASE_S))

    def _error(self, left: int) -> float:
        """Return how far off, as a fraction, a sum over the targets that are left may be."""
        seen = self._all_seen
        known = seen.count + sum(queue.known for queue in self._queues.values())
        spread = sqrt(1 / max(1, left) + 1 / max(ENOUGH, known))
        return min(0.8, max(0.05, CERTAINTY * seen.variation * spread))

    def _at_this_rate(self, now: Situation, left: int, running: int) -> Iterator[float]:
        """Yield how long the rest takes at the rate so far, if the rest is of the same kind."""
        enough = self._done >= max(ENOUGH, running)  # else most of what has begun has not ended
        later_waves = any(
            queue.known + queue.new > 0 and lane.wave not in self._started
            for lane, queue in self._queues.items()
        )
        same = not now.ending and not now.allowed and not later_waves
        if self._first is not None and enough and same:
            yield (now.at - self._first) / self._done * left

    def waiting(self) -> Iterator[tuple[Lane, int]]:
        """Yield how many targets wait for a slot in each lane."""
        for lane, queue in self._queues.items():
            if queue.known + queue.new:
                yield lane, queue.known + queue.new

    def slots(self, resource: object) -> float:
        """Return how many mounts the plan allows a server, a backup server or (None) the run."""
        return self._slots(resource, {})

    # --- parts -------------------------------------------------------------------------------

    def lane(self, record: MountRecord) -> Lane:
        """Return which limits a target counts in."""
        planned, point = record.planned, record.point
        backup = point.backup_server if point else planned.backup_server
        return Lane(planned.wave, planned.server, backup)

    def _history(self, record: MountRecord) -> float | None:
        return self._expected(record.planned.server, record.planned.vm)

    def _typical(self) -> Mapping[ServerName, float | None]:
        """Return what a machine without a history is expected to take, per server."""
        known = sum(queue.known for queue in self._queues.values())
        new = sum(queue.new for queue in self._queues.values())
        fallback = self._all_seen.mean()
        if fallback is None and known and known >= new:
            fallback = sum(queue.known_s for queue in self._queues.values()) / known
        means = {server: seen.mean() for server, seen in self._seen.items()}
        return defaultdict(
            lambda: fallback, {server: mean for server, mean in means.items() if mean is not None}
        )

    def _work(self, now: Situation, running: list[MountRecord]) -> _SlotWork | None:
        """Return the work that is left, or None where too little is known of it."""
        work, typical = _SlotWork(), self._typical()
        for record in running:
            lane = self.lane(record)
            each = self._history(record)
            each = typical[lane.server] if each is None else each
            time_left = self._rest_of(record, each, now.at)
            if time_left is None:
                return None
            if each is not None and (age := _age(record, now.at)) > STRAGGLING * each:
                work.straggling = max(work.straggling, age)
            work.add(lane, time_left, time_left)
        if now.ending:
            return work
        for lane, queue in self._queues.items():
            each = typical[lane.server]
            if queue.new and each is None:
                return None
            count = queue.known + queue.new
            if count:
                seconds = queue.known_s + queue.new * (each or 0.0) + count * self._hold
                work.add(lane, seconds, seconds / count)
                work.waiting[lane.wave, lane.server].add(count, seconds)
        return work

    def _rest_of(self, record: MountRecord, expected: float | None, at: float) -> float | None:
        """Return the seconds that a running mount still needs; a late one a part of its age."""
        if record.phase is Phase.HELD:
            return max(0.0, record.kept_until - at) if record.kept_until is not None else 0.0
        if expected is None:
            return None
        age = _age(record, at)
        return max(expected - age, 0.2 * age if age > expected else 0.0) + self._hold

    def _bound(self, work: _SlotWork, now: Situation) -> float:
        """Return the seconds that the work takes at the least, under all limits."""
        by_wave: defaultdict[WaveName, defaultdict[object, float]]
        by_wave = defaultdict(lambda: defaultdict(float))
        in_all: defaultdict[object, float] = defaultdict(float)
        for lane, seconds in work.seconds.items():
            for resource in ((lane.server, lane.backup_server), lane.server, None):
                by_wave[lane.wave][resource] += seconds
                in_all[resource] += seconds
        starts = self._starts(work)
        whole = max(self._longest(in_all, now, 0.0), *starts.values(), 0.0)
        ends: dict[WaveName, float] = {}
        for wave in self._order:
            begin = max((ends.get(w, 0.0) for w in self._after.get(wave, ())), default=0)
            most = max(self._longest(by_wave[wave], now, begin), work.longest[wave])
            most = max(most, by_wave[wave][None] / self._wave_limits.get(wave, inf))
            ends[wave] = begin + max(most, starts.get(wave, 0.0))
        return max([whole, *ends.values(), *work.longest.values()])

    def _starts(self, work: _SlotWork) -> dict[WaveName, float]:
        """Return how long it takes, in each wave, until all that waits is asked for and ends."""
        found: dict[WaveName, float] = {}
        for (wave, _server), starts in work.waiting.items():
            found[wave] = max(found.get(wave, 0.0), starts.least(self._pacing.interval_s))
        return found

    def _longest(self, work: Mapping[object, float], now: Situation, later: float) -> float:
        """Return how long the work takes that begins `later` seconds from now."""
        return max(
            (self._takes(resource, seconds, now, later) for resource, seconds in work.items()),
            default=0.0,
        )

    def _takes(self, resource: object, seconds: float, now: Situation, later: float) -> float:
        slots = self._slots(resource, now.allowed)
        if not isinstance(resource, str):
            return seconds / slots
        server, allowed = ServerName(resource), now.allowed.get(ServerName(resource))
        if allowed is not None and not self._pacing.is_ramp(server, allowed, now.at):
            return seconds / slots  # it is in trouble, and nobody knows for how long
        slots = self._slots(resource, {})
        return self._pacing.seconds(server, seconds, slots, now.at + later)

    def _slots(self, resource: object, allowed: Mapping[ServerName, int]) -> float:
        """Return how many mounts a backup server, a server or (None) the run may have open."""
        if resource is None:
            return self._run_limit
        if isinstance(resource, tuple):
            facts = self._servers.get(resource[0])
            if facts is None:
                return inf
            return facts.backup_server_limits.get(resource[1], facts.default_backup_server_limit)
        facts = self._servers.get(ServerName(str(resource)))
        limit = facts.mounts_limit if facts is not None else None
        return min(limit or inf, allowed.get(ServerName(str(resource)), inf))

    def _open_end(self, now: Situation, running: list[MountRecord]) -> str:
        """Return why the end of the run cannot be known, or nothing."""
        if any(r.phase is Phase.HELD and r.kept_until is None for r in running):
            return "a mount is held until somebody ends it"
        parked = set(now.parked)
        needed = {record.planned.server for record in running}
        if not now.ending:
            needed |= {lane.server for lane, each in self._queues.items() if each.known + each.new}
        waits = sorted(parked & needed)
        return f"{counted(len(waits), 'server')} out of reach" if waits else ""


def _age(record: MountRecord, at: float) -> float:
    """Return the seconds since a mount was submitted; a held one is not waited for."""
    held = record.phase is Phase.HELD or not record.attempts
    return 0.0 if held else at - record.attempts[-1].submitted_at
