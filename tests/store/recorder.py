"""Stores to read: each with what records runs in it, and what damages them."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    closing,
)
from pathlib import Path

from orchestrator.core.events import Event, RunStarted
from orchestrator.core.model import RunId
from orchestrator.core.ports.journal import Journal
from orchestrator.core.ports.store import Store
from orchestrator.core.ports.tokens import Tokens
from orchestrator.journal import State
from tests.journal.sample import database, started


class Recorder(ABC):
    """A store in which nothing was recorded yet; another kind of store is one more subclass."""

    @property
    @abstractmethod
    def store(self) -> Store:
        """What reads, as another process would."""

    @abstractmethod
    def writing(self, first: RunStarted) -> AbstractAsyncContextManager[Journal]:
        """Begin a new run, of which nothing is recorded yet; `first` is to be appended first."""

    @abstractmethod
    def at_work(self, first: RunStarted) -> AbstractContextManager[None]:
        """Work on a run, as far as others can see."""

    @abstractmethod
    async def spoil(self, run: str, kind: type[Event], body: bytes) -> None:
        """Overwrite the bodies of a run's records of one type, with all rights there are."""

    @abstractmethod
    async def cut(self, run: str) -> None:
        """Take the last record of a run away, with all rights there are."""

    async def record(self, events: Sequence[Event] = (), first: RunStarted | None = None) -> None:
        """Record a run from its beginning to its end."""
        first = first or started()
        async with self.writing(first) as journal:
            for event in (first, *events):
                journal.append(event)


class DirectoryRecorder(Recorder):
    """A state directory with SQLite."""

    def __init__(self, directory: Path) -> None:
        """`directory` is not made before the first run."""
        self._state = State(directory)

    @property
    def store(self) -> Store:
        """The state directory, opened anew."""
        return State(self._state.directory)

    @asynccontextmanager
    async def writing(self, first: RunStarted) -> AsyncIterator[Journal]:
        """Open the journal of a run."""
        async with self._state.open_run(first, inline=True) as journal:
            yield journal

    def at_work(self, first: RunStarted) -> AbstractContextManager[None]:
        """Hold the locks of a run."""
        return self._state.plan_lock(first.plan, first.run)

    def tokens(self, run: RunId) -> Tokens:
        """Read the side file of a run."""
        return State(self._state.directory).tokens(run)

    async def spoil(self, run: str, kind: type[Event], body: bytes) -> None:
        """Write into the file."""
        self._execute(
            "UPDATE events SET body = ? WHERE run = ? AND type = ?", body, run, kind.__name__
        )

    async def cut(self, run: str) -> None:
        """Delete from the file."""
        self._execute(
            "DELETE FROM events WHERE run = ?1 AND seq = "
            "(SELECT max(seq) FROM events WHERE run = ?1)",
            run,
        )

    def _execute(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(database(self._state), isolation_level=None)) as other:
            other.execute(statement, values)
