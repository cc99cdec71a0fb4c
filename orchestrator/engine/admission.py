"""Bounded concurrency that never leaves a usable slot idle.

Four limits are nested: the whole run (and the wave), the Enterprise Manager, the backup
server that carries the mount, the machine itself. A request is admitted when all of them
have room. Whenever something changes, the best admissible request is chosen: by wave, then
critical targets, then whatever bounds the end of the run the most (the longest machine, or
the backup server or Enterprise Manager with the fullest backlog for its limit). Requests
behind a full narrow limit are skipped, not waited for.

Everything is synchronous: admission happens inside `offer` and `Slot.release`, so there is
no moment in which a slot is free and nobody has looked.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.model import BackupServerName, MountRequest, ServerName, WaveName

Machine = tuple[ServerName, BackupServerName, str]
Deliver = Callable[[MountRequest, "Slot | None"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many mounts may be open at once; None means that the plan names no limit."""

    run: int | None = None
    per_vm: int = 1
    waves: Mapping[WaveName, int] = field(default_factory=dict)
    servers: Mapping[ServerName, int] = field(default_factory=dict)
    backup_servers: Mapping[tuple[ServerName, BackupServerName], int] = field(default_factory=dict)
    backup_server_default: int = 4


class _Lane(NamedTuple):
    """What shares every limit but the machine's: one wave on one backup server."""

    wave: WaveName
    server: ServerName
    backup_server: BackupServerName


class _Waiting(NamedTuple):
    """One offered request, ordered as its lane serves it."""

    rank: int
    longest_first: float
    number: int
    request: MountRequest
    deliver: Deliver


class Slot:
    """The right to have one mount open. Hold it until the mount is known to be gone."""

    __slots__ = ("_admission", "_idle", "_lane", "request")

    def __init__(self, admission: Admission, request: MountRequest, lane: _Lane) -> None:
        """Made by Admission only."""
        self.request = request
        self._lane = lane
        self._admission: Admission | None = admission
        self._idle: bool | None = None

    def idle(self, *, endless: bool) -> None:
        """Note that its mount is only held open now: it counts in every limit, and is no load.

        What waits for a limit that `endless` ones have used up gets no slot any more.
        """
        if self._admission is not None and self._idle is None:
            self._idle = endless
            self._admission._rest(self.request, self._lane, endless=endless)  # noqa: SLF001 - two halves of one thing

    def wake(self) -> None:
        """Note that its mount is worked on again. Repeatable."""
        endless, self._idle = self._idle, None
        if self._admission is not None and endless is not None:
            self._admission._wake(self.request, self._lane, endless=endless)  # noqa: SLF001 - two halves of one thing

    def release(self) -> None:
        """Give the slot back; whoever is next is admitted before this returns. Repeatable."""
        self.wake()
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._release(self.request, self._lane)  # noqa: SLF001 - two halves of one thing

    def forfeit(self) -> None:
        """Never give it back: a mount that nobody can see may still be open."""
        self.wake()
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._forfeit(self.request, self._lane)  # noqa: SLF001 - two halves of one thing


