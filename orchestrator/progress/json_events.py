"""`--json`: one JSON object per line on stdout, versioned, for programs.

Every event carries v, type, ts (RFC 3339 UTC), run and a rising seq. Fields may be added
within a version, never removed.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, timedelta
from typing import Any, TextIO

from orchestrator.events import (
    Event,
    RunFinished,
    RunHalted,
    RunNoted,
    RunStarted,
    ServerGivenUp,
    ServerMeasured,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    StopRequested,
    TargetEvent,
    WaveFinished,
    WaveStarted,
)
from orchestrator.lifecycle import MountRecord
from orchestrator.model import MountState, Result
from orchestrator.progress.tally import Tally
from orchestrator.progress.view import Lines

VERSION = 1
TYPES = ("run", "wave", "target", "server", "progress", "error", "summary")

_SERVER_STATES: dict[type[Event], str] = {
    SessionOpened: "session_opened",
    SessionEnded: "session_ended",
    ServerParked: "parked",
    ServerResumed: "resumed",
    ServerGivenUp: "given_up",
    ServerMeasured: "measured",
}


class JsonEvents:
    """Writes the events; an observer and a view (it writes a `progress` event per draw)."""

    interval_s = 5.0

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, as long as somebody reads it."""
        self._lines = Lines(stream)
        self._tally = Tally()
        self._seq = 0
        self._started: RunStarted | None = None
        self._finished = False
        self._mounts: Counter[MountState] = Counter()
        self._last: dict[str, tuple[str, str | None]] = {}

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Write the event, if it changes anything a program may want to know."""
        self._tally.take(event, record)
        if isinstance(event, RunStarted):
            self._started = event
        if record is not None:
            self._target(event, record)
        elif isinstance(event, RunFinished):
            self._finished = True
        else:
            self._run(event)

    def draw(self, now: float) -> None:
        """Write how far the run is; nothing once it has ended, for the summary is last."""
        tally = self._tally
        tally.now = max(tally.now, now)
        if self._started is not None and tally.targets and not self._finished:
            left = tally.remaining_s()
            self._write(
                "progress",
                tally.now,
                targets=tally.targets,
                done=tally.done,
                open=len(tally.running),
                remaining_s=None if left is None else round(left, 1),
            )

    def close(self) -> None:
        """Nothing to put back."""

    def error(self, message: str) -> None:
        """Write an `error` event: what the run, or its beginning, failed of."""
        self._write("error", self._tally.now, message=message)

    def sum_up(self, exit_code: int) -> None:
        """Write the last event: the totals, and the exit code of the process."""
        self._write("summary", self._tally.now, exit_code=exit_code, totals=self._totals())

    def _target(self, event: Event, record: MountRecord) -> None:
        result = record.result.value if record.result else None
        now = (record.phase.value, result)
        key = record.planned.key
        if self._last.get(key) == now:
            return
        self._last[key] = now
        if record.result is not None and isinstance(event, TargetEvent):
            self._mounts[record.mount_state] += 1
        self._write(
            "target",
            event.at,
            key=key,
            server=record.planned.server,
            wave=record.planned.wave,
            phase=record.phase.value,
            result=result,
            mount=record.mount_state.value,
            attempt=len(record.attempts),
            message=record.message,
        )

    def _run(self, event: Event) -> None:
        state = _SERVER_STATES.get(type(event))
        if state is not None:
            reason = getattr(event, "reason", None)
            server = getattr(event, "server", "")
            self._write("server", event.at, server=server, state=state, reason=reason)
            return
        match event:
            case RunStarted():
                self._write(
                    "run",
                    event.at,
                    state="started",
                    plan=event.plan,
                    mode=event.mode,
                    version=event.version,
                )
            case WaveStarted(wave=wave):
                self._write("wave", event.at, wave=wave, state="started")
            case WaveFinished(wave=wave):
                self._write("wave", event.at, wave=wave, state="finished")
            case RunHalted(reason=reason, detail=detail):
                self._write("run", event.at, state="halted", reason=reason, detail=detail)
            case StopRequested(signal=signal, forced=forced):
                self._write("run", event.at, state="stopping", signal=signal, forced=forced)
            case RunNoted(message=message):
                self._write("run", event.at, state="note", message=message)
            case _:
                return

    def _totals(self) -> dict[str, int]:
        tally = self._tally
        totals = {"targets": tally.targets}
        totals.update({result.value: tally.results[result] for result in Result})
        totals["left"] = self._mounts[MountState.LEFT]
        return totals

    def _write(self, kind: str, at: float, **fields: Any) -> None:
        self._seq += 1
        started = self._started
        moment = (started.started_at + timedelta(seconds=at)).astimezone(UTC) if started else None
        row = {
            "v": VERSION,
            "type": kind,
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            if moment
            else None,
            "run": started.run if started else None,
            "seq": self._seq,
            **fields,
        }
        self._lines.write(json.dumps(row, ensure_ascii=True))


def events_json_schema() -> dict[str, Any]:
    """Return the published schema of one line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bulk-restore event",
        "type": "object",
        "required": ["v", "type", "ts", "run", "seq"],
        "properties": {
            "v": {"const": VERSION},
            "type": {"enum": list(TYPES)},
            "ts": {"type": ["string", "null"], "description": "RFC 3339, UTC"},
            "run": {"type": ["string", "null"]},
            "seq": {"type": "integer", "minimum": 1},
            "key": {"type": "string"},
            "server": {"type": "string"},
            "wave": {"type": "string"},
            "phase": {"type": "string"},
            "result": {"enum": [None, *(result.value for result in Result)]},
            "mount": {"enum": [state.value for state in MountState]},
            "exit_code": {"type": "integer"},
            "totals": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
    }
