"""due, units: when a plan is to run again, and the timer that runs it."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, explained, fail
from orchestrator.core.errors import PlanError, PlanProblem
from orchestrator.core.exit_codes import ExitCode

if TYPE_CHECKING:
    from orchestrator.app.stores import Place
    from orchestrator.plan.file.loading import LoadedPlan

NOTHING_DUE = 1
CONDITION_FAILED = 255
"""What ExecCondition= of systemd takes for a failure; any other code but 0 skips the unit."""


@click.command("due")
@click.argument("plans", nargs=-1, required=True, type=options.PATH)
@click.option(
    "--ahead",
    metavar="DURATION",
    help="Count as due what will be due within this time, such as 12h.",
)
@click.option(
    "--condition",
    is_flag=True,
    help="For ExecCondition= of systemd: end with 255 where this could not be found out, which "
    "fails the unit. Any other code but 0 only skips it.",
)
@options.json_option
@options.set_option
@options.state_option
@options.output_options
def due_command(
    plans: tuple[Path, ...],
    ahead: str | None,
    condition: bool,
    as_json: bool,
    overrides: dict[str, str],
    state: Place | None,
    output: options.Output,
) -> None:
    """Show which PLANS are due: `every: 90d` in a plan says how old a proof may be.

    A plan is due until every machine of it was proven within that time. Reads only the journal and
    asks no server; what is not known is due. Exit code 0 if a plan is due, 1 if none is.
    """
    try:
        with explained(verbose=output.verbose):
            code = _due(plans, ahead, as_json, overrides, state, output)
    except SystemExit as exc:
        if condition:
            raise SystemExit(CONDITION_FAILED) from exc
        raise
    end(code)


def _due(
    plans: tuple[Path, ...],
    ahead: str | None,
    as_json: bool,
    overrides: dict[str, str],
    state: Place | None,
    output: options.Output,
) -> int:
    """Show what is due; return the exit code."""
    from orchestrator.cli.history import states_of
    from orchestrator.report.history.coverage import proofs_of
    from orchestrator.report.history.due import due_line, due_of, due_values

    ahead_s = _seconds("--ahead", ahead)
    loaded = _loaded(plans, overrides)
    journal = options.journal_of(state)
    proofs, now = proofs_of(states_of(journal, None)), datetime.now(UTC)
    found = [
        (
            str(path),
            due_of(
                each.plan,
                each.sha256,
                each.plan.every or 0.0,
                states_of(journal, each.plan.name),
                proofs,
                now=now,
                ahead=ahead_s,
            ),
        )
        for path, each in zip(plans, loaded, strict=True)
    ]
    if as_json:
        options.echo_json([due_values(due, place) for place, due in found])
    elif not output.quiet:
        for place, due in found:
            click.echo(due_line(due, place))
    return ExitCode.GOOD if any(due.is_due for _, due in found) else NOTHING_DUE


def _seconds(option: str, text: str | None) -> float:
    from orchestrator.plan.file.quantities import duration

    try:
        return 0.0 if text is None else duration(text)
    except ValueError as exc:
        fail(ExitCode.USAGE, f"{option}: {exc}")


def _loaded(plans: tuple[Path, ...], overrides: dict[str, str]) -> list[LoadedPlan]:
    """Return the plans, each of which says how often it is to run.

    Raises:
        PlanError: one cannot be read, or does not say so; it holds the problems of all.
    """
    from orchestrator.plan.file.loading import load_plan, refusal

    loaded: list[LoadedPlan] = []
    problems: list[PlanProblem] = []
    for path in plans:
        try:
            plan = load_plan(path, overrides=overrides)
            if plan.plan.every is None:
                raise refusal(
                    path, "the plan does not say how often it is to run: add 'every: 90d'"
                )
            loaded.append(plan)
        except PlanError as exc:
            problems.extend(exc.problems)
    if problems:
        raise PlanError(tuple(problems))
    return loaded


@click.command("units")
@options.plan_argument
@click.option(
    "-o",
    "--output",
    "directory",
    type=options.DIRECTORY,
    help="Write the two files into this directory instead of stdout.",
)
@click.option(
    "--user",
    metavar="NAME",
    help="Run as this user. Default: one that systemd makes for the service (DynamicUser).",
)
@click.option(
    "--program",
    type=options.FILE,
    help="Path of bulk-restore for the service. Default: the one that runs now.",
)
@options.set_option
@options.output_options
def units_command(
    plan: Path,
    directory: Path | None,
    user: str | None,
    program: Path | None,
    overrides: dict[str, str],
    output: options.Output,
) -> None:
    """Print a systemd service and timer that run PLAN as often as its `every` says.

    The timer looks now and then whether the plan is due, and the service runs it if so. The service
    has only the rights that a drill needs. Secrets of the form {credential: NAME} are given to it
    by LoadCredential=; what other secrets need is said in a comment. Changes nothing on this
    machine.
    """
    from orchestrator.app.units import units_of

    loaded = _loaded((plan,), overrides)[0]
    if loaded.plan.mode != "drill":
        fail(ExitCode.USAGE, f"{plan}: a timer runs drills only, and this is a {loaded.plan.mode}")
    units = units_of(loaded, program or _this_program(), user=user, overrides=overrides)
    if directory is None:
        for name, content in units.items():
            click.echo(f"# {name}\n{content}")
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in units.items():
        (directory / name).write_text(content, encoding="utf-8")
        if not output.quiet:
            click.echo(directory / name)


def _this_program() -> Path:
    """Return the absolute path of the command that runs now, or end: there is none."""
    for candidate in (sys.argv[0], str(Path(sys.executable).with_name("bulk-restore"))):
        found = shutil.which(candidate)
        if found is not None and Path(found).name == "bulk-restore":
            return Path(found).absolute()
    return fail(
        ExitCode.USAGE, "where bulk-restore is installed is not known; name it with --program"
    )
