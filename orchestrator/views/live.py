"""The live view: at most twenty rows, redrawn four times a second, on a terminal only."""

from __future__ import annotations

from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from orchestrator.core.events import Event, RunFinished, WaveStarted
from orchestrator.core.lifecycle import MountRecord
from orchestrator.views.picture import Row, picture
from orchestrator.views.streams import Output
from orchestrator.views.view import View


class _Terminal(Console):
    """A console that reports a closed pipe as an error; the library's own ends the process."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError, in whose handler this is called, again."""
        raise


class LiveView(View):
    """Draws the picture of the run, in place of the one before.

    Text from a server is shown escaped, and never as markup.
    """

    interval_s = 0.25

    def __init__(self, stream: TextIO, *, color: bool = True) -> None:
        """Draw on `stream`; without `color` no styles are used."""
        super().__init__()
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"
        self._console = _Terminal(
            file=stream, force_terminal=True, no_color=not color, highlight=False, markup=False
        )
        self._live: Live | None = Live(
            console=self._console,
            auto_refresh=False,
            transient=False,
            screen=False,
            redirect_stdout=False,  # stdout is for data, also after the terminal is gone
            redirect_stderr=False,
        )
        self._begun = False
        self._running = False
        self._drawn: list[Row] = []
        self._width = 0
        """Columns of the terminal when it was last written to."""

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Draw from now on: nothing is asked any more."""
        self._begun = True

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Draw the event with the next frame.

        Nothing is drawn before the first wave: a question may stand on the screen until then.
        """
        if isinstance(event, WaveStarted | RunFinished):
            self._begun = True

    def draw(self, now: float) -> None:
        """Draw one frame, if it differs; a terminal that is gone is forgotten.

        While an earlier frame still waits to be written, no other one need wait.
        """
        self.stats.now = max(self.stats.now, now)
        if not (isinstance(self._stream, Output) and self._stream.writer.is_behind):
            self._draw()

    def _draw(self) -> None:
        if self._live is None or not self._begun:
            return
        try:
            if not self._running:
                self._live.start()
                self._running = True
            self._meet_width()
            width, height = self._console.size
            rows = picture(self.stats, width, max(1, height - 1))
            if rows != self._drawn:
                self._drawn = rows
                self._live.update(Group(*map(self._text, rows)), refresh=True)
        except (OSError, ValueError):
            self._live = None

    def say(self, line: str) -> None:
        """Write a line that is no part of the picture above it, where it stays."""
        shown = line.encode(self._encoding, "replace").decode(self._encoding)
        try:
            self._meet_width()
            self._console.print(Text(shown), soft_wrap=True)  # a link stays in one piece
        except (OSError, ValueError):
            self._live = None

    def close(self) -> None:
        """Draw the last frame and leave it on the screen."""
        self._draw()
        if self._live is not None and self._running:
            try:
                self._live.stop()
            except (OSError, ValueError):
                self._live = None

    def _meet_width(self) -> None:
        """Go up over what a terminal that has become narrower made of the rows drawn last.

        It has wrapped those that are too long now, so the picture takes more rows than were
        written, and the terminal library knows nothing of them.
        """
        width = self._console.size.width
        if self._running and width < self._width:
            cells = (sum(cell_len(span.text) for span in row) for row in self._drawn)
            more = sum(max(0, -(-each // width) - 1) for each in cells)
            clear, up = (ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)
            self._console.control(Control(ControlType.CARRIAGE_RETURN, clear, *(up, clear) * more))
        self._width = width

    def _text(self, row: Row) -> Text:
        """Return a row for the terminal library; what the terminal cannot show becomes `?`."""
        text = Text(no_wrap=True, overflow="crop")
        for span in row:
            shown = span.text.encode(self._encoding, "replace").decode(self._encoding)
            text.append(shown, style=span.style)
        return text
