"""watch: the picture of a run, from a second terminal."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from orchestrator.cli.common import (
    Output,
    default_state,
    end,
    explained,
    fail,
    output_options,
    state_option,
)
from orchestrator.model import counted

if TYPE_CHECKING:
    from orchestrator.events import RunFinished
    from orchestrator.journal import RunSummary, State
    from orchestrator.model import RunId
    from orchestrator.runstate import RunState

LOOK_S = 0.5
"""Seconds between two looks for a run that has not begun."""

UNREAD_LOOKS = 10
"""Looks at a journal that cannot be read, after which it is not just being made."""


@click.command("watch")
@click.argument("run")
@click.option(
    "--wait",
    is_flag=True,
    help="Wait for what is not there yet: for `last`, the next run to begin; for a run whose "
    "process is gone, somebody to resume it.",
)
@state_option
@output_options
@explained
def watch_command(run: str, wait: bool, state: Path | None, output: Output) -> None:
    """Watch RUN (an id, its start, or `last`) from a second terminal until it has ended.

    Shows what the run itself shows: a live view on a terminal, otherwise lines. Reads only the
    journal, every half second what is new in it, and verifies it on the way. A run that is
    resumed is watched on. Ctrl-C ends the watching and never the run.

    Exit code 0 once the run has ended, however it did (the last line says how), 3 if its process
    is gone without an end.
    """
    from orchestrator.journal import State

    kept = State(state or default_state())
    try:
        summary = _awaited(kept) if wait and run == "last" else kept.summary(run)
        found = followed(kept, summary, output, patient=wait)
    except KeyboardInterrupt:
        end(130)
    if found is None or found.finished is None:
        fail(
            3,
            f"the process of run {summary.run} is gone, and the run has not ended; go on with it: "
            f"bulk-restore resume {summary.run}",
        )
    click.echo(_last_line(found, found.finished))
    end(0)


def _awaited(kept: State) -> RunSummary:
    """Return the newest run that goes on now; wait for one, if there is none.

    Raises:
        JournalError: there is a journal, and it stays unreadable.
    """
    from orchestrator.errors import JournalError

    before: set[RunId] | None = None
    unread, told = 0, False
    while True:
        try:
            runs = kept.runs()
        except JournalError:  # its first run makes it at this moment, unless it stays so
            unread += 1
            if unread > UNREAD_LOOKS:
                raise
        else:
            known = {summary.run for summary in runs} if before is None else before
            for summary in runs:
                if summary.run not in known or kept.is_running(summary):
                    return summary
            unread, before = 0, known
        if not told:
            click.echo(f"waiting for a run to begin in {kept.directory}", err=True)
            told = True
        time.sleep(LOOK_S)


def _last_line(found: RunState, finished: RunFinished) -> str:
    from orchestrator.model import Result, printable

    results = Counter(record.result for record in found.records.values())
    counts = "".join(f", {results[each]} {each}" for each in Result if results[each])
    left = sum(record.may_be_open for record in found.records.values())
    mounted = f", {left} MAY BE MOUNTED" if left else ""
    return (
        f"run {found.started.run} of {printable(found.started.plan, 80)} ended with exit code "
        f"{finished.exit_code}: {counted(len(found.records), 'target')}{counts}{mounted}"
    )


def _stopped(number: int, _frame: object) -> NoReturn:
    """End on the way out through the view, which shows the terminal's cursor again."""
    raise SystemExit(128 + number)


def followed(
    kept: State, summary: RunSummary, output: Output, *, patient: bool = False
) -> RunState | None:
    """Show a run until it has ended or its process is gone; return what is known of it then."""
    from orchestrator.onlooking import Onlooker, watch

    signal.signal(signal.SIGTERM, _stopped)
    view = output.view()
    view.expect(kept.durations().expected)
    return watch(Onlooker(kept, summary), view, patient=patient)
