"""What every view is, and writing to a stream that may be gone."""

from __future__ import annotations

from typing import Protocol, TextIO

from orchestrator.events import Event
from orchestrator.lifecycle import MountRecord
from orchestrator.outlook import Expected
from orchestrator.runstate import RunState


class View(Protocol):
    """An observer that also draws now and then."""

    interval_s: float
    """Seconds between calls of `draw`."""

    def take_over(self, found: RunState) -> None:
        """Begin with what earlier processes of the run did; called before the first event."""
        ...

    def expect(self, expected: Expected) -> None:
        """Know what earlier runs say of durations; called before the first event."""
        ...

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Count what happened before anybody looked, and show nothing of it by itself."""
        ...

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note of an event."""
        ...

    def abandon(self, *, gone: bool) -> None:
        """Know whether the run's process is gone; called by who looks on from outside."""
        ...

    def draw(self, now: float) -> None:
        """Show how things stand `now` seconds into the run. Called every `interval_s`."""
        ...

    def close(self) -> None:
        """Leave the screen as a log would."""
        ...


class QuietView:
    """Shows nothing."""

    interval_s = 3600.0

    def take_over(self, found: RunState) -> None:
        """Take no note."""

    def expect(self, expected: Expected) -> None:
        """Take no note."""

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Take no note."""

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take no note."""

    def abandon(self, *, gone: bool) -> None:
        """Take no note."""

    def draw(self, now: float) -> None:
        """Draw nothing."""

    def close(self) -> None:
        """Nothing to close."""


class Lines:
    """Writes lines to a stream; once the stream is gone, it writes nothing more.

    A closed terminal or pipe never ends a run.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream: TextIO | None = stream

    def write(self, line: str) -> None:
        """Write one line."""
        if self._stream is None:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None
