"""orphans: which open restores a run may have left."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from orchestrator.cli import options
from orchestrator.cli.continuing import plan_of_run
from orchestrator.cli.ending import end, unless_terminated
from orchestrator.core.text import inert
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.app.stores import Place


@click.command("orphans")
@click.argument("run", default="last")
@options.moved_plan_option
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@options.set_option
@options.state_option
@options.output_options
def orphans_command(
    run: str,
    plan: Path | None,
    as_json: bool,
    overrides: dict[str, str],
    state: Place | None,
    output: options.Output,
) -> None:
    """Show which open file-level restores RUN (default: `last`) may have left. Changes nothing.

    Asks each server on which a mount of the run may be open for the restores that are open, and
    compares machine, backup server and time. Each one that fits is named with what to do: once its
    logon session is lost, no command can remove a mount. What a server shows is up to 15 minutes
    old, and it does not say who opened a session. Exit code 0 if none is shown, 3 if some are, 4
    if no server shows any restores to this account.
    """
    from orchestrator.app import orphans
    from orchestrator.app.wiring import World

    _ = output  # every line is a result
    streams.never_wait()
    journal = options.journal_of(state)
    summary = journal.summary(run)
    run_state = journal.replay(summary.run)
    run_state.process_gone = not journal.is_running(summary)
    if state is not None and not isinstance(state, Path):
        from orchestrator.app.sites.asking import plan_of_submission

        source = anyio.run(partial(plan_of_submission, state, summary.run)).plan
    else:
        source = plan_of_run(run_state.started, plan, overrides, only_servers=True).plan
    answer = unless_terminated(partial(orphans.find_orphans, run_state, source, World()))
    if as_json:
        options.echo_json(orphans.as_json(answer))
    else:
        for line in orphans.as_lines(answer):
            click.echo(inert(line))
    end(answer.code)
