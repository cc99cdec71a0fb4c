"""Where runs are recorded, for everybody who only looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from orchestrator.core.earlier_runs.naming import NO_NAMING, Naming
from orchestrator.core.events import Event
from orchestrator.core.makespan import PastMakespans
from orchestrator.core.model import RunId
from orchestrator.core.ports.journal import Baselines, Durations, Proofs, Systems
from orchestrator.core.records import Mark, Record, RunSummary, Stall
from orchestrator.core.run_state import RunState
from orchestrator.core.same_server import Identities
from orchestrator.core.served_run import ServedRun


class RecordedRuns(Protocol):
    """The records of runs; reading changes nothing and may be repeated.

    Raises:
        JournalDamaged: a record is not what was written.
    """

    def records(self, run: RunId, *, upto: Mark | None = None) -> Iterator[Record]:
        """Yield the records of a run, up to a mark, each checked against its chain.

        Where the run has several chains they come in the order of `core.records.merged`.
        """

    def replay(self, run: RunId) -> RunState:
        """Return what the records of a run add up to; a run without any is damaged."""


class Store(RecordedRuns, Protocol):
    """Everything that is read of runs, also while other processes record them.

    Reading changes nothing, makes nothing and may be repeated. `core.reading.RunReader` has what
    is the same for every store.

    Raises:
        JournalDamaged: a record is not what was written.
        JournalError: the store cannot be read, or not now.
    """

    @property
    def place(self) -> str:
        """Where the runs are recorded, for a person; it holds no secret."""

    @property
    def is_shared(self) -> bool:
        """True if workers, perhaps on other machines, carry out the runs that are here.

        Then nobody need resume a run that nobody works on: the next worker goes on with it.
        """

    @property
    def is_being_made(self) -> bool:
        """True while the first run makes the store: it cannot be read yet, and soon can."""

    def why_not_writable(self) -> str | None:
        """Return why a run could not be recorded here, or None; nothing is written to find out."""

    # --- which runs there are ------------------------------------------------------------------

    def runs(self) -> list[RunSummary]:
        """Return all runs, the newest first; none if there is no store yet.

        One that was killed before its first record had done nothing, and is none.
        """

    def find(self, text: str) -> RunId:
        """Return the id of a run; see `summary`."""

    def summary(self, text: str) -> RunSummary:
        """Return the run called `last`, by its id, or by the start of it.

        Raises:
            RunNotFound: there is none, or several.
        """

    def is_running(self, summary: RunSummary) -> bool:
        """Return whether somebody works on a run now, as far as can be seen from here.

        To be asked before the run is read: what it records last must not look like a death.
        """

    def stall(self, summary: RunSummary) -> Stall | None:
        """Return since when who works on a run does not move; None: it moves, or there is nobody.

        None also where that cannot be told. In a directory the process is alive (`is_running`): it
        is stopped, or hangs. Over a database a worker has not renewed its lease, and nobody has
        taken that: it may have been killed, too.
        """

    def served(self, run: RunId) -> ServedRun | None:
        """Return who works on each server of a run; None where runs are of one process.

        Raises:
            RunNotFound: there is no such run.
        """

    # --- one run -------------------------------------------------------------------------------

    def events(self, run: RunId) -> Iterator[Event]:
        """Yield a run's events as they happened: each chain in order, all by the run's clock."""

    def replay_to_head(self, run: RunId) -> tuple[RunState, Mark]:
        """Return the fold of a run's events and the mark behind the last of them, in one reading.

        `records` up to this mark are those of the fold, however the run goes on.
        """

    def chain_head(self, run: RunId) -> str:
        """Return the hash that reports name, as hex, after checking all records of the run."""

    def read_on(self, run: RunId, mark: Mark) -> tuple[list[Event], Mark]:
        """Return a run's events after `mark`, and the mark behind them; `BEGINNING` is the first.

        Only what is new is read, and of a long run a part. No events: there is no more yet.

        Raises:
            JournalDamaged: also, what was read before is not there any more.
        """

    def naming(self, run: RunId) -> Naming:
        """Return a run's names of its servers."""

    # --- what earlier runs found out -----------------------------------------------------------

    def durations(self, naming: Naming = NO_NAMING) -> Durations:
        """Return how long each machine's mount takes, asked for by the names of `naming`."""

    def baselines(self, *, before: RunId, naming: Naming = NO_NAMING) -> Baselines:
        """Return what the verified targets of the last runs have measured; the newest counts.

        `before` is the run that asks. A run that cannot be read any more is passed over.
        """

    def makespans(self, plan: str, *, before: RunId) -> PastMakespans:
        """Return how long the last whole runs of a plan took, by its name.

        `before` is the run that asks. A run that cannot be read any more is passed over.
        """

    def proofs(self, *, before: datetime, naming: Naming = NO_NAMING) -> Proofs:
        """Return when each machine was last proven in any run, up to the time `before`.

        Records that cannot be read prove nothing: their machines count as not proven then.
        """

    def systems(self, naming: Naming = NO_NAMING) -> Systems:
        """Return as which systems machines were readable, where that had to be found out.

        Records that cannot be read say nothing.
        """

    def identities(self) -> Identities:
        """Return what identifies the servers of the runs that live, for who takes no part."""
