"""What waits for a slot, and which of it goes first.

Three levels, each kept in order: the machines of a lane (one wave on one backup server), the
lanes of a server in one wave, the servers of a wave. Only what has room at its own level is in
the order. Whoever changes how much room or work there is reports the change, and what it touches
is ordered anew: that costs the same whatever else waits.

Ranks, lowest first: critical targets, then what bounds the end of the run the most. That is the
longest chain of mounts that one machine has before it, or the backlog of its backup server or
Enterprise Manager at full limit. Then come the longest chain and the order of the plan.

Earlier waves go first, with one exception: where a target of a later wave bounds the end of the
run more than everything else together, it goes ahead of all but critical targets.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

from orchestrator.core.model import (
    BackupServerName,
    MountKey,
    MountRequest,
    ServerName,
    WaveName,
)

K = TypeVar("K", bound=Hashable)

Backup = tuple[ServerName, BackupServerName]
Machine = tuple[ServerName, BackupServerName, str]
Resource = ServerName | Backup | Machine | None
"""What has a limit, beside the waves; None is the run."""


class Lane(NamedTuple):
    """The targets that share every limit but the machine's: one wave on one backup server."""

    wave: WaveName
    server: ServerName
    backup_server: BackupServerName


class Rank(NamedTuple):
    """The place of something that waits; the lowest goes first. Times in seconds, negative."""

    criticality: int
    urgency: float
    chain: float
    number: int


class Entry(NamedTuple):
    """One offered request, ordered as its machine is served; `seconds` of work wait with it."""

    criticality: int
    number: int
    seconds: float
    request: MountRequest
    deliver: Callable[..., None]


class Rooms(Protocol):
    """Where there is room now, and how much there is at full limit; None: no limit is named."""

    def has_machine_room(self, machine: Machine) -> bool:
        """Return whether one more mount of a machine may be open."""

    def has_backup_room(self, backup: Backup) -> bool:
        """Return whether a backup server may carry one more."""

    def has_server_room(self, server: ServerName) -> bool:
        """Return whether an Enterprise Manager may have one more."""

    def has_wave_room(self, wave: WaveName) -> bool:
        """Return whether a wave may have one more."""

    @property
    def run_limit(self) -> int | None:
        """The limit of the whole run."""

    @property
    def machine_limit(self) -> int:
        """The limit of each machine."""

    def server_limit(self, server: ServerName) -> int | None:
        """Return the limit of an Enterprise Manager."""

    def backup_limit(self, backup: Backup) -> int:
        """Return the limit of a backup server."""


class RankedKeys(Generic[K]):
    """Keys in the order of their ranks."""

    __slots__ = ("_heap", "_ranks")

    def __init__(self) -> None:
        """Nothing is in it."""
        self._ranks: dict[K, Rank] = {}
        self._heap: list[tuple[Rank, K]] = []

    def put(self, key: K, rank: Rank | None) -> None:
        """Give a key its place; None takes it out."""
        if rank is None:
            self._ranks.pop(key, None)
        elif self._ranks.get(key) != rank:
            self._ranks[key] = rank
            heapq.heappush(self._heap, (rank, key))
            if len(self._heap) > 4 * len(self._ranks) + 64:  # mostly places of the past
                self._heap = [(now, each) for each, now in self._ranks.items()]
                heapq.heapify(self._heap)

    def first(self) -> tuple[Rank, K] | None:
        """Return the key with the lowest rank, or None."""
        while self._heap:
            rank, key = self._heap[0]
            if self._ranks.get(key) == rank:
                return rank, key
            heapq.heappop(self._heap)
        return None


