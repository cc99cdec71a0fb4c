"""Beside a run, from another process: follows its journal and shows it; touches nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import anyio
import anyio.to_thread

from orchestrator.attending import Companion
from orchestrator.errors import JournalDamaged
from orchestrator.events import Event, RunStarted
from orchestrator.journal import BEGINNING, Mark, RunSummary, State
from orchestrator.lifecycle import MountRecord
from orchestrator.progress import View
from orchestrator.runstate import RunState

LOOK_S = 0.5
"""Seconds between two looks into the journal; its writer commits as often."""

GRACE_S = 2.0
"""Seconds without a process, after which a run's process is taken to be gone."""

Told = tuple[Event, MountRecord | None]


class Onlooker:
    """A run as its journal tells it, as far as it was read."""

    def __init__(self, state: State, summary: RunSummary) -> None:
        """Before the first record."""
        self._state, self._summary = state, summary
        self._mark: Mark = BEGINNING
        self._began: float | None = None
        """When the run began, on this machine's monotonic clock."""
        self.found: RunState | None = None
        self.is_running = False

    def read_on(self) -> list[Told]:
        """Return what was recorded since the last look, each event with its target's record.

        Nothing is returned where there is nothing new; a long run comes in several parts.

        Raises:
            JournalError: the journal cannot be read or trusted.
            IllegalTransition: it holds what no run of ours can have recorded.
        """
        # Looked at first: what a run records last must not look like the end of its process.
        self.is_running = self._state.is_running(self._summary)
        events, self._mark = self._state.read_on(self._summary.run, self._mark)
        told = [(event, self._fold(event)) for event in events]
        if self.found is not None and self._began is None:
            since = datetime.now(UTC) - self.found.started.started_at
            self._began = time.monotonic() - since.total_seconds()
        return told

    @property
    def has_ended(self) -> bool:
        """True once the journal says how the run ended, and nobody has gone on with it."""
        return self.found is not None and self.found.finished is not None

    def now(self) -> float:
        """Return the time on the run's clock: it goes on while the run's process lives."""
        if self.found is None or self._began is None:
            return 0.0
        if self.has_ended or not self.is_running:
            return self.found.last_at
        return max(self.found.last_at, time.monotonic() - self._began)

    def _fold(self, event: Event) -> MountRecord | None:
        if isinstance(event, RunStarted):
            self.found = RunState(event)
            return None
        if self.found is None:
            raise JournalDamaged(f"the first record of run {self._summary.run} is missing")
        return self.found.take(event)


def watch(
    onlooker: Onlooker,
    view: View,
    *,
    patient: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> RunState | None:
    """Show a run until it has ended, or its process is gone; return what is known of it then.

    What was recorded before is counted and not shown line by line. `patient`: a run whose
    process is gone is waited for, until somebody resumes it.

    Raises:
        JournalError, IllegalTransition: see `Onlooker.read_on`.
    """
    try:
        for event, record in _backlog(onlooker):
            view.catch_up(event, record)
        drawn = gone = 0.0
        while not onlooker.has_ended and (patient or gone <= GRACE_S):
            if drawn <= 0.0:
                view.draw(onlooker.now())
                drawn = view.interval_s
            sleep(LOOK_S)
            drawn -= LOOK_S
            for event, record in onlooker.read_on():
                view.observe(event, record)
            gone = 0.0 if onlooker.is_running else gone + LOOK_S
            view.abandon(gone=gone > GRACE_S and not onlooker.has_ended)
        return onlooker.found
    finally:
        view.close()


def _backlog(onlooker: Onlooker) -> Iterator[Told]:
    """Yield what was recorded before we began to look on."""
    while told := onlooker.read_on():
        yield from told


async def look_on(
    onlooker: Onlooker, companion: Companion, on_look: Callable[[Onlooker], None]
) -> None:
    """Show a run from its journal until cancelled; `on_look` is called after every look.

    Raises:
        JournalError, IllegalTransition: see `Onlooker.read_on`.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(companion.accompany, onlooker.now)
        while True:
            told = await anyio.to_thread.run_sync(onlooker.read_on)
            for event, record in told:
                companion.observe(event, record)
            if not told:  # a long run comes in several parts
                on_look(onlooker)
                await anyio.sleep(LOOK_S)
