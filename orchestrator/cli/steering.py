"""ctl: what a person asks of a living run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail
from orchestrator.core.controls import Verb
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import inert
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.app.stores import Place


@click.command("ctl")
@options.run_argument
@click.argument("verb", type=click.Choice([each.value for each in Verb]))
@click.argument("words", nargs=-1, callback=options.all_readable)
@click.option(
    "--reason",
    metavar="TEXT",
    callback=options.readable,
    help="Why; it is in the report. skip and approve need it.",
)
@click.option(
    "--beyond-plan", is_flag=True, help="Allow limits that are higher than those of the plan."
)
@click.option("--reject", is_flag=True, help="With approve: say no. The run halts then.")
@options.state_option
@options.output_options
def ctl_command(
    run: str,
    verb: str,
    words: tuple[str, ...],
    reason: str | None,
    beyond_plan: bool,
    reject: bool,
    state: Place | None,
    output: options.Output,
) -> None:
    """Steer the living RUN (an id, the start of one, or `last`) from a second terminal.

    \b
    pause            begin no mount; sessions stay open, holds are kept
    continue         go on
    limits NAME...   run.mounts=10 hq.mounts=2 hq/vbr-01.mounts=1
    skip KEY         never submit a target that still waits; needs --reason
    retry KEY        mount a target once more that is not good, while its wave goes on
    approve WAVE     open the gate before a wave, or --reject it; needs --reason

    A limit that is lowered counts from the next mount on: what is open stays open. One that is
    raised counts at once, and is never above that of the plan without --beyond-plan. Each request
    is in the journal before it is done, and in the report with time, user and host; a resume goes
    on with what still holds. Exit code 0 once it is done, 2 if it is refused or no process works
    on the run, 6 if the process does not move: nothing was changed then; 3 if the process has
    taken the request and does not say what came of it. Not for runs over several machines.
    """
    from orchestrator.app.controlling import ask, asked_for
    from orchestrator.journal import State

    streams.never_wait()
    if state is not None and not isinstance(state, Path):
        fail(
            ExitCode.USAGE,
            "ctl: a run over several machines cannot be steered yet: --state is a directory here; "
            "to stop such a run: bulk-restore stop RUN --state ADDRESS",
        )
    journal = State(state or options.default_state())
    control = asked_for(verb, words, reason=reason, beyond_plan=beyond_plan, reject=reject)
    outcome = anyio.run(partial(ask, journal, journal.summary(run), control))
    if outcome.code != ExitCode.GOOD:
        fail(outcome.code, outcome.line)
    if not output.quiet:
        click.echo(inert(outcome.line))
    end(ExitCode.GOOD)
