"""The timeline as a list of changes that only grows; every subscriber reads on from its place.

So a subscriber costs one number, however slow it is, and what all of them read is encoded once.
A change is `[lane, phase, at]`: from `at` on the lane's target is in the phase. The first of a
lane says its key and server too; the one that ends it, if it ended badly, its result. A target
that has its result while its mount is, or may be, open stays out of reach until it is released.
"""

from __future__ import annotations

import json

from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import MountKey, Result
from orchestrator.core.text import printable

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
        self._state: list[tuple[Phase, Result | None]] = []
        """Of every lane: its phase, and its result if that is bad."""
        self._parts: dict[tuple[int, int], bytes] = {}

    def __len__(self) -> int:
        """Changes so far."""
        return len(self._changes)

    def add(self, record: MountRecord) -> None:
        """Note the target's phase, if it is another."""
        phase, at = record.phase, record.since
        if phase is Phase.DONE and record.attempts:
            phase = Phase.OUT_OF_REACH if record.may_be_open else phase
            at = max(at, record.released_at or 0.0)
        self._change(record, phase, at, record.result if record.result in BAD else None)

    def _change(
        self, record: MountRecord, phase: Phase, at: float, ended: Result | None = None
    ) -> None:
        key = record.planned.key
        lane = self._lanes.get(key)
        change: list[object] = [0, PHASES.index(phase), round(at, 2)]
        if lane is None:
            if phase in {Phase.QUEUED, Phase.BUSY, Phase.DONE}:  # never submitted so far
                return
            lane = self._lanes[key] = len(self._lanes)
            self._state.append((phase, None))
            change += [printable(key, 120), printable(record.planned.server, 120)]
        elif self._state[lane] == (phase, ended):
            return
        elif ended is not None:
            change.append(ended.value)
        change[0], self._state[lane] = lane, (phase, ended)
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
