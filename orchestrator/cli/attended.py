"""Whether somebody works on a run, as `status` and `list` say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct

from orchestrator.core.text import counted, moment, printable

if TYPE_CHECKING:
    from orchestrator.app.sites.overview import ServedRun
    from orchestrator.app.stores import Place
    from orchestrator.core.lifecycle import MountRecord
    from orchestrator.core.model import ServerName, SessionId
    from orchestrator.core.ports.store import Store
    from orchestrator.core.records import RunSummary, Stall
    from orchestrator.core.run_state import RunState
    from orchestrator.report.history.overview import RunOverview

RUNNING, STALLED, INTERRUPTED = "running", "stalled", "interrupted"


class Attended(Struct, frozen=True, kw_only=True):
    """Whether somebody works on a run, and on which of its servers.

    `served` is known of a run over several machines, in which each server has a worker or none.
    """

    running: bool
    stall: Stall | None = None
    """Who works on it and does not move."""
    served: ServedRun | None = None
    kept: frozenset[tuple[ServerName, SessionId]] = frozenset()
    """Sessions with which another worker could go on."""

    def on(self, server: ServerName) -> bool:
        """Return whether somebody works on a server, and moves."""
        return self.moves and (self.served is None or server in self.served.served)

    @property
    def moves(self) -> bool:
        """Whether somebody works on the run, and moves."""
        return self.running and self.stall is None

    def is_open(self, run_state: RunState) -> bool:
        """Return whether somebody works on the run, and it has not ended."""
        return self.running and run_state.finished is None

    def stalled_words(self, run_state: RunState) -> str:
        """Return who does not move, since when, and what to do about it."""
        from orchestrator.views.stalled import continuing_words, stalled_words

        if self.stall is None:
            return ""
        is_shared = self.served is not None
        words = stalled_words(self.stall, is_shared=is_shared)
        how = continuing_words(run_state.started.run, self.stall, is_shared=is_shared)
        return printable(f"{words}; {how}")

    def lines(self, run_state: RunState) -> Iterator[str]:
        """Yield who serves what, what nobody does, and what no other worker could go on with."""
        from orchestrator.app.sites.overview import lines

        if self.served is None:
            return
        yield from lines(self.served)
        yield from self.served.what_waits()
        for name, server in run_state.servers.items():
            live = {each.session for each in server.sessions} - server.over
            if self.on(name) and live and not any((name, each) in self.kept for each in live):
                yield f"{printable(name)}: not survivable, its worker keeps no tokens (--token-key)"


def looked_at_run(journal: Store, summary: RunSummary) -> Attended:
    """Return whether somebody works on a run. Who does not move keeps a lock, and loses a lease."""
    running = journal.is_running(summary)
    stall = journal.stall(summary) if running is not journal.is_shared else None
    return Attended(running=running, stall=stall)


def attended_by(journal: Store, summary: RunSummary, state: Place | None) -> Attended:
    """Return whether somebody works on a run, and on which servers where workers share it."""
    if state is None or isinstance(state, Path):
        return looked_at_run(journal, summary)
    from orchestrator.app.sites.asking import looked_at
    from orchestrator.database.store import DatabaseStore

    served = anyio.run(looked_at, state, summary.run)
    kept = DatabaseStore(state).kept_sessions(summary.run)
    stall = None if served.served else journal.stall(summary)
    return Attended(running=bool(served.served), stall=stall, served=served, kept=kept)


def state_of(run_state: RunState | RunOverview, attended: Attended, *, is_shared: bool) -> str:
    """Return the state of a run, as JSON has it."""
    if run_state.finished is not None:
        return "finished"
    if attended.stall is not None:
        return STALLED
    return RUNNING if attended.running else "waiting" if is_shared else INTERRUPTED


def state_in_words(state: str, attended: Attended) -> str:
    """Return the state of a run for a person; a run that is interrupted has a dead process."""
    if state == STALLED and attended.stall is not None:
        return f"stalled since {moment(attended.stall.since)}"
    return "dead" if state == INTERRUPTED else state


def reasons_of(journal: Store, run_state: RunState, attended: Attended) -> Iterator[str]:
    """Yield why a living run goes on only in part: a stop, servers that wait, slots in doubt."""
    from orchestrator.core.exit_codes import stopping_words
    from orchestrator.core.run_state import replay
    from orchestrator.views.statistics import RunStatistics

    served = attended.served
    for stop in run_state.stops[-1:]:
        yield stopping_words(stop.signal, forced=stop.forced)
    if run_state.halted is not None:
        yield printable(f"halted: {run_state.halted.detail}")
    elif not run_state.stops and served is not None and served.row.stopped is not None:
        yield f"a stop was asked for ({served.row.stopped}); no worker has taken note of it yet"
    for name, server in run_state.servers.items():
        if server.parked is not None:
            since = moment(run_state.moment(server.parked.at))
            yield f"{printable(name)} waits since {since}: {printable(server.parked.reason)}"
    stats = RunStatistics()
    for _state, event, record in replay(journal.events(run_state.started.run)):
        stats.observe(event, record)
    stats.now = run_state.clock_at(datetime.now(UTC))
    yield from stats.standstills


def progress_of(run_state: RunState) -> str:
    """Return how many targets have their result, and the verdicts of those that are held."""
    from orchestrator.core.lifecycle import Phase
    from orchestrator.views.statistics import in_words

    records = run_state.records.values()
    done = sum(record.is_final for record in records)
    held = [record.standing for record in records if record.phase is Phase.HELD]
    verdicts = in_words(Counter(verdict for verdict in held if verdict is not None))
    more = f", {len(held)} held open: {verdicts}" if held else ""
    have = "has its" if len(records) == 1 else "have their"
    return f"{done} of {counted(len(records), 'target')} {have} result{more}"


def condition_of(record: MountRecord, run_state: RunState, *, works: bool) -> str:
    """Return what is the case with a target's mount, for after its result or phase; "" if nothing.

    While somebody works on it, the state of a mount is only what a report would say if that ended
    now. So only a hold is told then: until when, and what was found.
    """
    from orchestrator.core.lifecycle import HOLDING_PHASES, Phase
    from orchestrator.core.model import MountState

    if works and record.phase in HOLDING_PHASES:
        if record.phase is not Phase.HELD:
            return ""
        until = "somebody ends the hold"
        if record.kept_until is not None:
            until = moment(run_state.moment(record.kept_until))
        return f" until {until}, {record.standing}"
    if not record.may_be_open:
        return ""
    verdict = f", {record.standing}" if record.phase is Phase.HELD else ""
    is_known = record.mount_state is not MountState.UNKNOWN
    return f"{verdict}, {'left' if is_known else 'may be'} mounted"


def going_on(run_state: RunState, attended: Attended) -> list[str]:
    """Return lines: whether a run that has not ended goes on, and what a person can do."""
    from orchestrator.app.held_up import waiting_for_people
    from orchestrator.views.stalled import continuing_words

    run, is_shared = run_state.started.run, attended.served is not None
    if attended.stall is not None:
        return [attended.stalled_words(run_state)]
    if not attended.running:
        why = "no worker serves the run" if is_shared else "the run is dead, its process is gone"
        return [f"{why}; {continuing_words(run, None, is_shared=is_shared)}"]
    waits = [] if attended.served is None else list(attended.served.what_waits())
    goes_on = f"the run goes on; watch it: bulk-restore watch {run}"
    return [*waits, *waiting_for_people(run_state), goes_on]
