"""What earlier runs proved, for samples of the stalest machines, and how long mounts took."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from orchestrator.core.model import BackupServerName, Result, ServerName
from orchestrator.journal.naming import (
    NO_NAMING,
    SIMULATED,
    Known,
    Naming,
    address_of,
    urls_in,
)

PROVEN = frozenset({Result.VERIFIED.value, Result.MOUNTED.value})
"""Results that prove a machine, for those who look for the stalest."""

RECENT = 5
"""How many earlier mounts of a machine its expected duration is the median of."""


class LastProofs:
    """When machines were last proven; implements `plan.choose.sampling.Proofs`.

    Names of machines are compared without regard to case, as the servers do.
    """

    def __init__(
        self,
        proven: Mapping[tuple[Known, str], Mapping[str, datetime]],
        naming: Naming = NO_NAMING,
    ) -> None:
        """`proven` by server and folded machine name, then by backup server."""
        self._proven, self._naming = proven, naming
        self._known = {server for server, _vm in proven}

    def last(
        self, server: ServerName, vm: str, backup_server: BackupServerName | None
    ) -> datetime | None:
        """Return when a machine last ended verified or mounted, or None if it never did."""
        where = self._naming.known(server, self._known)
        behind = self._proven.get((where, vm.casefold()), {})
        if backup_server is not None:
            return behind.get(backup_server)
        return max(behind.values(), default=None)


def read_proofs(connection: sqlite3.Connection, before: datetime, naming: Naming) -> LastProofs:
    """Return when each machine was last proven in any run of a journal, up to `before`.

    Records that cannot be read prove nothing.
    """
    proven: defaultdict[tuple[Known, str], dict[str, datetime]] = defaultdict(dict)
    machines: dict[tuple[str, str], tuple[str, str, str]] = {}
    urls: dict[str, Mapping[ServerName, str]] = {}
    simulated: set[tuple[str, str]] = set()
    rows = connection.execute(
        "SELECT events.run, runs.started_at, events.at, events.type, CAST(events.body AS BLOB) "
        "FROM events JOIN runs ON runs.run = events.run "
        "WHERE events.type IN ('RunStarted', 'SessionOpened', 'TargetPlanned', 'TargetConcluded') "
        "ORDER BY events.run, events.seq"
    )
    for run, started_at, at, kind, body in rows:
        fact = as_mapping(body)
        key = (run, str(fact.get("key")))
        if kind == "RunStarted":
            urls[run] = urls_in(fact)
        elif kind == "SessionOpened":
            if fact.get("simulated") is True:
                simulated.add((run, str(fact.get("server"))))
        elif kind == "TargetPlanned":
            machine = _machine_of(fact)
            if machine is not None:
                machines[key] = machine
        elif fact.get("result") in PROVEN and key in machines:
            when = datetime.fromisoformat(started_at) + timedelta(seconds=at)
            server, vm, behind = machines[key]
            where = address_of(urls.get(run, {}), ServerName(server)), (run, server) in simulated
            known = proven[where, vm]
            if when <= before:
                known[behind] = max(when, known.get(behind, when))
    return LastProofs(proven, naming)


def as_mapping(body: bytes) -> Mapping[str, Any]:
    """Return a record's body, or nothing if it cannot be read."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _machine_of(planned: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return server, folded name and backup server of a planned target that has a point."""
    point = planned.get("point")
    if not isinstance(point, dict):
        return None
    named = (planned.get("server"), point.get("vm"), point.get("backup_server", ""))
    if not all(isinstance(text, str) for text in named):
        return None
    server, vm, behind = map(str, named)
    return server, vm.casefold(), behind


class PastDurations:
    """Expected durations from earlier runs; implements `ports.Durations`."""

    def __init__(
        self, seconds: Mapping[tuple[Known, str], float], naming: Naming = NO_NAMING
    ) -> None:
        """`seconds` by server and machine."""
        self._seconds, self._naming = seconds, naming
        self._known = {server for server, _vm in seconds}

    def expected(self, server: ServerName, vm: str) -> float | None:
        """Return the median of the machine's last mounts, or None if it never was mounted."""
        return self._seconds.get((self._naming.known(server, self._known), vm))


def read_durations(connection: sqlite3.Connection, naming: Naming) -> PastDurations:
    """Return how long the last mounts of each machine took."""
    recent: defaultdict[tuple[Known, str], list[float]] = defaultdict(list)
    urls = _urls_of_runs(connection)
    rows = connection.execute(
        "SELECT CAST(run AS TEXT), CAST(server AS TEXT), CAST(vm AS TEXT), "
        "CAST(seconds AS REAL) FROM durations ORDER BY id"
    )
    for run, server, vm, seconds in rows:
        name = ServerName(server.removeprefix(SIMULATED))
        where = address_of(urls.get(run, {}), name), server.startswith(SIMULATED)
        recent[where, vm].append(seconds)
    return PastDurations({key: median(seen[-RECENT:]) for key, seen in recent.items()}, naming)


def _urls_of_runs(connection: sqlite3.Connection) -> dict[str, dict[ServerName, str]]:
    """Return the names and addresses of the servers of every run's plan."""
    rows = connection.execute(
        "SELECT CAST(runs.run AS TEXT), CAST(body AS BLOB) FROM runs "
        "JOIN events ON events.run = runs.run AND seq = 1"
    )
    return {run: urls_in(as_mapping(body)) for run, body in rows}
