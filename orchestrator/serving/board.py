"""What stands on the page: the tally and the timeline, and pictures of them as JSON."""

from __future__ import annotations

import heapq
import json
from typing import Any

from orchestrator.events import Event, RunFinished, RunResumed, ServerFacts
from orchestrator.lifecycle import MountRecord
from orchestrator.model import Result, ServerName, WaveName, printable
from orchestrator.outlook import Expected, Rest
from orchestrator.runstate import RunState
from orchestrator.serving.timeline import Timeline
from orchestrator.tally import Tally, in_words

SERVERS_SHOWN = 50
SLOWEST_SHOWN = 8
WAVES_SHOWN = 8
STATES = ("starting", "confirming", "running", "ending", "finished", "interrupted")
"""Where a run may stand. Until its first wave begins, it starts; or waits for a person's yes."""
KEY, WORDS = 120, 300
"""Characters of a name and of a message on the page."""


class Board:
    """An observer: folds every event in at once, and makes pictures only when asked.

    Every text leaves it printable; the page sets it as text, never as markup.
    """

    def __init__(self) -> None:
        """Before the first event."""
        self.tally = Tally()
        self.timeline = Timeline()
        self.finished: RunFinished | None = None
        self.version = 0
        """Rises with everything that a new picture would show."""

    def expect(self, expected: Expected) -> None:
        """Know what earlier runs say of durations; called before the first event."""
        self.tally.expect(expected)

    def take_over(self, found: RunState) -> None:
        """Begin with what earlier processes of the run did."""
        self.tally.take_over(found)
        self.timeline.take_over(found)
        self.version += 1

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Fold the event in; never looks at who may be listening."""
        self.tally.take(event, record)
        if record is not None:
            self.timeline.take(record)
        elif isinstance(event, RunFinished):
            self.finished = event
        elif isinstance(event, RunResumed):
            self.finished = None
        self.version += 1

    def at(self, now: float) -> None:
        """Let the run's clock go on to `now` without an event; it never goes back."""
        self.tally.now = max(self.tally.now, now)

    def abandon(self, *, gone: bool) -> None:
        """Note whether the process that carries the run out is gone."""
        if self.tally.abandoned is not gone:
            self.tally.abandoned = gone
            self.version += 1

    @property
    def state(self) -> str:
        """Where the run stands: one of STATES."""
        if self.finished is not None:
            return "finished"
        if self.tally.abandoned:
            return "interrupted"
        if self.tally.ending is not None:
            return "ending"
        if self.tally.awaits_confirmation:
            return "confirming"
        return "running" if self.tally.has_begun else "starting"

    @property
    def elapsed_s(self) -> float:
        """Seconds on the run's clock; it stands still once the run has finished."""
        return self.finished.at if self.finished is not None else self.tally.now

    def servers(self) -> tuple[ServerFacts, ...]:
        """Return what the plan says of the Enterprise Managers."""
        return self.tally.started.servers if self.tally.started is not None else ()

    def picture(self) -> bytes:
        """Return everything but the timeline as one line of JSON."""
        tally, started = self.tally, self.tally.started
        left = tally.rest() if self.state in {"running", "ending"} else Rest()
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
            "ending": printable(tally.ending, WORDS) if tally.ending else None,
            "harder": tally.harder,
            "targets": tally.targets,
            "done": tally.done,
            "open": len(tally.running),
            "waiting": tally.targets - tally.done - len(tally.running),
            "results": {result.value: tally.results[result] for result in Result},
            "proofs": tally.proofs.parts(),
            "waves": [self._wave(wave) for wave in tally.waves_going[:WAVES_SHOWN]],
            "waves_ended": len(tally.waves_finished),
            "waves_all": len(tally.by_wave),
            "servers": [self._server(facts) for facts in self.servers()[:SERVERS_SHOWN]],
            "more_servers": max(0, len(self.servers()) - SERVERS_SHOWN),
            "held": self._held(),
            "left_open": len(tally.left),
            "slowest": self._slowest(),
            "failures": [_failure(record) for record in reversed(tally.failures)],
        }
        return json.dumps(values, separators=(",", ":")).encode()

    def gate(self, server: ServerName) -> str:
        """Return open, waiting or given_up."""
        trouble = self.tally.trouble.get(server)
        if trouble is None:
            return "open"
        return "given_up" if trouble.startswith("given up") else "waiting"

    def _wave(self, wave: WaveName) -> dict[str, Any]:
        done, targets = self.tally.done_by_wave[wave], self.tally.by_wave[wave]
        return {"name": printable(wave, KEY), "done": done, "targets": targets}

    def _server(self, facts: ServerFacts) -> dict[str, Any]:
        tally, name = self.tally, facts.name
        return {
            "name": printable(name, KEY),
            "used": tally.held[name],
            "allowed": tally.allowed_on(facts),
            "limit": facts.mounts_limit,
            "done": tally.done_by_server[name],
            "targets": tally.by_server[name],
            "gate": self.gate(name),
            "why": printable(tally.trouble.get(name, ""), WORDS),
        }

    def _held(self) -> dict[str, Any]:
        """Return how many mounts are held for a person, until when if all of them end, and
        what was found there.
        """
        held = self.tally.held_open
        times = [record.kept_until for record in held if record.kept_until is not None]
        until = max(times) if held and len(times) == len(held) else None
        verdicts = in_words(self.tally.held_verdicts)
        return {"count": len(held), "until": until, "verdicts": verdicts}

    def _slowest(self) -> list[dict[str, Any]]:
        oldest = heapq.nsmallest(
            SLOWEST_SHOWN, self.tally.under_way(), key=lambda record: record.since
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


def _failure(record: MountRecord) -> dict[str, Any]:
    return {
        "key": printable(record.planned.key, KEY),
        "result": record.result.value if record.result else None,
        "mount": record.mount_state.value,
        "message": printable(record.message or "", WORDS),
    }
