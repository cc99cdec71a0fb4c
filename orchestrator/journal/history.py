"""What earlier runs say, from the database: the rows; `core.earlier_runs` folds them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime

from orchestrator.core.earlier_runs import baselines
from orchestrator.core.earlier_runs.baselines import MEASURING, Measurements, measurements_of
from orchestrator.core.earlier_runs.durations import DurationRow, PastDurations, past_durations
from orchestrator.core.earlier_runs.makespans import RUNS_BACK, TELLING, makespans_of
from orchestrator.core.earlier_runs.naming import Naming, address_of, urls_in
from orchestrator.core.earlier_runs.proofs import PROVING, LastProofs, ProofRow, last_proofs
from orchestrator.core.earlier_runs.systems import KnownSystems, known_systems
from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import Event
from orchestrator.core.makespan import PastMakespans
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.records import as_mapping
from orchestrator.log import Log

log = Log(__name__)

SIMULATED = "simulated: "
"""Goes before a server's name in the durations; no name in a plan begins like that."""


def read_proofs(connection: sqlite3.Connection, before: datetime, naming: Naming) -> LastProofs:
    """Return when each machine was last proven in any run of a journal, up to `before`."""
    rows = connection.execute(
        "SELECT events.run, runs.started_at, events.at, events.type, CAST(events.body AS BLOB) "
        "FROM events JOIN runs ON runs.run = events.run "
        "WHERE events.type IN (?, ?, ?, ?) ORDER BY events.run, events.seq",
        [kind.__name__ for kind in PROVING],
    )
    whole: Iterator[ProofRow] = (
        (run, datetime.fromisoformat(started_at), at, kind, body)
        for run, started_at, at, kind, body in rows
    )
    return last_proofs(whole, before, naming)


def read_systems(connection: sqlite3.Connection, naming: Naming) -> KnownSystems:
    """Return as which systems machines were readable; an older journal has no index for that."""
    rows = connection.execute(
        "SELECT CAST(events.run AS TEXT), CAST(body AS BLOB) FROM events "
        "JOIN runs ON runs.run = events.run "
        "WHERE events.type = 'SystemFound' ORDER BY runs.rowid, events.seq"
    ).fetchall()
    started = {
        run: body
        for run in {run for run, _body in rows}
        for (body,) in connection.execute(
            "SELECT CAST(body AS BLOB) FROM events WHERE run = ? AND seq = 1", (run,)
        )
    }
    return known_systems(started, rows, naming)


def read_durations(connection: sqlite3.Connection, naming: Naming) -> PastDurations:
    """Return how long the last mounts of each machine took."""
    urls = {
        run: urls_in(as_mapping(body))
        for run, body in connection.execute(
            "SELECT CAST(runs.run AS TEXT), CAST(body AS BLOB) FROM runs "
            "JOIN events ON events.run = runs.run AND seq = 1"
        )
    }

    def rows() -> Iterator[DurationRow]:
        for run, server, vm, seconds in connection.execute(
            "SELECT CAST(run AS TEXT), CAST(server AS TEXT), CAST(vm AS TEXT), "
            "CAST(seconds AS REAL) FROM durations ORDER BY id"
        ):
            name = ServerName(server.removeprefix(SIMULATED))
            yield (address_of(urls.get(run, {}), name), server.startswith(SIMULATED)), vm, seconds

    return past_durations(rows(), naming)


def read_baselines(connection: sqlite3.Connection, before: RunId, naming: Naming) -> Measurements:
    """Return what the last runs before `before` have measured; what cannot be read is left out."""
    runs = (
        (run, _records_of(connection, run, MEASURING))
        for run in _runs_with_measures(connection, before)
    )
    return measurements_of(runs, naming, _pass_over)


def read_makespans(connection: sqlite3.Connection, plan: str, before: RunId) -> PastMakespans:
    """Return how long the last whole runs of a plan took, but for the run `before`."""
    rows = connection.execute(
        "SELECT CAST(run AS TEXT) FROM runs WHERE plan = ? AND run <> ? "
        "ORDER BY rowid DESC LIMIT ?",
        (plan, before, RUNS_BACK),
    ).fetchall()
    runs = ((RunId(run), _records_of(connection, run, TELLING)) for (run,) in rows)
    return makespans_of(runs, _not_compared)


def _pass_over(run: RunId, exc: JournalDamaged) -> None:
    log.warning("baseline.passed_over", run=run, why=str(exc))


def _not_compared(run: RunId, exc: JournalDamaged) -> None:
    log.warning("makespan.passed_over", run=run, why=str(exc))


def _runs_with_measures(connection: sqlite3.Connection, before: RunId) -> list[RunId]:
    """Return the last runs, the newest first, as far as they measured anything."""
    rows = connection.execute(
        "SELECT CAST(run AS TEXT) FROM "
        "(SELECT run, rowid AS place FROM runs WHERE run <> ? ORDER BY rowid DESC LIMIT ?) AS some "
        "WHERE EXISTS (SELECT 1 FROM events WHERE events.run = some.run "
        "AND type = 'CheckMade' AND instr(body, CAST('\"measured\":' AS BLOB)) > 0) "
        "ORDER BY place DESC",
        (before, baselines.BASELINE_RUNS),
    )
    return [RunId(run) for (run,) in rows]


def _records_of(
    connection: sqlite3.Connection, run: str, kinds: Sequence[type[Event]]
) -> Iterator[tuple[str, bytes]]:
    """Return the records of one run of some types, in order."""
    return connection.execute(
        "SELECT type, CAST(body AS BLOB) FROM events "
        "WHERE run = ? AND type IN (SELECT value FROM json_each(?)) ORDER BY seq",
        (run, json.dumps([kind.__name__ for kind in kinds])),
    )
