"""What earlier runs proved: read from the journal for samples of the stalest machines."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from orchestrator.model import BackupServerName, Result, ServerName

PROVEN = frozenset({Result.VERIFIED.value, Result.MOUNTED.value})
"""Results that prove a machine, for those who look for the stalest."""


class LastProofs:
    """When machines were last proven; implements `plan.sampling.Proofs`.

    Names of machines are compared without regard to case, as the servers do.
    """

    def __init__(self, proven: Mapping[tuple[str, str], Mapping[str, datetime]]) -> None:
        """`proven` by server and folded machine name, then by backup server."""
        self._proven = proven

    def last(
        self, server: ServerName, vm: str, backup_server: BackupServerName | None
    ) -> datetime | None:
        """Return when a machine last ended verified or mounted, or None if it never did."""
        behind = self._proven.get((server, vm.casefold()), {})
        if backup_server is not None:
            return behind.get(backup_server)
        return max(behind.values(), default=None)


def read_proofs(connection: sqlite3.Connection, before: datetime) -> LastProofs:
    """Return when each machine was last proven in any run of a journal, up to `before`.

    Records that cannot be read prove nothing.
    """
    proven: defaultdict[tuple[str, str], dict[str, datetime]] = defaultdict(dict)
    machines: dict[tuple[str, str], tuple[str, str, str]] = {}
    rows = connection.execute(
        "SELECT events.run, runs.started_at, events.at, events.type, CAST(events.body AS BLOB) "
        "FROM events JOIN runs ON runs.run = events.run "
        "WHERE events.type IN ('TargetPlanned', 'TargetConcluded') "
        "ORDER BY events.run, events.seq"
    )
    for run, started_at, at, kind, body in rows:
        fact = _as_mapping(body)
        key = (run, str(fact.get("key")))
        if kind == "TargetPlanned":
            machine = _machine_of(fact)
            if machine is not None:
                machines[key] = machine
        elif fact.get("result") in PROVEN and key in machines:
            when = datetime.fromisoformat(started_at) + timedelta(seconds=at)
            server, vm, behind = machines[key]
            known = proven[server, vm]
            if when <= before:
                known[behind] = max(when, known.get(behind, when))
    return LastProofs(proven)


def _as_mapping(body: bytes) -> Mapping[str, Any]:
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
