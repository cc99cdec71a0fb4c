"""What is said of a process that does not move, or a database that is away; how a run goes on."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from orchestrator.core.records import Stall
from orchestrator.core.text import moment


class Away(NamedTuple):
    """Since when the database has not answered who looks, and why."""

    since: datetime
    why: str

    @property
    def words(self) -> str:
        """Return it for a person."""
        since = moment(self.since)
        return f"the database is away since {since}, and what goes on is not seen: {self.why}"


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
