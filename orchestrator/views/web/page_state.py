"""What the page shows: the statistics and the timeline of a run, and snapshots of both as JSON."""

from __future__ import annotations

import heapq
import json
from typing import Any

from orchestrator.core.events import Event, RunFinished, ServerFacts, StrayFound
from orchestrator.core.exit_codes import ExitCode, exit_words
from orchestrator.core.left_open import LeftOpen, out_of_reach_words
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import MountState, Result, ServerName, WaveName
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.core.records import Stall
from orchestrator.core.text import printable
from orchestrator.views.eta import TimeLeft
from orchestrator.views.statistics import RunStatistics, in_words
from orchestrator.views.web.timeline import Timeline

SERVERS_SHOWN = 50
SLOWEST_SHOWN = 8
WAVES_SHOWN = 8
STANDSTILLS_SHOWN = 8
OPEN_SHOWN = 50
"""Mounts that are named as needing a person; the rest is counted."""
STATES = (
    *("starting", "confirming", "running", "ending", "finished"),
    *("stalled", "interrupted", "waiting"),
)
"""States of a run. Until its first wave begins, it starts, or waits for confirmation.

It is stalled while its process is there and does not move, and interrupted once that is dead. One
over several machines waits instead: for its first worker, or the next one.
"""
KEY, WORDS = 120, 300
"""Characters of a name and of a message on the page."""


