"""What follows from the list of runs and their records, whoever keeps them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from orchestrator.core.earlier_runs.naming import Naming, urls_of
from orchestrator.core.errors import RunNotFound
from orchestrator.core.events import Event, RunStarted
from orchestrator.core.model import RunId
from orchestrator.core.records import BEGINNING, Mark, Record, RunSummary, event_of
from orchestrator.core.run_state import RunState, fold

BATCH = 5000
"""Records that are read at once of a run that is followed."""


class RunReader(ABC):
    """The part of `ports.store.Store` that is the same for every store. Reading changes nothing.

    A run may go on while it is read: each method reads once, and sees the run at one moment.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the runs are recorded, for a person; it holds no secret."""

    @abstractmethod
    def runs(self) -> list[RunSummary]:
        """Return all runs that have a record, the newest first."""

    @abstractmethod
    def records_between(
        self, run: RunId, after: Mark, upto: Mark | None = None, most: int | None = None
    ) -> Iterator[Record]:
        """Yield the records of a run behind `after`, each checked against its chain.

        In the order of `merged`, where there are several chains. Up to the mark `upto`, and at
        most `most` of them; None: as many as there are.

        Raises:
            JournalDamaged: names the first record that is not what was written, or says that the
                last one before `after` is not there any more.
        """

    def find(self, text: str) -> RunId:
        """Return the id of a run; see `summary`."""
        return self.summary(text).run

    def summary(self, text: str) -> RunSummary:
        """Return the run called `last`, by its id, or by the start of it.

        Raises:
            RunNotFound: there is none, or several.
        """
        runs = self.runs()
        if not runs:
            raise RunNotFound(f"there are no runs in {self.place}")
        if text == "last":
            return runs[0]
        found = [each for each in runs if each.run == text] or [
            each for each in runs if each.run.startswith(text)
        ]
        if len(found) != 1:
            several = "several runs start" if found else "no run starts"
            raise RunNotFound(f"{several} with {text!r}; see: bulk-restore status")
        return found[0]

    def records(self, run: RunId, *, upto: Mark | None = None) -> Iterator[Record]:
        """Yield the records of a run, up to a mark, each checked against its chain.

        What their bodies say is not looked at.

        Raises:
            JournalDamaged: names the first record that is not what was written.
        """
        return self.records_between(run, BEGINNING, upto)

    def events(self, run: RunId) -> Iterator[Event]:
        """Yield a run's events as they happened, checking its chains on the way.

        Raises:
            JournalDamaged: names the first record that is not what was written.
        """
        return map(event_of, self.records(run))

    def replay(self, run: RunId) -> RunState:
        """Return the fold of a run's events.

        Raises:
            JournalDamaged: a record is not what was written, or the run has none.
        """
        return self.replay_to_head(run)[0]

    def replay_to_head(self, run: RunId) -> tuple[RunState, Mark]:
        """Return the fold of a run's events and the mark behind the last of them.

        In one reading: the run may go on meanwhile.

        Raises:
            JournalDamaged: as `replay`.
        """
        reached = _Reached(self.records(run))
        return fold(map(event_of, reached)), reached.mark

    def chain_head(self, run: RunId) -> str:
        """Return the hash that reports name, as hex, after checking all records of the run.

        Raises:
            JournalDamaged: a record is not what was written.
        """
        return self.end_of(run).head

    def end_of(self, run: RunId) -> Mark:
        """Return the mark behind the last records of a run, after checking all of them.

        Raises:
            JournalDamaged: a record is not what was written.
        """
        reached = _Reached(self.records(run))
        for record in reached:
            event_of(record)
        return reached.mark

    def read_on(self, run: RunId, mark: Mark) -> tuple[list[Event], Mark]:
        """Return a run's events after `mark`, checked against it, and the mark behind them.

        Only what is new is read, and at most `BATCH` records of it; none: there is no more yet.

        Raises:
            JournalDamaged: names the first record that is not what was written, or that the
                record at `mark` is not there any more.
        """
        reached = _Reached(self.records_between(run, mark, most=BATCH), mark)
        return list(map(event_of, reached)), reached.mark

    def naming(self, run: RunId) -> Naming:
        """Return a run's names of its servers, for a view that follows it.

        Raises:
            JournalDamaged: its first record cannot be read.
        """
        first = next(map(event_of, self.records_between(run, BEGINNING, most=1)), None)
        return Naming(urls=urls_of(first.servers) if isinstance(first, RunStarted) else {})


class _Reached:
    """Records as they come, and the mark behind those that have come by now."""

    def __init__(self, records: Iterator[Record], start: Mark = BEGINNING) -> None:
        self._records, self._start = records, start
        self._last: dict[str, Record] = {}

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            self._last[record.chain] = record
            yield record

    @property
    def mark(self) -> Mark:
        return self._start.past(self._last.values())
