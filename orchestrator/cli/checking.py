"""check: whether a plan could be run now."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import (
    Output,
    default_state,
    end,
    explained,
    only_option,
    output_options,
    set_option,
    state_option,
)

if TYPE_CHECKING:
    from orchestrator.readiness import Readiness


@click.command("check")
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print every answer as JSON.")
@click.option("--strict", is_flag=True, help="Warnings are problems too.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1.0, max=3600.0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each server may take to answer everything.",
)
@set_option
@only_option
@state_option
@output_options
@explained
def check_command(
    plan: Path,
    as_json: bool,
    strict: bool,
    timeout: float,
    overrides: dict[str, str],
    only: tuple[str, ...],
    state: Path | None,
    output: Output,
) -> None:
    """Say whether PLAN, or a locked plan, could be run now. Changes nothing.

    Every server is asked at once, with one logon each: trust, logon, role, clock, inventory;
    then every target: its restore point, its age, what stands in the way. What the account's
    role does not show is said to be not visible. Exit code 0, or 4 if there is a problem.
    """
    import anyio

    from orchestrator.assembly import Choices, World
    from orchestrator.plan.locked import load_any
    from orchestrator.readiness import check, readiness_json, text
    from orchestrator.report import ExitCode

    source = load_any(plan, overrides=overrides)
    choices = Choices(state=state or default_state(), only=only, overrides=overrides)

    async def checked() -> Readiness:
        world = World(rng=random.SystemRandom())
        return await check(source, choices, patience=timeout, strict=strict, world=world)

    found = anyio.run(checked)
    if as_json:
        click.echo(readiness_json(found), nl=False)
    else:
        click.echo(text(found, quiet=output.quiet, verbose=bool(output.verbose)), nl=False)
    end(ExitCode.GOOD if found.is_ready else ExitCode.UNUSABLE)