class Admission:
    """Admits offered requests within the limits, the best one first."""

    def __init__(
        self,
        limits: Limits,
        waves: Iterable[WaveName],
        expected: Callable[[MountRequest], float],
        allowance: Callable[[ServerName], float] = lambda server: math.inf,
    ) -> None:
        """`waves` in the order of the plan; `expected` gives a mount's seconds, roughly.

        `allowance` says how many mounts a server bears now (see `pace`); the limits hold too.
        """
        self._limits = limits
        self._order = {wave: place for place, wave in enumerate(waves)}
        self._expected = expected
        self._allowance = allowance
        self._lanes: dict[_Lane, list[_Waiting]] = {}
        self._behind: dict[Machine, list[_Waiting]] = defaultdict(list)
        self._open_run = 0
        self._open_wave: Counter[WaveName] = Counter()
        self._open_server: Counter[ServerName] = Counter()
        self._open_backup: Counter[tuple[ServerName, BackupServerName]] = Counter()
        self._open_machine: Counter[Machine] = Counter()
        self._backlog_server: defaultdict[ServerName, float] = defaultdict(float)
        self._backlog_backup: defaultdict[tuple[ServerName, BackupServerName], float] = defaultdict(
            float
        )
        self._forfeited: Counter[object] = Counter()
        self._endless: Counter[object] = Counter()
        self._idle: Counter[ServerName] = Counter()
        self._closed_servers: set[ServerName] = set()
        self._lost_servers: set[ServerName] = set()
        self._closed = False
        self._number = 0

    @property
    def open_mounts(self) -> int:
        """Slots that are held now."""
        return self._open_run

    def open_on(self, server: ServerName) -> int:
        """Slots that are held on one Enterprise Manager now."""
        return self._open_server[server]

    def working_on(self, server: ServerName) -> int:
        """Slots whose mounts are worked on there: not those that only are held open, or lost."""
        return self._open_server[server] - self._forfeited[server] - self._idle[server]

    @property
    def is_held_full(self) -> bool:
        """True while mounts that are held without end take slots."""
        return self._endless[None] > 0

    def offer(self, requests: Iterable[MountRequest], deliver: Deliver) -> None:
        """Queue `requests`; `deliver` gets each one with its slot, now or later.

        Without a slot it says that none will ever come: admission was closed, its server was
        given up, or so many slots were forfeited, or are held without end, that the limits have
        no room left.
        """
        for request in requests:
            lost = request.server in self._lost_servers
            if self._closed or lost or self._starved(request):
                deliver(request, None)
                continue
            self._number += 1
            seconds = self._expected(request)
            rank = 0 if request.critical else 1
            waiting = _Waiting(rank, -seconds, self._number, request, deliver)
            self._backlog_server[request.server] += seconds
            self._backlog_backup[request.server, request.backup_server] += seconds
            self._queue(waiting)
        self._admit()

    def occupy(self, request: MountRequest) -> Slot:
        """Return the slot of a mount that may be open already; it counts, whatever the limits."""
        lane = _Lane(request.wave, request.server, request.backup_server)
        seconds = self._expected(request)
        self._backlog_server[request.server] += seconds
        self._backlog_backup[request.server, request.backup_server] += seconds
        self._count(request, lane, 1)
        return Slot(self, request, lane)

    def close_server(self, server: ServerName) -> None:
        """Admit nothing more on this server until it is opened again."""
        self._closed_servers.add(server)

    def open_server(self, server: ServerName) -> None:
        """Admit on this server again."""
        self._closed_servers.discard(server)
        self._admit()

    def give_up_server(self, server: ServerName) -> None:
        """Admit nothing on this server, ever; what waits for it is withdrawn."""
        self._lost_servers.add(server)
        self.close_server(server)
        self.withdraw(server)

    def withdraw(self, server: ServerName | None = None) -> tuple[MountRequest, ...]:
        """Take back everything that waits (on `server`, or all); each gets no slot.

        Returns the requests, in the order in which they were offered.
        """
        taken: list[_Waiting] = []
        for lane in [lane for lane in self._lanes if server in (None, lane.server)]:
            taken += self._lanes.pop(lane)
        for machine in [name for name in self._behind if server in (None, name[0])]:
            taken += self._behind.pop(machine)
        taken.sort(key=lambda waiting: waiting.number)
        for waiting in taken:
            self._lighten(waiting.request)
        for waiting in taken:
            waiting.deliver(waiting.request, None)
        return tuple(waiting.request for waiting in taken)

    def close(self) -> None:
        """Admit nothing more, ever; what waits is withdrawn."""
        self._closed = True
        self.withdraw()

    # --- choosing ----------------------------------------------------------------------

    def _queue(self, waiting: _Waiting) -> None:
        request = waiting.request
        lane = _Lane(request.wave, request.server, request.backup_server)
        heapq.heappush(self._lanes.setdefault(lane, []), waiting)

    def _admit(self) -> None:
        while (lane := self._best_lane()) is not None:
            queue = self._lanes[lane]
            waiting = heapq.heappop(queue)
            if not queue:
                del self._lanes[lane]
            machine = _machine(waiting.request)
            if self._open_machine[machine] >= self._limits.per_vm:
                self._behind[machine].append(waiting)
                continue
            self._count(waiting.request, lane, 1)
            waiting.deliver(waiting.request, Slot(self, waiting.request, lane))

    def _best_lane(self) -> _Lane | None:
        if self._limits.run is not None and self._open_run >= self._limits.run:
            return None
        best: _Lane | None = None
        best_rank: tuple[int, int, float, float, int] | None = None
        for lane, queue in self._lanes.items():
            if not self._has_room(lane):
                continue
            head = queue[0]
            urgency = max(-head.longest_first, self._drain(lane))
            place = self._order.get(lane.wave, 0)
            rank = (place, head.rank, -urgency, head.longest_first, head.number)
            if best_rank is None or rank < best_rank:
                best, best_rank = lane, rank
        return best

    def _has_room(self, lane: _Lane) -> bool:
        server, backup = lane.server, (lane.server, lane.backup_server)
        if server in self._closed_servers:
            return False
        wave_limit = self._limits.waves.get(lane.wave)
        server_limit = self._limits.servers.get(server)
        return (
            self._open_backup[backup] < self._backup_limit(backup)
            and self.working_on(server) < self._allowance(server)
            and (server_limit is None or self._open_server[server] < server_limit)
            and (wave_limit is None or self._open_wave[lane.wave] < wave_limit)
        )

    def _backup_limit(self, backup: tuple[ServerName, BackupServerName]) -> int:
        return self._limits.backup_servers.get(backup, self._limits.backup_server_default)

    def _drain(self, lane: _Lane) -> float:
        """Return the seconds that the lane's fullest resource needs at its full limit."""
        backup = (lane.server, lane.backup_server)
        seconds = self._backlog_backup[backup] / max(1, self._backup_limit(backup))
        server_limit = self._limits.servers.get(lane.server)
        if server_limit:
            seconds = max(seconds, self._backlog_server[lane.server] / server_limit)
        return seconds

    # --- counting ----------------------------------------------------------------------

    def _count(self, request: MountRequest, lane: _Lane, change: int) -> None:
        self._open_run += change
        self._open_wave[lane.wave] += change
        self._open_server[lane.server] += change
        self._open_backup[lane.server, lane.backup_server] += change
        self._open_machine[_machine(request)] += change

    def _lighten(self, request: MountRequest) -> None:
        seconds = self._expected(request)
        self._backlog_server[request.server] -= seconds
        self._backlog_backup[request.server, request.backup_server] -= seconds

    def _release(self, request: MountRequest, lane: _Lane) -> None:
        self._count(request, lane, -1)
        self._lighten(request)
        for waiting in self._behind.pop(_machine(request), ()):
            self._queue(waiting)
        self._admit()

    def _forfeit(self, request: MountRequest, lane: _Lane) -> None:
        self._lighten(request)
        for resource in _resources(request, lane):
            self._forfeited[resource] += 1
        self._withdraw_starved()

    def _rest(self, request: MountRequest, lane: _Lane, *, endless: bool) -> None:
        self._idle[lane.server] += 1
        if endless:
            for resource in _resources(request, lane):
                self._endless[resource] += 1
            self._withdraw_starved()
        else:
            self._admit()  # the server bears what only is held

    def _wake(self, request: MountRequest, lane: _Lane, *, endless: bool) -> None:
        self._idle[lane.server] -= 1
        if endless:
            for resource in _resources(request, lane):
                self._endless[resource] -= 1

    def _starved(self, request: MountRequest) -> bool:
        """Tell whether slots that nobody will give back have used up a limit it needs."""
        if not self._forfeited and not self._endless[None]:
            return False
        backup = (request.server, request.backup_server)
        bounds: tuple[tuple[object, int | None], ...] = (
            (None, self._limits.run),
            (request.wave, self._limits.waves.get(request.wave)),
            (request.server, self._limits.servers.get(request.server)),
            (backup, self._backup_limit(backup)),
            (_machine(request), self._limits.per_vm),
        )
        return any(
            limit is not None and self._forfeited[resource] + self._endless[resource] >= limit
            for resource, limit in bounds
        )

    def _withdraw_starved(self) -> None:
        everything = [*self._lanes.values(), *self._behind.values()]
        self._lanes = {}
        self._behind = defaultdict(list)
        refused: list[_Waiting] = []
        for waiting in (entry for queue in everything for entry in queue):
            if self._starved(waiting.request):
                refused.append(waiting)
            else:
                self._queue(waiting)
        for waiting in sorted(refused, key=lambda entry: entry.number):
            self._lighten(waiting.request)
            waiting.deliver(waiting.request, None)
        self._admit()


def _resources(request: MountRequest, lane: _Lane) -> tuple[object, ...]:
    """Return what the limits count a slot for: run, wave, server, backup server, machine."""
    return (None, lane.wave, lane.server, lane[1:], _machine(request))


def _machine(request: MountRequest) -> Machine:
    return (request.server, request.backup_server, request.vm)
