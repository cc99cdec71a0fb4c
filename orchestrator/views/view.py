"""What every view is, and writing to a stream that may be gone."""

from __future__ import annotations

from typing import TextIO

from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.records import Stall
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.streams import Output


class View:
    """An observer that also draws now and then. This one, for `--quiet`, shows nothing."""

    interval_s = 3600.0
    """Seconds between calls of `draw`."""

    @property
    def is_silent(self) -> bool:
        """True for this very class: it need not be told of anything."""
        return type(self) is View

    def __init__(self) -> None:
        """Before the first event."""
        self.stats = RunStatistics()
        """What is counted of the run; see `begin`."""

    def begin(self, stats: RunStatistics) -> None:
        """Show what is counted in `stats`; called before the first event.

        Whoever calls this counts every event there, before the view is told of it.
        """
        self.stats = stats

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Take note of an event from before the view began, and show nothing of it by itself."""

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note of an event."""

    def abandon(self, *, gone: bool) -> None:
        """Take note of whether the run's process is gone; called when another process is shown."""
        self.stats.abandoned = gone

    def stall(self, stall: Stall | None) -> None:
        """Take note of who works on the run and does not move; called as `abandon` is."""
        self.stats.stall = stall

    def say_what_waits(self) -> None:
        """Say what stands still, and why, if that has changed; called after every look."""

    def draw(self, now: float) -> None:
        """Show the run as of `now` seconds on its clock. Called every `interval_s`."""

    def close(self) -> None:
        """Leave the screen as a log would."""


class Lines:
    """Writes lines to a stream; once the stream is gone, it writes nothing more.

    A closed terminal or pipe never ends a run, and one that nobody reads never holds it up.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream: TextIO | None = stream

    def write(self, line: str) -> None:
        """Write one line; a line that is dropped is reported with the next one."""
        if self._stream is None:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None

    def offer(self, line: str, *, last: bool = False) -> bool:
        """Write one line unless the queue is full, and return whether it was written.

        `last` lines find room where others do not.
        """
        if isinstance(self._stream, Output):
            return self._stream.offer(line + "\n", last=last)
        self.write(line)
        return True
