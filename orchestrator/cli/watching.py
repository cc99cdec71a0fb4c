"""watch: the picture of a run, from a second terminal."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail
from orchestrator.core.errors import JournalError
from orchestrator.core.model import Result, RunId
from orchestrator.core.text import counted, printable
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.app.stores import Place
    from orchestrator.core.events import RunFinished
    from orchestrator.core.ports.store import Store
    from orchestrator.core.records import RunSummary
    from orchestrator.core.run_state import RunState

LOOK_S = 0.5
"""Seconds between two looks for a run that has not begun."""

UNREAD_LOOKS = 10
"""Looks at a journal that cannot be read, after which it is not just being made."""


@click.command("watch")
@options.run_argument
@click.option(
    "--wait",
    is_flag=True,
    help="Wait: with `last`, for the next run to start; for a run whose process is gone, until it "
    "is resumed.",
)
@options.state_option
@options.output_options
def watch_command(run: str, wait: bool, state: Place | None, output: options.Output) -> None:
    """Watch RUN (an id, the start of one, or `last`) from a second terminal until it has ended.

    Shows the same view as the run itself: a live view on a terminal, otherwise lines. Reads only
    the journal, every half second, and verifies it. Continues with a run that is resumed. Ctrl-C
    ends the watching, not the run.

    Exit code 0 when the run has ended, whatever its result (the last line shows its exit code), 3
    if its process is gone, or no worker serves it, and the run has not ended.
    """
    streams.never_wait()
    journal = options.journal_of(state)
    try:
        summary = _next_run(journal) if wait and run == "last" else journal.summary(run)
        run_state = follow(journal, summary, output, patient=wait)
    except KeyboardInterrupt:
        fail(130, "stopped watching; the run goes on")
    if run_state is None or run_state.finished is None:
        gone = f"the process of run {summary.run} is gone"
        how = f"continue it: bulk-restore resume {summary.run}"
        if journal.is_shared:
            gone, how = f"no worker serves run {summary.run}", "start one: bulk-restore work"
        fail(3, f"{gone}, and the run has not ended{_what_is_open(run_state)}; {how}")
    click.echo(_last_line(run_state, run_state.finished))
    end(0)


def _next_run(journal: Store) -> RunSummary:
    """Return the newest run that goes on now; wait for one, if there is none.

    Raises:
        JournalError: there is a journal, and it stays unreadable.
    """
    before: set[RunId] | None = None
    unread, is_announced = 0, False
    while True:
        try:
            runs = journal.runs()
        except JournalError:  # its first run makes it at this moment, unless it stays so
            unread += not journal.is_being_made
            if unread > UNREAD_LOOKS:
                raise
        else:
            known = {summary.run for summary in runs} if before is None else before
            for summary in runs:
                if summary.run not in known or journal.is_running(summary):
                    return summary
            unread, before = 0, known
        if not is_announced:
            click.echo(f"waiting for a run to begin in {journal.place}", err=True)
            is_announced = True
        time.sleep(LOOK_S)


def _last_line(run_state: RunState, finished: RunFinished) -> str:
    results = Counter(record.result for record in run_state.records.values())
    counts = "".join(f", {results[each]} {each}" for each in Result if results[each])
    started = run_state.started
    return (
        f"run {started.run} of {printable(started.plan, 80)} ended with exit code "
        f"{finished.exit_code}: {counted(len(run_state.records), 'target')}{counts}"
        f"{run_state.left_open.short()}{_trouble(finished)}"
    )


def _trouble(finished: RunFinished) -> str:
    """Return why its process ended with another exit code than the run's events say."""
    return f"; {printable(finished.trouble)}" if finished.trouble else ""


def _what_is_open(run_state: RunState | None) -> str:
    """Return what may be open of a run whose process is gone."""
    if run_state is None:
        return ""
    run_state.process_gone = True
    return run_state.left_open.short()


def _end(number: int, _frame: object) -> NoReturn:
    """End with an exception, so that the view shows the terminal's cursor again."""
    raise SystemExit(128 + number)


def follow(
    journal: Store, summary: RunSummary, output: options.Output, *, patient: bool = False
) -> RunState | None:
    """Show a run until it has ended or its process is gone; return its last known state."""
    from orchestrator.app.follow import RunFollower, watch

    signal.signal(signal.SIGTERM, _end)
    return watch(RunFollower(journal, summary), output.view(), patient=patient)
