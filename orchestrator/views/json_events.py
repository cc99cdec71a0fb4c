"""`--json`: one JSON object per line on stdout, versioned, for programs.

Every event carries v, type, ts (RFC 3339 UTC), run and a rising seq. Fields may be added
within a version, never removed. An event for which there is no room, because nobody reads, is
dropped; the next one that is written says how many are `missing` before it, as `seq` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, TextIO

from orchestrator.core import events
from orchestrator.core.events import Event
from orchestrator.core.exit_codes import totals
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import MountKey, MountState, RestorePointId, Result
from orchestrator.core.proof import DownloadOutcome, Fate
from orchestrator.core.text import printable_json, timestamp
from orchestrator.views.view import Lines, View
from orchestrator.views.writes import PendingWrites

VERSION = 1
TYPES = ("run", "wave", "target", "check", "copy", "server", "progress", "error", "summary")

LAST = frozenset({"error", "summary"})
"""Types that are written where others are dropped: nothing that matters comes after them."""

_ASKED = ("verb", "words", "user", "host", "reason")
_SERVER = ("server", "state", "reason")
_WRITTEN: Mapping[type[Event], tuple[str, str, tuple[str, ...]]] = {
    events.RunStarted: ("run", "started", ("state", "plan", "mode", "version")),
    events.RunResumed: ("run", "resumed", ("state", "version")),
    events.RunHalted: ("run", "halted", ("state", "reason", "detail")),
    events.StopRequested: ("run", "stopping", ("state", "signal", "forced")),
    events.RunNoted: ("run", "note", ("state", "message")),
    events.RunForecast: ("run", "forecast", ("state", "makespan_s", "low_s", "high_s")),
    events.ControlApplied: ("run", "control", ("state", *_ASKED)),
    events.ApprovalAwaited: ("wave", "awaits_approval", ("wave", "state", "approvals")),
    events.WaveStarted: ("wave", "started", ("wave", "state")),
    events.WaveFinished: ("wave", "finished", ("wave", "state")),
    events.SessionOpened: ("server", "session_opened", _SERVER),
    events.SessionTakenUp: ("server", "session_taken_up", _SERVER),
    events.SessionEnded: ("server", "session_ended", _SERVER),
    events.ServerPaced: ("server", "paced", (*_SERVER, "allowed")),
    events.LimitsShared: ("server", "waiting_for_runs", _SERVER),
    events.ServerParked: ("server", "parked", _SERVER),
    events.ServerResumed: ("server", "resumed", _SERVER),
    events.ServerGivenUp: ("server", "given_up", _SERVER),
    events.ServerMeasured: ("server", "measured", _SERVER),
}
"""What is written of an event that is about no target: type, state and its fields, in order."""

_CHECK = ("name", "path", "expected", "observed", "passed", "warning")
_COPY = ("path", "to", "fate", "size", "sha256", "message")
"""Fields of a check and of a copied file."""


class _ShownState(NamedTuple):
    """What an event of type `target` is written for when it changes."""

    phase: Phase
    result: Result | None
    left: MountState | None
    """Set once there is a result."""
    point: RestorePointId | None

    @classmethod
    def of(cls, record: MountRecord) -> _ShownState:
        left = record.mount_state if record.result is not None else None
        point = record.point.id if record.point is not None else None
        return cls(record.phase, record.result, left, point)


class JsonEvents(View):
    """Writes the events; an observer and a view (it writes a `progress` event per draw)."""

    interval_s = 5.0

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, as long as it is read."""
        self._lines = Lines(stream)
        super().__init__()
        self._seq = self._missing = 0
        self._last: dict[MountKey, _ShownState] = {}
        """What was last written of each target."""
        self._writes = PendingWrites()

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Take the event as written; only changes are written again."""
        self._writes.note(event, record)
        if record is not None:
            self._last[record.planned.key] = _ShownState.of(record)
        elif isinstance(event, events.PlaceholderReplaced):
            self._last.pop(event.key, None)

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Write the event, if it changes anything a program may want to know."""
        for doubtful, outcome in self._writes.note(event, record):
            self._copied(event.at, doubtful, outcome)
        if record is not None:
            self._target(event, record)
        else:
            self._run(event)

    def draw(self, now: float) -> None:
        """Write how far the run is; nothing once it has ended, for the summary is last."""
        stats = self.stats
        stats.now = max(stats.now, now)
        if stats.started is not None and stats.targets and stats.finished is None:
            time_left, content = stats.time_left(), stats.content
            self._write(
                "progress",
                stats.now,
                targets=stats.targets,
                done=stats.done,
                open=len(stats.running),
                may_be_open=stats.may_be_mounted,
                remaining_s=_rounded(time_left.about),
                remaining_range_s=[_rounded(time_left.low), _rounded(time_left.high)],
                held=stats.phases[Phase.HELD],
                held_verdicts={each.value: count for each, count in stats.held_verdicts.items()},
                **_fields(content, ("checks", "checks_failed", "files", "files_failed")),
                points_tried=content.fallbacks,
            )

    def error(self, message: str) -> None:
        """Write an `error` event: what the run, or its beginning, failed of."""
        self._give_up()
        self._write("error", self.stats.now, message=message)

    def sum_up(self, exit_code: int) -> None:
        """Write the last event: the totals, and the exit code of the process."""
        stats = self.stats
        self._give_up()
        mounts = (shown.left for shown in self._last.values())
        numbers = totals(stats.targets, stats.results.elements(), mounts, strays=len(stats.strays))
        self._write("summary", stats.now, exit_code=exit_code, totals=numbers)

    def _target(self, event: Event, record: MountRecord) -> None:
        key, now = record.planned.key, _ShownState.of(record)
        self._detail(event, record)
        if self._last.get(key) == now:
            return
        self._last[key] = now
        self._write(
            "target",
            event.at,
            key=key,
            server=record.planned.server,
            wave=record.planned.wave,
            phase=record.phase.value,
            result=record.result.value if record.result else None,
            mount=record.mount_state.value,
            attempt=len(record.attempts),
            point=now.point,
            verdict=record.verdict.value if record.verdict else None,
            until=self._moment(record.kept_until),
            message=record.message,
        )

    def _detail(self, event: Event, record: MountRecord) -> None:
        """Write what does not change a target's phase or result and yet matters."""
        if isinstance(event, events.CheckMade):
            about = {"key": record.planned.key, "server": record.planned.server}
            self._write("check", event.at, **about, **_fields(event.outcome, _CHECK))
        elif isinstance(event, events.FileCopied) and event.outcome.fate is not Fate.UNKNOWN:
            self._copied(event.at, record, event.outcome)

    def _copied(self, at: float, record: MountRecord, outcome: DownloadOutcome) -> None:
        """Write what became of a file; `unknown` only where that is the last word."""
        about = {"key": record.planned.key, "server": record.planned.server}
        self._write("copy", at, **about, **_fields(outcome, _COPY))

    def _give_up(self) -> None:
        """Write which files were being written when the run broke off."""
        for record, outcome in self._writes.give_up():
            self._copied(self.stats.now, record, outcome)

    def _run(self, event: Event) -> None:
        if isinstance(event, events.PlaceholderReplaced):
            self._last.pop(event.key, None)
            about = {"key": event.key, "server": event.server}
            self._write("target", event.at, **about, phase="replaced", result=None)
        elif isinstance(event, events.StrayFound):
            message = f"left mounted: {event.reason}"
            self._write("run", event.at, state="note", message=message)
        elif (written := _WRITTEN.get(type(event))) is not None:
            kind, state, names = written
            self._write(kind, event.at, **{**_fields(event, names), "state": state})

    def _write(self, kind: str, at: float, **fields: Any) -> None:
        self._seq += 1
        gap = {"missing": self._missing} if self._missing else {}
        row = {
            "v": VERSION,
            "type": kind,
            "ts": self._moment(at),
            "run": self.stats.started.run if self.stats.started else None,
            "seq": self._seq,
            **gap,
            **fields,
        }
        line = printable_json(json.dumps(row, ensure_ascii=True))
        self._missing = 0 if self._lines.offer(line, last=kind in LAST) else self._missing + 1

    def _moment(self, at: float | None) -> str | None:
        """Return a time of the run's clock in RFC 3339, or None where there is none."""
        if at is None or self.stats.started is None:
            return None
        return timestamp(self.stats.started.started_at + timedelta(seconds=at))


