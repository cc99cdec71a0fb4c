"""The live view: about twenty rows, redrawn four times a second, on a terminal only."""

from __future__ import annotations

import heapq
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.events import Event, RunFinished, WaveStarted
from orchestrator.lifecycle import MountRecord, Phase
from orchestrator.model import Result, printable
from orchestrator.progress.lines import clock
from orchestrator.progress.tally import Tally
from orchestrator.runstate import RunState

STYLES = {
    Result.VERIFIED: "green",
    Result.MOUNTED: "green",
    Result.FAILED: "bold red",
    Result.UNKNOWN: "bold magenta",
    Result.SKIPPED: "yellow",
    Result.CANCELLED: "yellow",
}
SERVERS_SHOWN = 6
SLOWEST_SHOWN = 4


class _Terminal(Console):
    """A console that reports a closed pipe as an error; the library's own ends the process."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError, in whose handler this is called, again."""
        raise


class LiveView:
    """Counts, lanes per server, the slowest, the failed, an ETA.

    Text from a server is shown escaped, and never as markup.
    """

    interval_s = 0.25

    def __init__(self, stream: TextIO, *, color: bool = True) -> None:
        """Draw on `stream`; without `color` no styles are used."""
        self._tally = Tally()
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

    def take_over(self, found: RunState) -> None:
        """Count what was done before; nothing is asked any more."""
        self._tally.take_over(found)
        self._begun = True

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Count the event; it is drawn with the next frame.

        Nothing is drawn before the first wave: a question may stand on the screen until then.
        """
        self._tally.take(event, record)
        if isinstance(event, WaveStarted | RunFinished):
            self._begun = True

    def draw(self, now: float) -> None:
        """Draw one frame; a terminal that is gone is forgotten."""
        self._tally.now = max(self._tally.now, now)
        if self._live is None or not self._begun:
            return
        try:
            if not self._running:
                self._live.start()
                self._running = True
            self._live.update(self._picture(), refresh=True)
        except (OSError, ValueError):
            self._live = None

    def close(self) -> None:
        """Draw the last frame and leave it on the screen."""
        self.draw(self._tally.now)
        if self._live is not None and self._running:
            try:
                self._live.stop()
            except (OSError, ValueError):
                self._live = None

    def _picture(self) -> Group:
        tally = self._tally
        parts: list[RenderableType] = [
            self._title(),
            self._bar(),
            self._results(),
            Text(),
            self._lanes(),
        ]
        if tally.running:
            parts += [Text(), self._slowest()]
        if tally.phases[Phase.HELD]:
            parts += [Text(), self._holds()]
        if tally.failures:
            parts += [Text(), self._failures()]
        if tally.ending is not None:
            parts += [
                Text(),
                Text(printable(tally.ending, self._console.width), style="bold yellow"),
            ]
        return Group(*parts)

    def _title(self) -> Text:
        tally, started = self._tally, self._tally.started
        name = printable(started.plan, 40) if started else ""
        left = tally.remaining_s()
        eta = f"   about {clock(left)} left" if left is not None else ""
        return Text.assemble((name, "bold"), f"   {clock(tally.now)}{eta}", no_wrap=True)

    def _bar(self) -> Table:
        tally = self._tally
        width = min(72, self._console.width - 2)
        line = Table.grid()
        line.add_row(ProgressBar(total=max(1, tally.targets), completed=tally.done, width=width))
        return line

    def _results(self) -> Text:
        tally = self._tally
        line = Text(f"{tally.done}/{tally.targets} done", no_wrap=True, overflow="ellipsis")
        for result in Result:
            if tally.results[result]:
                line.append(f"  {tally.results[result]} {result}", style=STYLES[result])
        waiting = tally.targets - tally.done - len(tally.running)
        line.append(f"  {len(tally.running)} open  {waiting} waiting", style="dim")
        return line

    def _lanes(self) -> Table:
        table = _table("server", "slots", "done", "")
        servers = list(self._tally.started.servers) if self._tally.started else []
        for facts in servers[:SERVERS_SHOWN]:
            tally, name = self._tally, facts.name
            limit = facts.mounts_limit
            held = tally.held[name]
            table.add_row(
                Text(printable(name, 20)),
                Text(f"{held}/{limit}" if limit is not None else str(held)),
                Text(f"{tally.done_by_server[name]}/{tally.by_server[name]}"),
                Text(printable(tally.trouble.get(name, ""), 60), style="yellow"),
            )
        if len(servers) > SERVERS_SHOWN:
            table.add_row(Text(f"and {len(servers) - SERVERS_SHOWN} more"), Text(), Text(), Text())
        return table

    def _slowest(self) -> Table:
        table = _table("longest open", "phase", "since", "")
        oldest = heapq.nsmallest(
            SLOWEST_SHOWN, self._tally.running.values(), key=lambda record: record.since
        )
        for record in oldest:
            table.add_row(
                Text(printable(record.planned.key, 36)),
                Text(record.phase.value.replace("_", " ")),
                Text(clock(self._tally.now - record.since)),
                Text("over its deadline" if record.overdue else "", style="yellow"),
            )
        return table

    def _holds(self) -> Text:
        """Say what is held, until when, and how to end it."""
        held = [each for each in self._tally.running.values() if each.phase is Phase.HELD]
        times = [each.kept_until for each in held if each.kept_until is not None]
        until = (
            f"until {clock(max(times))}" if len(times) == len(held) else "until somebody ends it"
        )
        run = self._tally.started.run if self._tally.started else "RUN"
        line = f"{len(held)} held open {until}; end it: bulk-restore unmount {run}"
        return Text(line, style="bold cyan", no_wrap=True, overflow="ellipsis")

    def _failures(self) -> Table:
        table = _table("last failures", "", "", "")
        for record in self._tally.failures:
            table.add_row(
                Text(printable(record.planned.key, 36)),
                Text(str(record.result), style=STYLES[record.result or Result.UNKNOWN]),
                Text(),
                Text(printable(record.message or "", 70)),
            )
        return table


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="dim")
    for place, header in enumerate(headers):
        table.add_column(header, no_wrap=True, overflow="ellipsis", ratio=1 if place == 3 else None)
    return table
