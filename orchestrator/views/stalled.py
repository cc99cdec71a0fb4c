"""What is said of a process that does not move, and how a run goes on."""

from __future__ import annotations

from orchestrator.core.records import Stall
from orchestrator.core.text import moment


def stalled_words(stall: Stall, *, is_shared: bool) -> str:
    """Return since when nobody moves; over a database who is silent may be dead as well."""
    does = "has not renewed its lease" if is_shared else "does not move"
    return f"stalled since {moment(stall.since)}: {stall.who} {does}"


def continuing_words(run: str, stall: Stall | None, *, is_shared: bool) -> str:
    """Return what to do about a run on which nobody works, or nobody who moves."""
    if is_shared:
        return "the next worker goes on with it: bulk-restore work"
    if stall is not None:
        return f"it may go on; if it does not, kill it, then: bulk-restore resume {run}"
    return f"continue it: bulk-restore resume {run}"
