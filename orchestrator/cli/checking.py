"""check: whether a plan could be run now."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, unless_terminated
from orchestrator.core.model import ExitCode

if TYPE_CHECKING:
    from orchestrator.app.stores import Place
    from orchestrator.core.parts import Part


@click.command("check")
@options.plan_argument
@click.option("--json", "as_json", is_flag=True, help="Print all answers as JSON.")
@click.option("--strict", is_flag=True, help="Treat warnings as problems.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1.0, max=3600.0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit for all answers of one server.",
)
@options.set_option
@options.only_option
@options.shard_option
@options.state_option
@options.output_options
def check_command(
    plan: Path,
    as_json: bool,
    strict: bool,
    timeout: float,
    overrides: dict[str, str],
    only: tuple[str, ...],
    shard: Part | None,
    state: Place | None,
    output: options.Output,
) -> None:
    """Check whether PLAN, or a locked plan, could run now. Changes nothing.

    Checks all servers at the same time, with one logon each: trust, logon, role, clock and
    inventory. Then checks every target: its restore point, its age, and anything that would
    prevent the mount. Facts that the account's role cannot see are reported as not visible. Exit
    code 0, or 4 if there is a problem.
    """
    from orchestrator.app.readiness.as_json import readiness_json
    from orchestrator.app.readiness.checking import check
    from orchestrator.app.readiness.text import text
    from orchestrator.app.wiring import Choices
    from orchestrator.plan.choose.locked import load_any

    source = load_any(plan, overrides=overrides)
    choices = Choices(
        state=state or options.default_state(), only=only, part=shard, overrides=overrides
    )

    ask = partial(check, source, choices, patience=timeout, strict=strict)
    readiness = unless_terminated(ask)
    if as_json:
        answer = readiness_json(readiness)
    else:
        answer = text(readiness, quiet=output.quiet, verbose=bool(output.verbose))
    click.echo(answer, nl=False)
    end(ExitCode.GOOD if readiness.is_ready else ExitCode.UNUSABLE)
