"""Files that are written into guests: in doubt only where no better word can come any more.

The journal says before an order is sent that nobody knows what became of it. That is the truth
for good only if it is the last word: at the target's verdict, when its mount is out of reach, or
when the run's process is gone.
"""

from __future__ import annotations

from orchestrator.core import events
from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import MountKey
from orchestrator.core.proof import DownloadOutcome, Fate

Doubt = tuple[MountRecord, DownloadOutcome]
"""A target, and what is known of its file that may have been written."""


class PendingWrites:
    """The files of which nobody knows yet whether they have been written."""

    def __init__(self) -> None:
        """Before the first event."""
        self._files: dict[MountKey, dict[str, Doubt]] = {}

    def is_new(self, event: events.FileCopied) -> bool:
        """Return whether the event, not noted yet, is the first that says of a file: not known."""
        outcome = event.outcome
        return outcome.fate is Fate.UNKNOWN and outcome.path not in self._files.get(event.key, {})

    def note(self, event: Event, record: MountRecord | None) -> list[Doubt]:
        """Take note of an event; return the files that are in doubt for good since then."""
        if record is None:
            return self.give_up() if isinstance(event, events.RunFinished) else []
        key = record.planned.key
        if isinstance(event, events.FileCopied):
            files = self._files.setdefault(key, {})
            files.pop(event.outcome.path, None)
            if event.outcome.fate is Fate.UNKNOWN:
                files[event.outcome.path] = record, event.outcome
        elif isinstance(event, events.VerdictReached) or record.phase is not Phase.VERIFYING:
            return list(self._files.pop(key, {}).values())
        return []

    def give_up(self) -> list[Doubt]:
        """Return all of them: nobody will say any more what became of them."""
        doubts = [doubt for files in self._files.values() for doubt in files.values()]
        self._files.clear()
        return doubts
