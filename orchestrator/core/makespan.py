"""The makespan of a run: from the beginning of its first wave to the end of its last one.

So neither the wait for a person's confirmation counts, nor a hold, nor the reports.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.core.model import Result, WaveName

NOT_TRIED = frozenset({Result.SKIPPED, Result.CANCELLED})
"""Results of targets that were not mounted: a run with one of them was not whole."""


class PastMakespans(Struct, frozen=True, kw_only=True):
    """Seconds that the last whole runs of a plan took, the newest first."""

    real: tuple[float, ...] = ()
    simulated: tuple[float, ...] = ()
    """Of runs in which a server was simulated: they say nothing of real ones."""


def makespan(began: Mapping[WaveName, float], ended: Mapping[WaveName, float]) -> float | None:
    """Return the seconds from the first wave's beginning to the last one's end; None: no end."""
    if not began or began.keys() - ended.keys():
        return None
    return max(ended.values()) - min(began.values())
