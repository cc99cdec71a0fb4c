"""The timeline as a list of changes that only grows; every listener reads on from its place.

So a listener costs one number, however slow it is, and what all of them read is encoded once.
A change is `[lane, phase, at]`: from `at` on the lane's target is in the phase. The first of a
lane says its key and server too; the last, if the target ended badly, its result.
"""

from __future__ import annotations

import json

from orchestrator.lifecycle import MountRecord, Phase
from orchestrator.model import MountKey, Result, printable
from orchestrator.runstate import RunState

PHASES = tuple(Phase)
BAD = frozenset({Result.FAILED, Result.UNKNOWN})
"""Results that a person must see."""
PART = 1000
"""Changes sent at once."""


class Timeline:
    """When each target was in which phase. A target has a lane once it was submitted."""

    def __init__(self) -> None:
        """Before the first event."""
        self._changes: list[str] = []
        self._lanes: dict[MountKey, int] = {}
        self._phase: list[Phase] = []
        self._parts: dict[tuple[int, int], bytes] = {}

    def __len__(self) -> int:
        """Changes so far."""
        return len(self._changes)

    def take_over(self, found: RunState) -> None:
        """Begin with what earlier processes of the run did."""
        for record in found.records.values():
            for span in record.spans:
                self._change(record, span.phase, span.start)
            self.take(record)

    def take(self, record: MountRecord) -> None:
        """Note the target's phase, if it is another."""
        self._change(record, record.phase, record.since)

    def _change(self, record: MountRecord, phase: Phase, at: float) -> None:
        key = record.planned.key
        lane = self._lanes.get(key)
        change: list[object] = [0, PHASES.index(phase), round(at, 2)]
        if lane is None:
            if phase in {Phase.QUEUED, Phase.DONE}:  # never submitted so far
                return
            lane = self._lanes[key] = len(self._lanes)
            self._phase.append(phase)
            change += [printable(key, 120), printable(record.planned.server, 120)]
        elif self._phase[lane] is phase:
            return
        elif phase is Phase.DONE and record.result in BAD:
            change.append(record.result.value)
        change[0], self._phase[lane] = lane, phase
        self._changes.append(json.dumps(change, separators=(",", ":")))

    def part(self, start: int) -> tuple[bytes, int]:
        """Return the changes from place `start` on as a JSON list, not all of them if there are
        many, and the place behind them.
        """
        end = min(start + PART, len(self._changes))
        part = self._parts.get((start, end))
        if part is None:
            if len(self._parts) > 100:
                self._parts.clear()
            part = f"[{','.join(self._changes[start:end])}]".encode()
            self._parts[start, end] = part
        return part, end
