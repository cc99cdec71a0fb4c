"""forecast: how long a plan will take, before it runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail, unless_terminated
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import printable

if TYPE_CHECKING:
    from orchestrator.app.forecasting.asking import Answer, Wanted
    from orchestrator.app.stores import Place


@click.command("forecast")
@options.plan_argument
@click.option(
    "--limit",
    "limits",
    metavar="NAME=N",
    multiple=True,
    help="What if this limit were N: SERVER.mounts, SERVER/BACKUP.mounts, waves/WAVE.mounts, "
    "run.mounts, run.mounts_per_vm. May be repeated.",
)
@click.option(
    "--max-mounts", type=click.IntRange(min=1), help="Maximum number of mounts open at once."
)
@click.option(
    "--hold", metavar="DURATION", help="Every mount is kept open for this long after its verdict."
)
@click.option(
    "--html", "page", type=options.FILE, metavar="FILE", help="Save the forecast with a picture."
)
@options.json_option
@options.state_option
@options.seed_option
@options.set_option
@options.only_option
@options.output_options
def forecast_command(
    plan: Path,
    limits: tuple[str, ...],
    max_mounts: int | None,
    hold: str | None,
    page: Path | None,
    as_json: bool,
    state: Place | None,
    seed: int | None,
    overrides: dict[str, str],
    only: tuple[str, ...],
    output: options.Output,
) -> None:
    """Show how long PLAN will take, from the durations of earlier runs. Mounts nothing.

    Logs on and expands PLAN as `plan` does; a locked plan needs no server. Then its targets go
    through the scheduler of a run, without waiting: start and end of each wave, the end of the
    run as a range, each RTO met, missed or unknown, and which limits the end waits for. A machine
    without a history counts 120 s. Exit code 0 if no RTO is expected to be missed, 1 if one is, or
    if a target has no restore point or none is selected, 4 if a server cannot be used or a guard
    is broken.
    """
    from orchestrator.app.forecasting.as_json import as_values
    from orchestrator.app.forecasting.asking import answer, targets_of
    from orchestrator.app.forecasting.text import lines_of
    from orchestrator.app.forecasting.what_if import LimitUnknown, require_known
    from orchestrator.plan.choose.locked import LockedPlan, load_any

    wanted = _wanted(limits, max_mounts, hold, seed, only)
    source = load_any(plan, overrides=overrides)
    if seed is not None and isinstance(source, LockedPlan):
        fail(ExitCode.USAGE, "--seed cannot change a locked plan: lock it again")
    store = options.journal_of(state)
    try:
        require_known(source.plan, wanted.changes)
        targets = unless_terminated(partial(targets_of, source, store, wanted))
        found = answer(source, targets, store, wanted)
    except LimitUnknown as exc:
        fail(ExitCode.USAGE, f"--limit: {exc}")
    if as_json:
        options.echo_json(as_values(found))
    elif not output.quiet:
        for line in lines_of(found):
            click.echo(line)
    if page is not None:
        _save(page, found)
    _end(found)


def _wanted(
    limits: tuple[str, ...],
    max_mounts: int | None,
    hold: str | None,
    seed: int | None,
    only: tuple[str, ...],
) -> Wanted:
    """Return what the options ask for, or end with what is wrong with them."""
    from orchestrator.app.forecasting.asking import Wanted
    from orchestrator.app.forecasting.what_if import changes_of
    from orchestrator.plan.file.quantities import positive_duration

    try:
        changes = changes_of(limits)
    except ValueError as exc:
        fail(ExitCode.USAGE, f"--limit: {exc}")
    try:
        held = 0.0 if hold is None else positive_duration(hold)
    except ValueError as exc:
        fail(ExitCode.USAGE, f"--hold: {exc}")
    return Wanted(only=only, seed=seed, max_mounts=max_mounts, hold=held, changes=changes)


def _save(page: Path, found: Answer) -> None:
    from orchestrator.app.forecasting.page import render

    page.write_text(render(found), encoding="utf-8")
    click.echo(f"forecast: {page}", err=True)


def _end(found: Answer) -> None:
    """Say what stands in the way of a run, and end with the code for it."""
    from orchestrator.engine.forecast.outlook import Met

    targets = found.targets
    for target in targets.unresolved:
        click.echo(f"no point: {printable(target.key)}: {printable(target.reason)}", err=True)
    for line in targets.broken:
        click.echo(f"broken: {printable(line, 1000)}", err=True)
    for server, reason in targets.missing.items():
        click.echo(f"missing: {server}: {printable(str(reason), 1000)}", err=True)
    missed = any(each.status is Met.MISSED for each in found.forecast.objectives)
    if targets.broken or targets.missing:
        end(ExitCode.UNUSABLE)
    end(1 if missed or targets.unresolved or not targets.requests else 0)
