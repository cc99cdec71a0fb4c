"""stop; resume and unmount of a run over several machines: what its workers are asked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import anyio
import click
from click.core import ParameterSource

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import inert
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.app.sites.overview import ServedRun
    from orchestrator.core.model import RunId
    from orchestrator.database.address import Address


@click.command("stop")
@options.run_argument
@click.option(
    "--now",
    is_flag=True,
    help="Cancel what is running and unmount it, as a second Ctrl-C does.",
)
@options.address_option
@options.output_options
def stop_command(run: str, now: bool, state: Address, output: options.Output) -> None:
    """Stop RUN (an id, the start of one, or `last`), which workers carry out.

    No mount is begun from then on, on any machine; running ones finish and are unmounted, and the
    run ends. Exit code 0 once that is asked for; whether workers are there to do it is shown. A
    run that has ended is left as it is. Safe to repeat. The run can be resumed.

    A run on one machine has no workers to ask: it stops at Ctrl-C, or SIGINT to its process.
    """
    from orchestrator.app.sites.asking import stop

    streams.never_wait()
    name = options.journal_of(state).find(run)
    served = anyio.run(partial(stop, state, name, now=now))
    if not output.quiet:
        if served.row.is_open:
            click.echo(f"{name}: asked to stop{' at once' if now else ''}")
            _show_what_waits(served)
        else:
            click.echo(f"{name}: it has ended already")
    end(ExitCode.GOOD)


def _show_what_waits(served: ServedRun) -> None:
    for line in served.what_waits():
        click.echo(inert(line), err=True)


def refuse_given(names: Iterable[str], why: str) -> None:
    """End with what is wrong if one of these options of the command was given."""
    ctx = click.get_current_context()
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if parameter.name in names and source not in {None, ParameterSource.DEFAULT}:
            fail(ExitCode.USAGE, f"{parameter.opts[0]}: {why}")


def resume_there(run: str, state: Address, *, retry_failed: bool) -> NoReturn:
    """Open a run again, for its workers, and end."""
    from orchestrator.app.sites.asking import resume

    journal = options.journal_of(state)
    name = journal.find(run)
    run_state = journal.replay(name)
    if run_state.finished is not None and not run_state.is_anything_left(retry_failed=retry_failed):
        click.echo(f"Run {name}: nothing is left to do.")
        end(run_state.finished.exit_code)
    served = anyio.run(partial(resume, state, name, retry_failed=retry_failed))
    click.echo(f"{name}: its workers go on with it; follow it with: bulk-restore watch {name}")
    _show_what_waits(served)
    end(ExitCode.GOOD)


def unmount_there(run: RunId, state: Address, token_key: Path | None) -> int:
    """Have what is left of a run unmounted, by its workers or here; return the exit code."""
    from orchestrator.app.sites.unmounting import release_leftovers
    from orchestrator.database.sealing import load_sealer

    sealer = None if token_key is None else load_sealer(token_key)
    outcome = anyio.run(
        partial(
            release_leftovers,
            state,
            options.journal_of(state),
            run,
            sealer,
            lambda line: click.echo(inert(line), err=True),
        )
    )
    for line in outcome.lines:
        click.echo(line)
    return outcome.code
