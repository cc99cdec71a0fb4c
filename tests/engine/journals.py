"""A journal in memory, for tests of one part of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.core.events import Event, SubmissionStarted


@dataclass(slots=True)
class MemoryJournal:
    """Keeps what it is given, and grants every intent."""

    events: list[Event] = field(default_factory=list)

    def append(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    async def durable(self) -> None:
        """Have nothing to wait for."""

    async def granted(self, intent: SubmissionStarted, taken: Callable[[], None]) -> str | None:
        """Keep it, too."""
        self.append(intent)
        taken()
        return None

    @property
    def kinds(self) -> list[str]:
        """What has happened, in order."""
        return [type(event).__name__ for event in self.events]
