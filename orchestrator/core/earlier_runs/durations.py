"""How long mounts of machines took: what a run notes of it, and what later ones make of that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from orchestrator.core.earlier_runs.naming import NO_NAMING, Known, Naming
from orchestrator.core.events import (
    Event,
    MountKept,
    MountReleased,
    SessionOpened,
    TargetPlanned,
    TaskAccepted,
    UnmountStarted,
)
from orchestrator.core.model import MountKey, ServerName

RECENT = 5
"""How many earlier mounts of a machine its expected duration is the median of."""

DurationRow = tuple[Known, str, float]
"""The server of one mount, its machine, and how many seconds it took."""


class PastDurations:
    """Expected durations from earlier runs; implements `ports.journal.Durations`."""

    def __init__(
        self, seconds: Mapping[tuple[Known, str], Sequence[float]], naming: Naming = NO_NAMING
    ) -> None:
        """`seconds` of the last mounts by server and machine, the oldest first."""
        self._seconds, self._naming = seconds, naming
        self._known = {server for server, _vm in seconds}

    def expected(self, server: ServerName, vm: str) -> float | None:
        """Return the median of the machine's last mounts, or None if it never was mounted."""
        recent = self.recent(server, vm)
        return median(recent) if recent else None

    def recent(self, server: ServerName, vm: str) -> Sequence[float]:
        """Return how long the machine's last mounts took, the oldest first; none: never seen."""
        return self._seconds.get((self._naming.known(server, self._known), vm), ())


def past_durations(rows: Iterable[DurationRow], naming: Naming) -> PastDurations:
    """Return how long the last mounts of each machine took; `rows` has the oldest first."""
    recent: defaultdict[tuple[Known, str], list[float]] = defaultdict(list)
    for server, vm, seconds in rows:
        recent[server, vm].append(seconds)
    return PastDurations({key: seen[-RECENT:] for key, seen in recent.items()}, naming)


class MountTime(NamedTuple):
    """How many seconds the mount of a machine took; `server` as the plan calls it."""

    server: ServerName
    simulated: bool
    vm: str
    seconds: float


class MountTimes:
    """Follows a run to note how long its mounts take, for later runs."""

    def __init__(self) -> None:
        self._simulated: set[ServerName] = set()
        self._machines: dict[MountKey, tuple[ServerName, str]] = {}
        self._accepted: dict[MountKey, float] = {}
        self._kept: dict[MountKey, float] = {}

    def take(self, event: Event) -> MountTime | None:
        """Take the next event; return a mount's time, from accepted to released, if it ends one.

        Without the time for which it was held open: another run may hold nothing.
        """
        match event:
            case SessionOpened(server=server, simulated=True):
                self._simulated.add(server)
            case TargetPlanned(key=key):
                self._machines[key] = (event.server, event.vm)
            case TaskAccepted(key=key):
                self._accepted[key] = event.at
            case MountKept(key=key):
                self._kept[key] = event.at
            case UnmountStarted(key=key) if key in self._kept and key in self._accepted:
                self._accepted[key] += event.at - self._kept.pop(key)
            case MountReleased(key=key, by_hand=False):
                began = self._accepted.pop(key, None)
                if began is not None and key in self._machines:
                    server, vm = self._machines[key]
                    return MountTime(server, server in self._simulated, vm, event.at - began)
            case _:
                pass
        return None