def _fields(origin: object, names: Iterable[str]) -> dict[str, Any]:
    """Return these fields of an event or an outcome, in this order; None where it has no such."""
    return {name: getattr(origin, name, None) for name in names}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


FIELDS: dict[str, Any] = {
    "v": {"const": VERSION},
    "type": {"enum": list(TYPES)},
    "ts": {"type": ["string", "null"], "description": "RFC 3339, UTC"},
    "run": {"type": ["string", "null"]},
    "seq": {"type": "integer", "minimum": 1},
    "missing": {
        "type": "integer",
        "minimum": 1,
        "description": "events just before this one that were dropped, not read in time",
    },
    **{name: {"type": "string"} for name in ("key", "server", "wave", "phase")},
    "result": {"enum": [None, *(result.value for result in Result)]},
    "mount": {"enum": [state.value for state in MountState]},
    "point": {"type": ["string", "null"], "description": "restore point tried now"},
    "verdict": {"enum": [None, *(result.value for result in Result)]},
    "until": {
        "type": ["string", "null"],
        "description": "while held: when the mount is removed; null: when a person ends the hold",
    },
    "passed": {"type": "boolean", "description": "check"},
    "warning": {"type": "boolean", "description": "check: passed, with a warning"},
    "fate": {
        "enum": [fate.value for fate in Fate],
        "description": "copy; unknown: it may have been written, and no answer will come",
    },
    "size": {"type": ["integer", "null"], "description": "copy: bytes"},
    "allowed": {
        "type": ["integer", "null"],
        "description": "server, paced: mounts it is given for now; null: the plan's limit",
    },
    "remaining_s": {"type": ["number", "null"], "description": "progress: the middle"},
    "remaining_range_s": {
        "type": "array",
        "items": {"type": ["number", "null"]},
        "description": "progress: seconds at least, at most; null: not known",
    },
    "may_be_open": {
        "type": "integer",
        "description": "progress: mounts that were left or are unknown, beside `open`",
    },
    "held": {
        "type": "integer",
        "description": "progress: mounts held open after their verdict; not done yet",
    },
    "held_verdicts": {
        "type": "object",
        "propertyNames": {"enum": [result.value for result in Result]},
        "additionalProperties": {"type": "integer"},
        "description": "progress: how many of the held mounts have each verdict",
    },
    "exit_code": {"type": "integer"},
    "totals": {"type": "object", "additionalProperties": {"type": "integer"}},
}
"""The published schema of each field."""


def events_json_schema() -> dict[str, Any]:
    """Return the published schema of one line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bulk-restore event",
        "type": "object",
        "required": ["v", "type", "ts", "run", "seq"],
        "properties": FIELDS,
    }
