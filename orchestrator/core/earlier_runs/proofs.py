"""When machines were last proven, for samples of the stalest ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from orchestrator.core.earlier_runs.naming import (
    NO_NAMING,
    Known,
    Naming,
    address_of,
    urls_in,
)
from orchestrator.core.events import RunStarted, SessionOpened, TargetConcluded, TargetPlanned
from orchestrator.core.model import BackupServerName, Result, ServerName
from orchestrator.core.records import as_mapping

PROVEN = frozenset({Result.VERIFIED.value, Result.MOUNTED.value})
"""Results that prove a machine, for those who look for the stalest."""

PROVING = (RunStarted, SessionOpened, TargetPlanned, TargetConcluded)
"""The events from which proofs follow."""

ProofRow = tuple[str, datetime, float, str, bytes]
"""A run, when it began, and one of its records: seconds since then, type and body."""


class LastProofs:
    """When machines were last proven; implements `ports.journal.Proofs`.

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


def last_proofs(rows: Iterable[ProofRow], before: datetime, naming: Naming) -> LastProofs:
    """Return when each machine was last proven in any run, up to `before`.

    `rows` are the records of `PROVING`: of each run its first record first, and those of one
    server in order. Records that cannot be read prove nothing.
    """
    proven: defaultdict[tuple[Known, str], dict[str, datetime]] = defaultdict(dict)
    machines: dict[tuple[str, str], tuple[str, str, str]] = {}
    urls: dict[str, Mapping[ServerName, str]] = {}
    simulated: set[tuple[str, str]] = set()
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
            when = started_at + timedelta(seconds=at)
            server, vm, behind = machines[key]
            where = address_of(urls.get(run, {}), ServerName(server)), (run, server) in simulated
            known = proven[where, vm]
            if when <= before:
                known[behind] = max(when, known.get(behind, when))
    return LastProofs(proven, naming)


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
