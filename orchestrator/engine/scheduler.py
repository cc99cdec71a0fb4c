"""Bounded concurrency that never leaves a usable slot idle.

Four limits are nested: the whole run (and the wave), the Enterprise Manager, the backup
server that carries the mount, the machine itself. A request is admitted when all of them
have room. Whenever something changes, the best admissible request is chosen (`waiting` has the
order). Requests behind a full narrow limit are skipped, not waited for. What a change costs
does not depend on how many targets, servers and backup servers there are.

Mounts of other runs of this state directory count, too, in all limits but the run's and the
wave's: a slot is claimed beside theirs before it is given.

Everything is synchronous: a request is admitted inside `offer` and `Slot.release`, so there is
no moment in which a slot is free and nobody has looked.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from orchestrator.core.model import (
    BackupServerName,
    MountKey,
    MountRequest,
    ServerName,
    WaveName,
)
from orchestrator.core.ports.journal import OtherRuns
from orchestrator.engine.kept_slots import KeptSlots
from orchestrator.engine.limits import Limits
from orchestrator.engine.slot import Slot
from orchestrator.engine.waiting import Backup, Entry, Lane, Machine, WaitingTargets, machine_of

Deliver = Callable[[MountRequest, Slot | None], None]


class Scheduler:
    """Admits offered requests within the limits, the best one first."""

    def __init__(
        self,
        limits: Limits,
        waves: Iterable[WaveName],
        expected: Callable[[MountRequest], float],
        allowance: Callable[[ServerName], float] = lambda server: math.inf,
        others: OtherRuns | None = None,
        has_time: Callable[[MountRequest], bool] = lambda request: True,
    ) -> None:
        """`waves` in the order of the plan; `expected` gives a mount's seconds, roughly.

        `allowance` says how many mounts a server bears now (see `pace`); the limits hold too.
        Without `others`, only this run's own mounts count. What never `has_time` any more gets no
        slot, once it would be the next.
        """
        self._limits = self._planned = self._at_most = limits
        self._run_limit = limits.run
        self._backup_limits = self._most_behind = limits.by_folded_name()
        self._known_limits: dict[Backup, int] = {}
        """Limits of backup servers by their names as targets spell them."""
        self._foreign: Mapping[tuple[ServerName, str], int] = {}
        """Open file-level restores of other people, where a limit counts them."""
        self._expected, self._has_time = expected, has_time
        self._allowance, self._others = allowance, others
        self._waiting = WaitingTargets(self, {wave: place for place, wave in enumerate(waves)})
        self._blocked: set[ServerName | Backup | Machine] = set()
        """What only other runs, or what the server bears now, keep from having room."""
        self._open_run = 0
        self._open_wave: defaultdict[WaveName, int] = defaultdict(int)
        self._open_server: defaultdict[ServerName, int] = defaultdict(int)
        self._open_backup: defaultdict[Backup, int] = defaultdict(int)
        self._open_machine: defaultdict[Machine, int] = defaultdict(int)
        self._kept = KeptSlots()
        self._idle: Counter[ServerName] = Counter()
        self._closed_servers: set[ServerName] = set()
        self._lost_servers: set[ServerName] = set()
        self._closed = self._paused = False
        self._number = 0

    @property
    def open_mounts(self) -> int:
        """Slots that are held now."""
        return self._open_run

    def open_on(self, server: ServerName) -> int:
        """Slots that are held on one Enterprise Manager now."""
        return self._open_server[server]

    def working_on(self, server: ServerName) -> int:
        """Slots with a mount in work there: neither held ones nor lost ones."""
        count = self._open_server[server]
        if self._kept.forfeited or self._idle:
            count -= self._kept.forfeited[server] + self._idle[server]
        return count

    def counts_others(self, server: ServerName) -> bool:
        """Return whether a limit of a server, or behind it, counts other people's restores."""
        return any(each == server for each, _backup in self._limits.counting_others)

    def count_others(self, server: ServerName, restores: Mapping[BackupServerName, int]) -> None:
        """Take note of the open file-level restores of other people there, per backup server.

        They take no slot away that is given; nothing is admitted until the limit has room again.
        """
        folded = {name.casefold(): count for name, count in restores.items()}
        folded[""], counting = sum(restores.values()), self._limits.counting_others
        kept = {key: count for key, count in self._foreign.items() if key[0] != server}
        found = {
            (server, name): n for name, n in folded.items() if n and (server, name) in counting
        }
        if self._foreign != kept | found:
            self._foreign = kept | found
            self.look_again()

    def allow(self, mounts: int | None) -> None:
        """Change how many mounts of the run may be open here; None: as many as there are."""
        if mounts != self._run_limit:
            self._run_limit = mounts
            self.look_again()

    def limit_to(self, limits: Limits) -> None:
        """Change the limits from the next grant on: what is open above them stays open."""
        self._limits, self._run_limit = limits, limits.run
        self._backup_limits, self._known_limits = limits.by_folded_name(), {}
        self._at_most = self._planned.or_more(limits)
        self._most_behind = self._at_most.by_folded_name()
        self._withdraw_starved()

    def pause(self, *, paused: bool) -> None:
        """Admit nothing while `paused`; what is open goes on, and what waits keeps its place."""
        self._paused = paused
        self.look_again()

    def holds_back(self, request: MountRequest) -> bool:
        """Return whether a slot that is held and not used yet must be given back.

        So it is while the run is paused, and where more is open than a limit that was lowered.
        """
        if self._paused or (self._run_limit is not None and self._open_run > self._run_limit):
            return True
        limit = self._limits.servers.get(request.server)
        if limit is not None and self._open_server[request.server] > limit:
            return True
        backup = request.server, request.backup_server
        return self._open_backup[backup] > self.backup_limit(backup)

    @property
    def waits_for_higher_limits(self) -> bool:
        """True while something waits for a lowered limit that only mounts without an end use up."""
        return self._limits is not self._planned and any(
            self._kept.have_used_up(request, self._limits, self._backup_limits)
            for _, _, request in self._waiting.heads()
        )

    @property
    def could_begin(self) -> int:
        """How many of the targets that wait would fit now if the run had no limit."""
        machines = {machine for machine, _, _ in self._waiting.heads()}
        behind = Counter(each[:2] for each in machines if self._has_machine_room_alone(each))
        fitting: Counter[ServerName] = Counter()
        for backup, waiting in behind.items():
            room = self.backup_limit(backup) - self._open_backup[backup]
            fitting[backup[0]] += max(0, min(waiting, room))
        for server, limit in self._limits.servers.items():
            fitting[server] = min(fitting[server], max(0, limit - self._open_server[server]))
        return 0 if self._closed else sum(fitting.values())

    @property
    def is_held_full(self) -> bool:
        """True while mounts that are held without end take slots."""
        return self._kept.endless[None] > 0

    def offer(self, requests: Iterable[MountRequest], deliver: Deliver, *, points: int = 1) -> None:
        """Queue `requests`; `deliver` gets each one with its slot, now or later.

        `points` says how many restore points each may still try, one after another.

        Without a slot it says that none will ever come: scheduler was closed, its server was
        given up, it has no time, or so many slots were forfeited, or are held without end, that
        the limits have no room left.
        """
        machines: dict[Machine, None] = {}
        for request in requests:
            lost = request.server in self._lost_servers
            if self._closed or lost or self._is_hopeless(request):
                deliver(request, None)
                continue
            self._number += 1
            seconds = self._expected(request) * points
            criticality = 0 if request.critical else 1
            machine = machine_of(request)
            self._waiting.count_work(machine, seconds)
            self._waiting.add(Entry(criticality, self._number, seconds, request, deliver))
            machines[machine] = None
        self._waiting.refresh(*machines)
        self._admit()

    def occupy(self, request: MountRequest) -> Slot:
        """Return the slot of a mount that may be open already; it counts, whatever the limits."""
        lane = Lane(request.wave, request.server, request.backup_server)
        seconds = self._expected(request)
        machine = machine_of(request)
        self._waiting.count_work(machine, seconds)
        self._count(lane, machine, 1)
        claim = self._others.occupy(request) if self._others else 0
        return Slot(self, request, lane, machine, claim, seconds)

    def close_server(self, server: ServerName) -> None:
        """Admit nothing more on this server until it is opened again."""
        self._closed_servers.add(server)
        self._waiting.refresh_server(server)

    def open_server(self, server: ServerName) -> None:
        """Admit on this server again."""
        self._closed_servers.discard(server)
        self._waiting.refresh_server(server)
        self._admit()

    def give_up_server(self, server: ServerName) -> None:
        """Admit nothing on this server any more; its waiting targets are withdrawn."""
        self._lost_servers.add(server)
        self.close_server(server)
        self.withdraw(server)

    def withdraw(
        self, server: ServerName | None = None, key: MountKey | None = None
    ) -> tuple[MountRequest, ...]:
        """Take back everything that waits (on `server`, of one target, or all); each gets no slot.

        Returns the requests, in the order in which they were offered.
        """
        return self._refuse(lambda each: server in (None, each.server) and key in (None, each.key))

    def _refuse(self, which: Callable[[MountRequest], bool]) -> tuple[MountRequest, ...]:
        """Take back what waits and is named by `which`; each gets no slot."""
        taken = self._waiting.take_all(which)
        for entry in taken:
            self._waiting.count_work(machine_of(entry.request), -entry.seconds)
        self._waiting.refresh(*{machine_of(entry.request) for entry in taken})
        for entry in taken:
            entry.deliver(entry.request, None)
        return tuple(entry.request for entry in taken)

    def waits(self, key: MountKey) -> bool:
        """Return whether a target is offered and has no slot yet."""
        return self._waiting.has(key)

    def close(self) -> None:
        """Admit nothing more; waiting targets are withdrawn."""
        self._closed = True
        self.withdraw()

    # --- choosing ----------------------------------------------------------------------

    def _admit(self) -> None:
        while (best := self._best()) is not None:
            lane, machine, request = best
            if not self._has_time(request):
                self._refuse(lambda each: not self._has_time(each))
                continue
            fits = partial(self._fits, lane, machine)
            claim = (self._others.claim(request, fits) if self._others else 0) if fits() else None
            if claim is None:  # what others have open, or the server bears, is known better now
                self._waiting.refresh(machine)
                continue
            entry = self._waiting.take(lane, machine)
            self._count(lane, machine, 1)
            entry.deliver(request, Slot(self, request, lane, machine, claim, entry.seconds))

    def _best(self) -> tuple[Lane, Machine, MountRequest] | None:
        if (self._others and self._others.is_unsure) or self._is_run_full or self._paused:
            return None
        if self._blocked:
            blocked, self._blocked = self._blocked, set()
            for resource in blocked:
                self._waiting.refresh_resource(resource)
        return self._waiting.best()

    def _fits(self, lane: Lane, machine: Machine) -> bool:
        return self._has_room(lane) and self.has_machine_room(machine)

    def look_again(self) -> None:
        """Admit what fits now: other runs may have given slots back."""
        self._waiting.refresh_all()
        self._admit()

    def waiting_for_others(self) -> Iterator[MountRequest]:
        """Yield, of each lane and machine, one request that only waits for another run."""
        if self._is_run_full or self._paused:
            return
        told: set[Lane] = set()
        for machine, lane, request in self._waiting.heads():
            if self.has_machine_room(machine):
                is_told = lane in told or self._has_room(lane)
                if not is_told and self._has_room(lane, alone=True):
                    told.add(lane)
                    yield request
            elif self._has_machine_room_alone(machine):
                yield request

    @property
    def _is_run_full(self) -> bool:
        return self._run_limit is not None and self._open_run >= self._run_limit

    # --- room --------------------------------------------------------------------------

    def _has_room(self, lane: Lane, *, alone: bool = False) -> bool:
        """Return whether a lane's limits have room; `alone`: as if no other run were there."""
        return (
            self.has_server_room(lane.server, alone=alone)
            and self.has_backup_room((lane.server, lane.backup_server), alone=alone)
            and self.has_wave_room(lane.wave)
        )

    def has_wave_room(self, wave: WaveName) -> bool:
        """Return whether a wave may have one more mount open."""
        limit = self._limits.waves.get(wave)
        return limit is None or self._open_wave[wave] < limit

    def has_server_room(self, server: ServerName, *, alone: bool = False) -> bool:
        """Return whether an Enterprise Manager may have one more."""
        if server in self._closed_servers:
            return False
        limit, is_open = self._limits.servers.get(server), self._open_server[server]
        there = self._others.on_server(server) if self._others and not alone else 0
        if self._foreign:
            there += self._foreign.get((server, ""), 0)
        is_within = limit is None or is_open + there < limit
        has_room = is_within and self.working_on(server) < self._allowance(server)
        if not has_room and (limit is None or is_open < limit):
            self._blocked.add(server)
        return has_room

    def has_backup_room(self, backup: Backup, *, alone: bool = False) -> bool:
        """Return whether a backup server may carry one more."""
        limit = self.backup_limit(backup)
        behind = self._others.behind(*backup) if self._others and not alone else 0
        if self._foreign:
            behind += self._foreign.get((backup[0], backup[1].casefold()), 0)
        if behind and self._open_backup[backup] < limit <= self._open_backup[backup] + behind:
            self._blocked.add(backup)
        return self._open_backup[backup] + behind < limit

    def has_machine_room(self, machine: Machine) -> bool:
        """Return whether one more mount of a machine may be open."""
        if not self._has_machine_room_alone(machine):
            return False
        elsewhere = self._others.of_machine(*machine) if self._others else 0
        if self._open_machine[machine] + elsewhere >= self._limits.per_vm:
            self._blocked.add(machine)
            return False
        return True

    def _has_machine_room_alone(self, machine: Machine) -> bool:
        return self._open_machine[machine] < self._limits.per_vm

    @property
    def run_limit(self) -> int | None:
        """The limit of the whole run, or None."""
        return self._limits.run

    @property
    def machine_limit(self) -> int:
        """The limit of each machine."""
        return self._limits.per_vm

    def server_limit(self, server: ServerName) -> int | None:
        """Return the limit of an Enterprise Manager, or None."""
        return self._limits.servers.get(server)

    def backup_limit(self, backup: Backup) -> int:
        """Return the limit of a backup server."""
        limit = self._known_limits.get(backup)
        if limit is None:
            default, folded = self._limits.backup_server_default, backup[1].casefold()
            limit = self._backup_limits.get((backup[0], folded), default)
            self._known_limits[backup] = limit
        return limit

    # --- counting ----------------------------------------------------------------------

    def _count(self, lane: Lane, machine: Machine, change: int) -> None:
        self._open_run += change
        self._open_wave[lane.wave] += change
        self._open_server[lane.server] += change
        self._open_backup[machine[:2]] += change
        self._open_machine[machine] += change
        self._waiting.refresh_one(machine)

    def _release(self, lane: Lane, machine: Machine, claim: int, seconds: float) -> None:
        if self._others:
            self._others.release(claim)
        self._waiting.count_work(machine, -seconds)
        self._count(lane, machine, -1)
        self._admit()

    def _forfeit(self, request: MountRequest, lane: Lane, seconds: float) -> None:
        self._waiting.count_work(machine_of(request), -seconds)
        self._kept.forfeit(request, lane)
        self._withdraw_starved()

    def _rest(self, request: MountRequest, lane: Lane, *, endless: bool) -> None:
        self._idle[lane.server] += 1
        if endless:
            self._kept.hold(request, lane, 1)
            self._withdraw_starved()
        else:
            self._waiting.refresh_server(lane.server)
            self._admit()  # the server bears what only is held

    def _wake(self, request: MountRequest, lane: Lane, *, endless: bool) -> None:
        self._idle[lane.server] -= 1
        if endless:
            self._kept.hold(request, lane, -1)

    def _is_hopeless(self, request: MountRequest) -> bool:
        """Return whether slots that nobody will give back have used up a limit it needs.

        A limit that a person has lowered may be raised again: the plan's counts, or a higher one.
        """
        return self._kept.have_used_up(request, self._at_most, self._most_behind)

    def _withdraw_starved(self) -> None:
        self._refuse(self._is_hopeless)
        self._waiting.refresh_all()
        self._admit()
