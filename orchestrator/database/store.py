"""The runs in a database, for everybody who only looks at them; implements `ports.store`.

Synchronous, as that port is, over one connection that is made when it is needed. Several threads
may ask; one waits for the other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, LiteralString

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from orchestrator.core.earlier_runs import baselines
from orchestrator.core.earlier_runs.baselines import MEASURING, measurements_of
from orchestrator.core.earlier_runs.durations import past_durations
from orchestrator.core.earlier_runs.makespans import RUNS_BACK, TELLING, makespans_of
from orchestrator.core.earlier_runs.naming import NO_NAMING, Naming
from orchestrator.core.earlier_runs.proofs import PROVING, last_proofs
from orchestrator.core.earlier_runs.systems import known_systems
from orchestrator.core.errors import DatabaseAway, JournalDamaged, RunNotFound
from orchestrator.core.events import Event
from orchestrator.core.makespan import PastMakespans
from orchestrator.core.model import RunId, ServerName, SessionId
from orchestrator.core.ports.journal import Baselines, Durations, Proofs, Systems
from orchestrator.core.reading import RunReader
from orchestrator.core.records import (
    Mark,
    Position,
    Record,
    Row,
    RunSummary,
    Stall,
    checked,
    merged,
)
from orchestrator.core.same_server import Identities
from orchestrator.core.served_run import ServedRun
from orchestrator.database.address import Address
from orchestrator.database.bounded import connected_within
from orchestrator.database.failures import explain
from orchestrator.database.installation import CONNECT_S, OPERATOR, require_version
from orchestrator.database.rows import RUNS, SHARDS, WORKERS, holder, run_row, shard
from orchestrator.log import Log

log = Log(__name__)

PAGE = 5000
"""Records that are read at once, over all chains of a run."""

TRIES = 2
"""How often a question is asked: a connection that was idle may have been cut meanwhile."""


class DatabaseStore(RunReader):
    """Reads through the views that every role may read. It writes nothing."""

    def __init__(self, address: Address) -> None:
        """Connects to nothing yet."""
        self._address = address
        self._connection: Connection[TupleRow] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        with self._lock:
            self._drop()

    def __del__(self) -> None:
        """Close it also where nobody did: commands read until their process ends."""
        self._drop()

    # --- which runs there are ------------------------------------------------------------------

    @property
    def place(self) -> str:
        """The database, without what leads to it."""
        return str(self._address)

    @property
    def is_shared(self) -> bool:
        """True: workers carry out what is here."""
        return True

    @property
    def is_being_made(self) -> bool:
        """False: `database init` makes it in one transaction."""
        return False

    def why_not_writable(self) -> str | None:
        """Return why a run could not be submitted here, or None."""
        try:
            ((may, standby),) = self._ask(
                "SELECT pg_has_role(current_user, %s, 'USAGE'), pg_is_in_recovery()", [OPERATOR]
            )
        except DatabaseAway as exc:
            return str(exc)
        if standby:
            return f"{self.place} is a standby, which takes nothing"
        return None if may else f"this account of {self.place} has not the role {OPERATOR}"

    def runs(self) -> list[RunSummary]:
        """Return all runs, the newest first."""
        found = self._ask(
            "SELECT run, plan, body ->> 'plan_path', body ->> 'started_at', body ->> 'report_dir' "
            "FROM (SELECT run, plan, number, convert_from(started, 'UTF8')::json AS body "
            "FROM bulk_restore.runs JOIN bulk_restore.submissions USING (run)) AS found "
            "ORDER BY number DESC"
        )
        return [
            RunSummary(
                run=RunId(run),
                plan=plan,
                plan_path=path or "",
                started_at=datetime.fromisoformat(at),
                report_dir=directory or "",
            )
            for run, plan, path, at, directory in found
        ]

    def is_running(self, summary: RunSummary) -> bool:
        """Return whether a worker has a lease of the run that lives."""
        ((is_held,),) = self._ask(
            "SELECT EXISTS (SELECT FROM bulk_restore.shards "
            "WHERE run = %s AND worker IS NOT NULL AND lease_s > 0)",
            [summary.run],
        )
        return bool(is_held)

    def stall(self, summary: RunSummary) -> Stall | None:
        """Return since when no worker has renewed a lease of the run that it has not given back.

        None while another one lives. A worker that hangs, was killed or does not reach the
        database looks the same.
        """
        found = self._ask(
            "SELECT coalesce(host, worker), pid, clock_timestamp() + lease_s * interval '1 s' "
            "- (SELECT lease_life FROM bulk_restore.about) "
            "FROM bulk_restore.shards LEFT JOIN bulk_restore.workers USING (worker) "
            "WHERE run = %s AND worker IS NOT NULL AND state <> 'done' "
            "ORDER BY lease_s DESC LIMIT 1",
            [summary.run],
        )
        if not found or self.is_running(summary):
            return None
        ((host, pid, since),) = found
        return Stall(
            since=since, who=f"worker {host}" if pid is None else f"process {pid} on {host}"
        )

    def served(self, run: RunId) -> ServedRun:
        """Return who works on each server of a run."""
        found = self._ask(RUNS + "WHERE run = %s", [run])
        if not found:
            raise RunNotFound(f"there is no run {run}")
        shards = self._ask(SHARDS + 'WHERE s.run = %s ORDER BY s.server COLLATE "C"', [run])
        workers = map(holder, self._ask(WORKERS))
        return ServedRun(
            row=run_row(found[0]),
            shards=tuple(map(shard, shards)),
            workers={each.worker: each for each in workers},
        )

    def kept_sessions(self, run: RunId) -> frozenset[tuple[ServerName, SessionId]]:
        """Return the sessions whose tokens are stored: with them another worker goes on."""
        found = self._ask("SELECT server, session FROM bulk_restore.sessions WHERE run = %s", [run])
        return frozenset((ServerName(server), SessionId(session)) for server, session in found)

    # --- one run -------------------------------------------------------------------------------

    def records_between(
        self, run: RunId, after: Mark, upto: Mark | None = None, most: int | None = None
    ) -> Iterator[Record]:
        """Yield records of a run as of one instant for all of its chains; see `RunReader`."""
        heads = self._heads(run)
        for chain, last in after.positions.items():
            self._require_unchanged(run, chain, last, heads.get(chain, 0))
        page = max(PAGE // max(len(heads), 1), 100)
        chains = {}
        for chain, end in heads.items():
            begin = after.of(chain)
            last_seq = end if upto is None else min(end, upto.of(chain).seq)
            if begin.seq < last_seq:
                rows = self._rows(run, chain, begin.seq, last_seq, page)
                chains[chain] = checked(run, rows, begin, chain)
        return islice(merged(chains), most)

    def _heads(self, run: RunId) -> Mapping[str, int]:
        """Return the last number of each chain, the run's own first, all at one instant."""
        return dict(
            self._ask(
                "SELECT chain, seq FROM bulk_restore.heads WHERE run = %s "
                'ORDER BY chain COLLATE "C"',
                [run],
            )
        )

    def _rows(self, run: RunId, chain: str, after: int, last: int, page: int) -> Iterator[Row]:
        """Yield the rows of a chain up to `last`, read page by page."""
        while after < last:
            rows = self._ask(
                "SELECT seq, at, kind, body, hash FROM bulk_restore.events "
                "WHERE run = %s AND chain = %s AND seq > %s AND seq <= %s ORDER BY seq LIMIT %s",
                [run, chain, after, last, page],
            )
            if not rows:
                raise JournalDamaged(f"record {after + 1} of {_named(run, chain)} is missing")
            for row in rows:
                after = row[0]
                yield row

    def _require_unchanged(self, run: RunId, chain: str, last: Position, end: int) -> None:
        """Check that the last record that was read of a chain is still there."""
        if not last.seq:
            return
        found = self._ask(
            "SELECT hash FROM bulk_restore.events WHERE run = %s AND chain = %s AND seq = %s",
            [run, chain, last.seq],
        )
        named = f"record {last.seq} of {_named(run, chain)}"
        if end < last.seq or not found:
            raise JournalDamaged(f"{named} is gone: the journal was cut off")
        if found[0][0] != last.hash:
            raise JournalDamaged(f"{named} is not what was written")

    # --- what earlier runs found out -----------------------------------------------------------

    def durations(self, naming: Naming = NO_NAMING) -> Durations:
        """Return how long each machine's mount takes, by the names of `naming`."""
        found = self._ask(
            "SELECT address, simulated, vm, seconds FROM bulk_restore.durations ORDER BY id"
        )
        rows = (((at, simulated), vm, seconds) for at, simulated, vm, seconds in found)
        return past_durations(rows, naming)

    def baselines(self, *, before: RunId, naming: Naming = NO_NAMING) -> Baselines:
        """Return what the verified targets of the last runs have measured; the newest counts."""
        found = self._ask(
            "SELECT run FROM (SELECT run, number FROM bulk_restore.runs WHERE run <> %s "
            "ORDER BY number DESC LIMIT %s) AS late WHERE EXISTS (SELECT FROM bulk_restore.events "
            "WHERE events.run = late.run AND kind = 'CheckMade' "
            "AND position('\"measured\":'::bytea IN body) > 0) ORDER BY number DESC",
            [before, baselines.BASELINE_RUNS],
        )
        runs = ((RunId(run), self._records_of(run, MEASURING)) for (run,) in found)
        return measurements_of(runs, naming, _pass_over)

    def makespans(self, plan: str, *, before: RunId) -> PastMakespans:
        """Return how long the last whole runs of a plan took, but for the run `before`."""
        found = self._ask(
            "SELECT run FROM bulk_restore.runs WHERE plan = %s AND run <> %s "
            "ORDER BY number DESC LIMIT %s",
            [plan, before, RUNS_BACK],
        )
        runs = ((RunId(run), self._records_of(run, TELLING)) for (run,) in found)
        return makespans_of(runs, _not_compared)

    def _records_of(self, run: str, kinds: Sequence[type[Event]]) -> Sequence[tuple[str, bytes]]:
        """Return the records of one run of some types, each chain in order."""
        return self._ask(
            "SELECT kind, body FROM bulk_restore.events WHERE run = %s AND kind = ANY (%s) "
            'ORDER BY chain COLLATE "C", seq',
            [run, [kind.__name__ for kind in kinds]],
        )

    def proofs(self, *, before: datetime, naming: Naming = NO_NAMING) -> Proofs:
        """Return when each machine was last proven in any run, up to the time `before`."""
        began = {each.run: each.started_at for each in self.runs()}
        found = self._ask(
            "SELECT run, at, kind, body FROM bulk_restore.events WHERE kind = ANY (%s) "
            'ORDER BY run, chain COLLATE "C", seq',
            [[kind.__name__ for kind in PROVING]],
        )
        rows = ((run, began[run], at, kind, body) for run, at, kind, body in found if run in began)
        return last_proofs(rows, before, naming)

    def systems(self, naming: Naming = NO_NAMING) -> Systems:
        """Return as which systems machines were readable, where that had to be found out."""
        rows = self._ask(
            "SELECT e.run, e.body FROM bulk_restore.events e JOIN bulk_restore.runs r "
            "ON r.run = e.run WHERE e.kind = 'SystemFound' "
            'ORDER BY r.number, e.chain COLLATE "C", e.seq'
        )
        started = dict(
            self._ask(
                "SELECT run, started FROM bulk_restore.submissions WHERE run = ANY (%s)",
                [list({run for run, _body in rows})],
            )
            if rows
            else ()
        )
        return known_systems(started, rows, naming)

    def identities(self) -> Identities:
        """Return nothing beyond addresses: a lease is of an address, whatever answers there."""
        return Identities({})

    # --- the connection ------------------------------------------------------------------------

    def _ask(self, question: LiteralString, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a question; it is asked again if an old connection has broken.

        Raises:
            DatabaseAway: there is no answer.
            DatabaseUnusable: it is none of ours, or denies this account what it needs.
        """
        with self._lock:
            for left in reversed(range(TRIES)):
                was_connected = self._connection is not None
                try:
                    connection = self._connected()
                    return connection.execute(question, values, binary=True).fetchall()
                except psycopg.Error as exc:
                    broken = self._connection is None or self._connection.broken
                    if broken:
                        self._drop()
                    if not (broken and was_connected and left):
                        explain(exc, self._address)
            raise AssertionError  # the last try returns or raises

    def _connected(self) -> Connection[TupleRow]:
        if self._connection is None:
            connection = connected_within(CONNECT_S, self._address)
            try:
                found = connection.execute("SELECT version FROM bulk_restore.about").fetchall()
                require_version(found[0][0], self._address)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _named(run: str, chain: str) -> str:
    return f"run {run}, chain {chain!r}" if chain else f"run {run}"


def _pass_over(run: RunId, exc: JournalDamaged) -> None:
    log.warning("baseline.passed_over", run=run, why=str(exc))


def _not_compared(run: RunId, exc: JournalDamaged) -> None:
    log.warning("makespan.passed_over", run=run, why=str(exc))
