"""How long mounts of machines took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median

from orchestrator.core.earlier_runs.naming import NO_NAMING, Known, Naming
from orchestrator.core.model import ServerName

RECENT = 5
"""How many earlier mounts of a machine its expected duration is the median of."""

DurationRow = tuple[Known, str, float]
"""The server of one mount, its machine, and how many seconds it took."""


class PastDurations:
    """Expected durations from earlier runs; implements `ports.journal.Durations`."""

    def __init__(
        self, seconds: Mapping[tuple[Known, str], float], naming: Naming = NO_NAMING
    ) -> None:
        """`seconds` by server and machine."""
        self._seconds, self._naming = seconds, naming
        self._known = {server for server, _vm in seconds}

    def expected(self, server: ServerName, vm: str) -> float | None:
        """Return the median of the machine's last mounts, or None if it never was mounted."""
        return self._seconds.get((self._naming.known(server, self._known), vm))


def past_durations(rows: Iterable[DurationRow], naming: Naming) -> PastDurations:
    """Return how long the last mounts of each machine took; `rows` has the oldest first."""
    recent: defaultdict[tuple[Known, str], list[float]] = defaultdict(list)
    for server, vm, seconds in rows:
        recent[server, vm].append(seconds)
    return PastDurations({key: median(seen[-RECENT:]) for key, seen in recent.items()}, naming)
