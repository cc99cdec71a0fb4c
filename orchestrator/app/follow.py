"""`watch`, `serve`: follow the journal of a run from another process. Read only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

import anyio
import anyio.to_thread

from orchestrator.core.errors import DatabaseAway, JournalDamaged
from orchestrator.core.events import Event, RunStarted
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.ports.store import Store
from orchestrator.core.records import BEGINNING, RunSummary, Stall
from orchestrator.core.run_state import RunState
from orchestrator.log import Log
from orchestrator.views.stalled import Away
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.view import View
from orchestrator.views.web.web_view import WebView

log = Log(__name__)

LOOK_S = 0.5
"""Seconds between two looks into the journal; its writer commits as often."""

SHARDS_EVERY_S = 2.0
"""Seconds between two looks at who serves which server, where several machines do."""

GRACE_S = 2.0
"""Seconds without a process, after which a run's process is taken to be gone."""

Observed = tuple[Event, MountRecord | None]


class RunFollower:
    """Reads the journal of a run on and on: its state and statistics, as far as it was read."""

    def __init__(self, store: Store, summary: RunSummary) -> None:
        """Before the first record."""
        self._store, self._summary = store, summary
        self.stats = RunStatistics(store.durations(store.naming(summary.run)).expected)
        self.stats.is_shared = store.is_shared
        self._mark = BEGINNING
        self._began: float | None = None
        """When the run began, on this machine's monotonic clock."""
        self.run_state: RunState | None = None
        self.is_running = False
        self.stall: Stall | None = None
        """Who works on the run and does not move, and since when."""
        self._waited: tuple[str, ...] = ()
        """What waited when that was last looked at."""
        self._shards_at = -math.inf
        """When it was last looked at who serves which server, on the monotonic clock."""

    def read_on(self) -> list[Observed]:
        """Return what was recorded since the last look, each event with its target's record.

        Nothing is returned where there is nothing new, or while a database is away; a long run
        comes in several parts.

        Raises:
            JournalError: the journal cannot be read or trusted.
            IllegalTransition: it holds what no run of ours can have recorded.
        """
        try:
            # Looked at first: what a run records last must not look like the end of its process.
            is_running = self._store.is_running(self._summary)
            stall = None  # who does not move keeps a lock, and loses a lease
            if is_running is not self._store.is_shared:
                stall = self._store.stall(self._summary)
            self._look_at_shards()
            events, self._mark = self._store.read_on(self._summary.run, self._mark)
        except DatabaseAway as exc:  # it was there before, and the run waits for it, too
            # Not logged: a line between two frames of a live view would leave a part of the first.
            if self.stats.away is None:
                self.stats.away = Away(since=datetime.now(UTC), why=str(exc))
            return []
        self.is_running, self.stall, self.stats.away = is_running, stall, None
        observed = [(event, self._fold(event)) for event in events]
        if self.run_state is not None and self._began is None:
            since = datetime.now(UTC) - self.run_state.started.started_at
            self._began = time.monotonic() - since.total_seconds()
        return observed

    def _look_at_shards(self) -> None:
        """Note what nobody does of a run over several machines, and why: `status` says the same."""
        now = time.monotonic()
        if not self._store.is_shared or now - self._shards_at < SHARDS_EVERY_S:
            return
        served = self._store.served(self._summary.run)
        waits = () if served is None else tuple(served.what_waits())
        # A shard that is just being handed over waits, too: what is said is seen twice.
        self.stats.what_waits = tuple(each for each in waits if each in self._waited)
        self._waited, self._shards_at = waits, now

    @property
    def has_ended(self) -> bool:
        """True once the journal has the end of the run, and it was not resumed."""
        return self.run_state is not None and self.run_state.finished is not None

    def now(self) -> float:
        """Return the time on the run's clock: it goes on while the run's process lives."""
        if self.run_state is None or self._began is None:
            return 0.0
        if self.has_ended or not self.is_running:
            return self.run_state.last_at
        return max(self.run_state.last_at, time.monotonic() - self._began)

    def _fold(self, event: Event) -> MountRecord | None:
        if isinstance(event, RunStarted):
            self.run_state = RunState(event)
            return None
        if self.run_state is None:
            raise JournalDamaged(f"the first record of run {self._summary.run} is missing")
        return self.run_state.fold(event)


def watch(follower: RunFollower, view: View, *, patient: bool = False) -> RunState | None:
    """Show a run until it has ended, or its process is gone; return what is known of it then.

    What was recorded before is counted and not shown line by line. `patient`: a run whose
    process is gone is waited for, until somebody resumes it.

    Raises:
        JournalError, IllegalTransition: see `RunFollower.read_on`.
    """
    stats = follower.stats
    try:
        view.begin(stats)
        while backlog := follower.read_on():
            for event, record in backlog:
                stats.observe(event, record)
                view.catch_up(event, record)
        drawn = gone = 0.0
        while not follower.has_ended and (patient or gone <= GRACE_S):
            if drawn <= 0.0:
                view.draw(follower.now())
                drawn = view.interval_s
            time.sleep(LOOK_S)
            drawn -= LOOK_S
            for event, record in follower.read_on():
                stats.observe(event, record)
                view.observe(event, record)
            gone = 0.0 if follower.is_running else gone + LOOK_S
            _show_who_works(view, follower, gone=gone > GRACE_S and not follower.has_ended)
        waited = 0.0  # its process may end with another code than the run: it is recorded last
        while follower.has_ended and follower.is_running and waited < GRACE_S:
            time.sleep(LOOK_S)
            waited += LOOK_S
            for event, record in follower.read_on():
                stats.observe(event, record)
                view.observe(event, record)
        return follower.run_state
    finally:
        view.close()


def _show_who_works(view: View, follower: RunFollower, *, gone: bool) -> None:
    """Tell a view whether the run's process is gone, or does not move.

    One that has stalled and has just ended has not gone on: until it is gone nothing is said.
    """
    stall = None if follower.has_ended else follower.stall
    view.say_what_waits()
    if gone:
        view.abandon(gone=True)
        view.stall(stall)
        return
    if follower.is_running or stall is not None:
        view.stall(stall)
    view.abandon(gone=False)


async def follow(
    follower: RunFollower, view: WebView, on_read: Callable[[RunFollower], None]
) -> None:
    """Show a run from its journal until cancelled; `on_read` is called after every look.

    Raises:
        JournalError, IllegalTransition: see `RunFollower.read_on`.
    """
    view.begin(follower.stats)
    is_away = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(view.serve, follower.now)
        while True:
            observed = await anyio.to_thread.run_sync(follower.read_on)
            for event, record in observed:
                follower.stats.observe(event, record)
                view.observe(event, record)
            away = follower.stats.away
            if away is not None and not is_away:
                log.warning("database.away", why=away.why)
            is_away = away is not None
            if not observed:  # a long run comes in several parts
                on_read(follower)
                await anyio.sleep(LOOK_S)
