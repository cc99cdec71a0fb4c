"""What earlier runs measured in the directories of machines."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import (
    CheckMade,
    RunStarted,
    SessionOpened,
    SubmissionStarted,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    VerdictReached,
)
from orchestrator.core.model import MountKey, RestorePointId, Result, RunId, ServerName
from orchestrator.core.proof import Measured
from orchestrator.journal.naming import NO_NAMING, Known, Naming, address_of, urls_of
from orchestrator.journal.store import read_event
from orchestrator.log import Log

log = Log(__name__)

BASELINE_RUNS = 50
"""How many runs back a measurement is looked for."""


class Measurements:
    """What earlier runs found in the directories of machines; implements `ports.Baselines`."""

    def __init__(
        self, measured: Mapping[tuple[Known, str, str], Measured], naming: Naming = NO_NAMING
    ) -> None:
        """`measured` by server, machine and path."""
        self._measured, self._naming = measured, naming
        self._known = {server for server, _vm, _path in measured}

    def measured(self, server: ServerName, vm: str, path: str) -> Measured | None:
        """Return what the last verified run found at `path`, or None if none ever looked."""
        return self._measured.get((self._naming.known(server, self._known), vm, path))


def read_baselines(connection: sqlite3.Connection, before: RunId, naming: Naming) -> Measurements:
    """Return what the last runs before `before` have measured; what cannot be read is left out."""
    measured: dict[tuple[Known, str, str], Measured] = {}
    for run in _runs_with_measurements(connection, before):
        try:
            older = _measured_in(connection, run)
        except JournalDamaged as exc:
            log.warning("baseline.passed_over", run=run, why=str(exc))
            continue
        measured = older | measured
    return Measurements(measured, naming)


def _runs_with_measurements(connection: sqlite3.Connection, before: RunId) -> list[RunId]:
    """Return the last runs, the newest first, as far as they measured anything."""
    rows = connection.execute(
        "SELECT CAST(run AS TEXT) FROM "
        "(SELECT run, rowid AS place FROM runs WHERE run <> ? ORDER BY rowid DESC LIMIT ?) AS some "
        "WHERE EXISTS (SELECT 1 FROM events WHERE events.run = some.run "
        "AND type = 'CheckMade' AND instr(body, CAST('\"measured\":' AS BLOB)) > 0) "
        "ORDER BY place DESC",
        (before, BASELINE_RUNS),
    )
    return [RunId(run) for (run,) in rows]


def _measured_in(
    connection: sqlite3.Connection, run: RunId
) -> dict[tuple[Known, str, str], Measured]:
    """Return what one run measured in the attempts whose points are its verified results."""
    rows = connection.execute(
        "SELECT type, CAST(body AS BLOB) FROM events WHERE run = ? AND type IN ('RunStarted', "
        "'SessionOpened', "
        "'TargetPlanned', 'SubmissionStarted', 'CheckMade', 'VerdictReached', 'TargetConcluded') "
        "ORDER BY seq",
        (run,),
    )
    targets: dict[MountKey, _TargetMeasurements] = {}
    measured: dict[tuple[Known, str, str], Measured] = {}
    urls: dict[ServerName, str] = {}
    simulated: set[ServerName] = set()
    for kind, body in rows:
        event = read_event(kind, body, f"a record of run {run}")
        match event:
            case RunStarted(servers=facts):
                urls = urls_of(facts)
            case SessionOpened(server=server, simulated=True):
                simulated.add(server)
            case TargetPlanned(key=key):
                targets[key] = _TargetMeasurements(event.server, event.vm)
            case TargetConcluded(key=key, result=Result.VERIFIED) if key in targets:
                target = targets[key]
                where = address_of(urls, target.server), target.server in simulated
                for path, found in target.of(event.point).items():
                    measured[where, target.vm, path] = found
            case TargetEvent(key=key) if key in targets:
                targets[key].take(event)
    return measured


class _TargetMeasurements:
    """What the attempts of one target measured, by the restore points that were verified."""

    def __init__(self, server: ServerName, vm: str) -> None:
        self.server, self.vm = server, vm
        self._point: RestorePointId | None = None
        self._now: dict[str, Measured] = {}
        self._verified: dict[RestorePointId | None, dict[str, Measured]] = {}

    def take(self, event: TargetEvent) -> None:
        match event:
            case SubmissionStarted():
                self._point, self._now = event.point, {}
            case CheckMade(outcome=outcome) if outcome.measured is not None:
                self._now[outcome.path] = outcome.measured
            case VerdictReached(result=Result.VERIFIED):
                self._verified[self._point] = self._now
            case _:
                return

    def of(self, point: RestorePointId | None) -> Mapping[str, Measured]:
        """Return what was measured at a point; None: at the last one that was tried."""
        return self._verified.get(self._point if point is None else point, {})
