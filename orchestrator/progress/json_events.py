"""`--json`: one JSON object per line on stdout, versioned, for programs.

Every event carries v, type, ts (RFC 3339 UTC), run and a rising seq. Fields may be added
within a version, never removed.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, timedelta
from typing import Any, NamedTuple, TextIO

from orchestrator.events import (
    CheckMade,
    Event,
    FileCopied,
    PlaceholderReplaced,
    RunFinished,
    RunHalted,
    RunNoted,
    RunResumed,
    RunStarted,
    ServerGivenUp,
    ServerMeasured,
    ServerPaced,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    SessionTakenUp,
    StopRequested,
    WaveFinished,
    WaveStarted,
)
from orchestrator.lifecycle import MountRecord, Phase
from orchestrator.model import MountKey, MountState, RestorePointId, Result, printable_json
from orchestrator.outlook import Expected
from orchestrator.progress.view import Lines
from orchestrator.proof import Fate
from orchestrator.runstate import RunState
from orchestrator.tally import Tally

VERSION = 1
TYPES = (
    "run",
    "wave",
    "target",
    "check",
    "copy",
    "server",
    "progress",
    "error",
    "summary",
)

_SERVER_STATES: dict[type[Event], str] = {
    SessionOpened: "session_opened",
    SessionTakenUp: "session_taken_up",
    SessionEnded: "session_ended",
    ServerPaced: "paced",
    ServerParked: "parked",
    ServerResumed: "resumed",
    ServerGivenUp: "given_up",
    ServerMeasured: "measured",
}


class _Shown(NamedTuple):
    """What an event of type `target` is written for when it changes."""

    phase: Phase
    result: Result | None
    left: MountState | None
    """Set once there is a result."""
    point: RestorePointId | None

    @classmethod
    def of(cls, record: MountRecord) -> _Shown:
        left = record.mount_state if record.result is not None else None
        point = record.point.id if record.point is not None else None
        return cls(record.phase, record.result, left, point)


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
        self._last: dict[MountKey, _Shown] = {}
        """What was last written of each target."""

    def take_over(self, found: RunState) -> None:
        """Know what earlier processes wrote of the targets; only changes are written again."""
        self._tally.take_over(found)
        self._started = found.started
        self._last = {key: _Shown.of(record) for key, record in found.records.items()}

    def expect(self, expected: Expected) -> None:
        """Know what earlier runs say of durations."""
        self._tally.expect(expected)

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Know the event as written; only changes are written again."""
        self._tally.take(event, record)
        if isinstance(event, RunStarted):
            self._started = event
        if record is not None:
            self._last[record.planned.key] = _Shown.of(record)
        elif isinstance(event, PlaceholderReplaced):
            self._last.pop(event.key, None)

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

    def abandon(self, *, gone: bool) -> None:
        """Know that nobody can say how long the rest takes."""
        self._tally.abandoned = gone

    def draw(self, now: float) -> None:
        """Write how far the run is; nothing once it has ended, for the summary is last."""
        tally = self._tally
        tally.now = max(tally.now, now)
        if self._started is not None and tally.targets and not self._finished:
            rest, left, proofs = tally.rest(), tally.remaining_s(), tally.proofs
            self._write(
                "progress",
                tally.now,
                targets=tally.targets,
                done=tally.done,
                open=len(tally.running),
                remaining_s=_rounded(left),
                remaining_range_s=[_rounded(rest.low), _rounded(rest.high)],
                held=tally.phases[Phase.HELD],
                held_verdicts={each.value: count for each, count in tally.held_verdicts.items()},
                checks=proofs.checks,
                checks_failed=proofs.checks_failed,
                files=proofs.files,
                files_failed=proofs.files_failed,
                points_tried=proofs.fallbacks,
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
        key, now = record.planned.key, _Shown.of(record)
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
        about = {"key": record.planned.key, "server": record.planned.server}
        match event:
            case CheckMade(at=at, outcome=check):
                self._write(
                    "check",
                    at,
                    **about,
                    name=check.name,
                    path=check.path,
                    expected=check.expected,
                    observed=check.observed,
                    passed=check.passed,
                    warning=check.warning,
                )
            case FileCopied(at=at, outcome=file):
                self._write(
                    "copy",
                    at,
                    **about,
                    path=file.path,
                    to=file.to,
                    fate=file.fate.value,
                    size=file.size,
                    sha256=file.sha256,
                    message=file.message,
                )
            case _:
                return

    def _run(self, event: Event) -> None:
        state = _SERVER_STATES.get(type(event))
        if state is not None:
            reason = getattr(event, "reason", None)
            server = getattr(event, "server", "")
            more = {"allowed": event.allowed} if isinstance(event, ServerPaced) else {}
            self._write("server", event.at, server=server, state=state, reason=reason, **more)
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
            case RunResumed(version=version):
                self._write("run", event.at, state="resumed", version=version)
            case PlaceholderReplaced(key=key, server=server):
                self._last.pop(key, None)
                self._write(
                    "target", event.at, key=key, server=server, phase="replaced", result=None
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
        mounts = Counter(shown.left for shown in self._last.values())
        totals["left"] = mounts[MountState.LEFT]
        totals["may_be_mounted"] = mounts[MountState.UNKNOWN]
        return totals

    def _write(self, kind: str, at: float, **fields: Any) -> None:
        self._seq += 1
        row = {
            "v": VERSION,
            "type": kind,
            "ts": self._moment(at),
            "run": self._started.run if self._started else None,
            "seq": self._seq,
            **fields,
        }
        self._lines.write(printable_json(json.dumps(row, ensure_ascii=True)))

    def _moment(self, at: float | None) -> str | None:
        """Return a time of the run's clock in RFC 3339, or None where there is none."""
        if at is None or self._started is None:
            return None
        moment = (self._started.started_at + timedelta(seconds=at)).astimezone(UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


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
            "point": {"type": ["string", "null"], "description": "restore point tried now"},
            "verdict": {"enum": [None, *(result.value for result in Result)]},
            "until": {
                "type": ["string", "null"],
                "description": "while held: when the mount is removed; null: when somebody says so",
            },
            "passed": {"type": "boolean", "description": "check"},
            "warning": {"type": "boolean", "description": "check: passed, and worth a look"},
            "fate": {"enum": [fate.value for fate in Fate], "description": "copy"},
            "size": {"type": ["integer", "null"], "description": "copy: bytes"},
            "allowed": {
                "type": ["integer", "null"],
                "description": "server, paced: mounts it is given for now; null: the plan's limit",
            },
            "remaining_s": {"type": ["number", "null"], "description": "progress: the middle"},
            "remaining_range_s": {
                "type": "array",
                "items": {"type": ["number", "null"]},
                "description": "progress: seconds at least, at most; null: nobody can know",
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
        },
    }