class WaitingTargets:
    """Everything that waits, in order."""

    def __init__(self, rooms: Rooms, order: Mapping[WaveName, int]) -> None:
        """`order` has the places of the waves in the plan."""
        self._rooms, self._order = rooms, order
        self._work: defaultdict[Resource, float] = defaultdict(float)
        """Seconds of work that is offered and not done, of the run (None) and each resource."""
        self._queues: defaultdict[Machine, dict[WaveName, list[Entry]]] = defaultdict(dict)
        self._machines: defaultdict[Backup, dict[WaveName, RankedKeys[Machine]]] = defaultdict(dict)
        self._lanes: defaultdict[ServerName, dict[WaveName, RankedKeys[Backup]]] = defaultdict(dict)
        self._servers: dict[WaveName, RankedKeys[ServerName]] = {}
        self._counts: Counter[WaveName] = Counter()

    def count_work(self, machine: Machine, seconds: float) -> None:
        """Count work of a machine that is offered, or done if `seconds` is negative."""
        for resource in (None, machine[0], machine[:2], machine):
            self._work[resource] += seconds

    def add(self, entry: Entry) -> None:
        """Let a request wait. Its machine is to be `refresh`ed."""
        request = entry.request
        machine = machine_of(request)
        heapq.heappush(self._queues[machine].setdefault(request.wave, []), entry)
        self._counts[request.wave] += 1
        self._machines[machine[:2]].setdefault(request.wave, RankedKeys())
        self._lanes[request.server].setdefault(request.wave, RankedKeys())
        if request.wave not in self._servers:
            places = {**self._servers, request.wave: RankedKeys[ServerName]()}
            self._servers = dict(sorted(places.items(), key=lambda each: self._place(each[0])))

    def take(self, lane: Lane, machine: Machine) -> Entry:
        """Take the next request of a machine out. The machine is to be `refresh`ed."""
        queue = self._queues[machine][lane.wave]
        entry = heapq.heappop(queue)
        self._counts[lane.wave] -= 1
        if not queue:
            self._forget(lane, machine)
        return entry

    def take_all(self, accept: Callable[[MountRequest], bool]) -> list[Entry]:
        """Take out every request that `accept` names; in the order in which they were offered."""
        taken: list[Entry] = []
        for machine, queues in list(self._queues.items()):
            for wave, queue in list(queues.items()):
                wanted = [entry for entry in queue if accept(entry.request)]
                if not wanted:
                    continue
                taken += wanted
                self._counts[wave] -= len(wanted)
                queue[:] = [entry for entry in queue if not accept(entry.request)]
                heapq.heapify(queue)
                if not queue:
                    self._forget(Lane(wave, *machine[:2]), machine)
        return sorted(taken, key=lambda entry: entry.number)

    def has(self, key: MountKey) -> bool:
        """Return whether a target waits."""
        queues = (queue for waves in self._queues.values() for queue in waves.values())
        return any(entry.request.key == key for queue in queues for entry in queue)

    def heads(self) -> Iterator[tuple[Machine, Lane, MountRequest]]:
        """Yield the next request of each machine in each wave."""
        for machine, queues in self._queues.items():
            for wave, queue in queues.items():
                yield machine, Lane(wave, *machine[:2]), queue[0].request

    def best(self) -> tuple[Lane, Machine, MountRequest] | None:
        """Return what goes first of all that has room, or None."""
        best: tuple[Rank, WaveName, ServerName] | None = None
        run_drain = self._drain(None, self._rooms.run_limit)
        for wave, servers in self._servers.items():
            if not self._counts[wave] or not self._rooms.has_wave_room(wave):
                continue
            first = servers.first()
            if first is None:
                continue
            if best is None or _goes_ahead(first[0], best[0], run_drain):
                best = first[0], wave, first[1]
        return None if best is None else self._first_on(best[2], best[1])

    def _first_on(
        self, server: ServerName, wave: WaveName
    ) -> tuple[Lane, Machine, MountRequest] | None:
        """Return what goes first on an Enterprise Manager in a wave."""
        lane = self._lanes[server][wave].first()
        machine = self._machines[lane[1]][wave].first() if lane is not None else None
        if lane is None or machine is None:
            return None
        request = self._queues[machine[1]][wave][0].request
        return Lane(wave, *lane[1]), machine[1], request

    # --- order -------------------------------------------------------------------------------

    def refresh_all(self) -> None:
        """Order everything anew: how much room there is may have changed everywhere."""
        self.refresh(*self._queues)

    def refresh(self, *machines: Machine) -> None:
        """Order machines, their backup servers and Enterprise Managers anew."""
        for machine in machines:
            self._refresh_machine(machine)
        for backup in {machine[:2] for machine in machines}:
            self._refresh_backup(backup)
        for server in {machine[0] for machine in machines}:
            self.refresh_server(server)

    def refresh_one(self, machine: Machine) -> None:
        """Order one machine anew, and what it is part of."""
        self._refresh_machine(machine)
        self._refresh_backup(machine[:2])
        self.refresh_server(machine[0])

    def refresh_resource(self, resource: ServerName | Backup | Machine) -> None:
        """Order one resource anew, and what it is part of."""
        if isinstance(resource, str):
            self.refresh_server(resource)
        elif len(resource) == 2:
            self._refresh_backup(resource)
            self.refresh_server(resource[0])
        else:
            self.refresh_one(resource)

    def refresh_server(self, server: ServerName) -> None:
        """Order an Enterprise Manager anew."""
        has_room = self._rooms.has_server_room(server)
        drain = -self._drain(server, self._rooms.server_limit(server))
        for wave, lanes in self._lanes.get(server, {}).items():
            first = lanes.first()
            rank = first[0] if first is not None and has_room else None
            if rank is not None and drain < rank.urgency:
                rank = Rank(rank.criticality, drain, rank.chain, rank.number)
            self._servers[wave].put(server, rank)

    def _refresh_machine(self, machine: Machine) -> None:
        if machine not in self._queues:
            return
        has_room = self._rooms.has_machine_room(machine)
        chain = -self._drain(machine, self._rooms.machine_limit)
        for wave, queue in self._queues[machine].items():
            # a target's other restore points are tried one after another, too
            longest = min(chain, -queue[0].seconds)
            rank = Rank(queue[0].criticality, longest, longest, queue[0].number)
            self._machines[machine[:2]][wave].put(machine, rank if has_room else None)

    def _refresh_backup(self, backup: Backup) -> None:
        has_room = self._rooms.has_backup_room(backup)
        drain = -self._drain(backup, self._rooms.backup_limit(backup))
        for wave, machines in self._machines.get(backup, {}).items():
            first = machines.first()
            rank = first[0] if first is not None and has_room else None
            if rank is not None and drain < rank.urgency:
                rank = Rank(rank.criticality, drain, rank.chain, rank.number)
            self._lanes[backup[0]][wave].put(backup, rank)

    def _forget(self, lane: Lane, machine: Machine) -> None:
        """Forget a queue that is empty."""
        del self._queues[machine][lane.wave]
        if not self._queues[machine]:
            del self._queues[machine]
        self._machines[machine[:2]][lane.wave].put(machine, None)

    def _drain(self, resource: Resource, limit: int | None) -> float:
        """Return the seconds that a resource needs at its full limit; 0 without a limit."""
        return 0.0 if limit is None else self._work[resource] / max(1, limit)

    def _place(self, wave: WaveName) -> int:
        return self._order.get(wave, 0)


def machine_of(request: MountRequest) -> Machine:
    """Return the machine of a request: names alone are not unique."""
    return (request.server, request.backup_server, request.vm)


def _goes_ahead(later: Rank, best: Rank, run_drain: float) -> bool:
    """Return whether a target of a later wave bounds the end of the run more than all others."""
    return best.criticality > 0 and later.urgency < min(best.urgency, -run_drain)