class PageState:
    """An observer: takes note of every event at once, and makes snapshots only when asked.

    Every text leaves it printable; the page sets it as text, never as markup.
    """

    def __init__(self) -> None:
        """Before the first event."""
        self.stats = RunStatistics()
        self.timeline = Timeline()
        self.earlier_success: float | None = None
        """When an earlier run of the plan ended well, in seconds since 1970, if that is known."""
        self.version = 0
        """Rises with everything that a new snapshot would show."""
        self._standstills: list[str] = []

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note of the event, which is counted already; the subscribers do not matter."""
        if record is not None:
            self.timeline.add(record)
        self.version += 1

    def advance(self, now: float) -> None:
        """Let the run's clock go on to `now` without an event; it never goes back."""
        self.stats.now = max(self.stats.now, now)
        standstills = self.stats.standstills
        if standstills != self._standstills:  # of those no event tells
            self._standstills = standstills
            self.version += 1

    def abandon(self, *, gone: bool) -> None:
        """Take note of whether the run's process is gone."""
        if self.stats.abandoned is not gone:
            self.stats.abandoned = gone
            self.version += 1

    def stall(self, stall: Stall | None) -> None:
        """Take note of who works on the run and does not move."""
        if self.stats.stall != stall:
            self.stats.stall = stall
            self.version += 1

    @property
    def finished(self) -> RunFinished | None:
        """How the run ended, once it has."""
        return self.stats.finished

    @property
    def state(self) -> str:
        """The state of the run: one of STATES."""
        if self.finished is not None:
            return "finished"
        if self.stats.stall is not None:
            return "stalled"
        if self.stats.abandoned:
            return "waiting" if self.stats.is_shared else "interrupted"
        if self.stats.ending is not None:
            return "ending"
        if self.stats.awaits_confirmation:
            return "confirming"
        return "running" if self.stats.has_begun else "starting"

    @property
    def last_success(self) -> float | None:
        """When a run of the whole plan last ended with exit code 0; a narrowed one proves less."""
        started, finished = self.stats.started, self.finished
        if started is not None and finished is not None and finished.exit_code == ExitCode.GOOD:
            return finished.finished_at.timestamp() if started.is_whole else self.earlier_success
        return self.earlier_success

    @property
    def elapsed_s(self) -> float:
        """Seconds on the run's clock, which stops when the run has finished."""
        return self.finished.at if self.finished is not None else self.stats.now

    def servers(self) -> tuple[ServerFacts, ...]:
        """Return the Enterprise Managers of the plan."""
        return self.stats.started.servers if self.stats.started is not None else ()

    def snapshot(self) -> bytes:
        """Return everything but the timeline as one line of JSON."""
        stats, started, left_open = self.stats, self.stats.started, self.stats.left_open
        gone = left_open.out_of_reach(stats.ends, stats.now)
        left = stats.time_left() if self.state in {"running", "ending"} else TimeLeft()
        values = {
            "state": self.state,
            "run": started.run if started else None,
            "plan": printable(started.plan, KEY) if started else None,
            "mode": printable(started.mode, KEY) if started else None,
            "reason": printable(started.reason, WORDS) if started and started.reason else None,
            "started_at": started.started_at.isoformat() if started else None,
            "now": round(self.elapsed_s, 1),
            "left": left.words if left.low is not None else None,
            "exit_code": self.finished.exit_code if self.finished else None,
            "exit_words": exit_words(self.finished.exit_code, stats.stops)
            if self.finished
            else None,
            "ending": printable(stats.ending, WORDS) if stats.ending else None,
            "stalled": printable(stats.stalled_words, WORDS),
            "is_away": stats.away is not None and self.finished is None,
            "abandoned": printable(stats.abandoned_words, WORDS) if stats.abandoned else "",
            "continuing": printable(stats.continuing_words, WORDS),
            "standstills": [
                printable(each, WORDS) for each in stats.standstills[:STANDSTILLS_SHOWN]
            ],
            "awaited": [each._asdict() for each in stats.waits_for_people],
            "harder": stats.force_hint,
            "stops": [[round(at, 1), printable(words, WORDS)] for at, words in stats.stops],
            "targets": stats.targets,
            "done": stats.done,
            "open": len(stats.running),
            "waiting": stats.targets - stats.done - len(stats.running),
            "results": {result.value: stats.results[result] for result in Result},
            "proofs": stats.content.parts(),
            "waves": [self._wave(wave) for wave in stats.waves_going[:WAVES_SHOWN]],
            "waves_ended": len(stats.waves_finished),
            "waves_all": len(stats.by_wave),
            "servers": [self._server(facts, left_open) for facts in self.servers()[:SERVERS_SHOWN]],
            "more_servers": max(0, len(self.servers()) - SERVERS_SHOWN),
            "held": {
                "count": len(stats.held_open),
                "until": stats.held_until,
                "verdicts": in_words(stats.held_verdicts),
            },
            "left_open": left_open.mounts,
            "out_of_reach": gone,
            "out_of_reach_words": out_of_reach_words(gone) if gone else "",
            "left_until": self.finished.at + SESSION_IDLE_LIMIT if self.finished else None,
            "left_named": [
                *(_stray(stray) for stray in left_open.strays[:OPEN_SHOWN]),
                *(_left(record) for record in _known_first(left_open)),
            ][:OPEN_SHOWN],
            "unread": [printable(line, WORDS) for line in left_open.unknown],
            "slowest": self._slowest(),
            "failures": [_failure(record) for record in reversed(stats.failures)],
        }
        return json.dumps(values, separators=(",", ":")).encode()

    def server_state(self, server: ServerName) -> str:
        """Return open, waiting or given_up."""
        trouble = self.stats.trouble.get(server)
        if trouble is None:
            return "open"
        return "given_up" if trouble.startswith("given up") else "waiting"

    def _wave(self, wave: WaveName) -> dict[str, Any]:
        done, targets = self.stats.done_by_wave[wave], self.stats.by_wave[wave]
        return {"name": printable(wave, KEY), "done": done, "targets": targets}

    def _server(self, facts: ServerFacts, left_open: LeftOpen) -> dict[str, Any]:
        stats, name = self.stats, facts.name
        return {
            "name": printable(name, KEY),
            "used": stats.open_on(name),
            "allowed": stats.allowed_on(facts),
            "limit": facts.mounts_limit,
            "is_ramp": stats.is_ramp(name),
            "done": stats.done_by_server[name],
            "targets": stats.by_server[name],
            "gate": self.server_state(name),
            "why": printable(stats.trouble.get(name, ""), WORDS),
            "unread": printable(left_open.unknown_on(name), WORDS),
        }

    def _slowest(self) -> list[dict[str, Any]]:
        oldest = heapq.nsmallest(
            SLOWEST_SHOWN, self.stats.under_way(), key=lambda record: record.since
        )
        return [
            {
                "key": printable(record.planned.key, KEY),
                "phase": record.phase.value,
                "since": round(record.since, 1),
                "overdue": record.overdue,
            }
            for record in oldest
        ]


def _known_first(left_open: LeftOpen) -> list[MountRecord]:
    """Return the targets whose mounts are, or may be, open; the known ones first."""
    return heapq.nsmallest(
        OPEN_SHOWN,
        left_open.records,
        key=lambda record: record.mount_state is not MountState.LEFT,
    )


def _left(record: MountRecord) -> dict[str, Any]:
    point, planned = record.open_point, record.planned
    under_way = "" if record.is_final else record.phase.words
    return {
        "key": printable(planned.key, KEY),
        "mount": record.mount_state.value,
        "where": printable(planned.backup_server or planned.server, KEY),
        "point": printable(point.name, KEY) if point else "",
        "message": printable(record.message or under_way, WORDS),
    }


def _stray(stray: StrayFound) -> dict[str, Any]:
    return {
        "key": f"a mount of no target ({printable(stray.task, KEY)})",
        "mount": MountState.LEFT.value,
        "where": printable(stray.server, KEY),
        "point": printable(stray.point or "", KEY),
        "message": printable(stray.reason, WORDS),
    }


def _failure(record: MountRecord) -> dict[str, Any]:
    return {
        "key": printable(record.planned.key, KEY),
        "result": record.result.value if record.result else None,
        "mount": record.mount_state.value,
        "message": printable(record.message or "", WORDS),
    }
