"""validate, plan, schema: everything before a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import (
    Output,
    default_state,
    echo_json,
    end,
    explained,
    fail,
    only_option,
    output_options,
    seed_option,
    set_option,
    state_option,
)

if TYPE_CHECKING:
    from orchestrator.looking import Look
    from orchestrator.plan.expansion import Expansion
    from orchestrator.plan.loading import LoadedPlan
    from orchestrator.plan.locked import LockedPlan


@click.command("validate")
@click.argument("plans", nargs=-1, required=True, type=click.Path(path_type=Path))
@set_option
@output_options
@explained
def validate_command(plans: tuple[Path, ...], overrides: dict[str, str], output: Output) -> None:
    """Check PLANS offline: syntax, schema, references. Every error is shown in one pass.

    Nothing is sent and no secret is read. Exit code 0, or 2 with file:line:column for each
    problem.
    """
    from orchestrator.errors import PlanError
    from orchestrator.plan.locked import load_any

    problems: list[object] = []
    for path in plans:
        try:
            found = load_any(path, overrides=overrides)
        except PlanError as exc:
            problems.extend(exc.problems)
        else:
            waves = found.plan.waves
            entries = sum(len(wave.entries) for wave in waves) or len(
                getattr(found, "requests", ())
            )
            if not output.quiet:
                click.echo(f"{path}: valid (waves: {len(waves)}, target entries: {entries})")
            for doubt in getattr(found, "doubts", ()):
                click.echo(f"warning: {doubt}", err=True)
    if problems:
        raise PlanError(tuple(problems))


@click.command("schema")
@click.argument("what", type=click.Choice(["plan", "report", "events", "check"]))
@explained
def schema_command(what: str) -> None:
    """Print a published JSON Schema.

    Save the plan's beside your plans and name it in the first line of a plan, and your editor
    completes and checks it: # yaml-language-server: $schema=./plan.schema.json
    """
    if what == "plan":
        from orchestrator.plan.json_schema import plan_json_schema

        schema = plan_json_schema()
    elif what == "report":
        from orchestrator.report import report_json_schema

        schema = report_json_schema()
    elif what == "check":
        from orchestrator.readiness import readiness_json_schema

        schema = readiness_json_schema()
    else:
        from orchestrator.progress import events_json_schema

        schema = events_json_schema()
    click.echo(json.dumps(schema, indent=2, ensure_ascii=False))


@click.command("plan")
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "save_as",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Save the expansion as a locked plan that `run` executes exactly.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Say why each restore point was chosen, and why others were passed over.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Show the difference to an earlier locked plan, and which of its points have gone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the targets as JSON.")
@state_option
@seed_option
@set_option
@only_option
@output_options
@explained
def plan_command(
    plan: Path,
    save_as: Path | None,
    explain: bool,
    against: Path | None,
    as_json: bool,
    state: Path | None,
    seed: int | None,
    overrides: dict[str, str],
    only: tuple[str, ...],
    output: Output,
) -> None:
    """Log on, expand PLAN and show every target: server, backup server, point, age, wave.

    Reads only; nothing is mounted. Exit code 0 when every entry found its restore point, 4 when
    a server cannot be used or an `expect` guard is broken, 1 when a target has no point or no
    target is selected.
    """
    import anyio

    from orchestrator.cli.showing import as_values, shown_plan
    from orchestrator.looking import look
    from orchestrator.model import printable
    from orchestrator.plan.loading import load_plan

    loaded = load_plan(plan, overrides=overrides)
    locked = _locked(against) if against is not None else None

    async def looked() -> Look:
        return await look(loaded, state or default_state(), only=only, seed=seed, locked=locked)

    found = anyio.run(looked)
    if as_json:
        echo_json(as_values(found, loaded))
    elif not output.quiet:
        for line in shown_plan(found, explain=explain):
            click.echo(line)
    for target in found.expanded.unresolved if not as_json else ():
        click.echo(f"no point: {printable(target.key)}: {printable(target.reason)}", err=True)
    for line in found.expanded.broken:
        click.echo(f"broken: {printable(line, 1000)}", err=True)
    if locked is not None and against is not None:
        _show_difference(against, locked, found)
    if save_as is not None and not found.expanded.broken:
        _save(save_as, loaded, found)
    expanded = found.expanded
    end(4 if expanded.broken else 1 if expanded.unresolved or not expanded.requests else 0)


def _locked(path: Path) -> LockedPlan:
    from orchestrator.plan.locked import LockedPlan, load_any

    locked = load_any(path)
    if not isinstance(locked, LockedPlan):
        fail(2, f"{path} is a plan, not a locked plan; make one with: plan -o")
    return locked


def _whole(found: Look) -> Expansion:
    from orchestrator.plan.expansion import Expansion

    return Expansion(
        requests=tuple(found.expanded.requests),
        unresolved=tuple(found.expanded.unresolved),
        broken=tuple(found.expanded.broken),
        pending=(),
    )


def _save(output: Path, loaded: LoadedPlan, found: Look) -> None:
    from datetime import UTC, datetime

    from orchestrator._version import __version__
    from orchestrator.plan.locked import lock

    data = lock(
        loaded,
        _whole(found),
        created_at=datetime.now(UTC),
        version=__version__,
        seed=found.seed,
    )
    output.write_bytes(data)
    click.echo(f"locked plan: {output}", err=True)


def _show_difference(against: Path, locked: LockedPlan, found: Look) -> None:
    from orchestrator.model import printable
    from orchestrator.plan.locked import differences

    lines = [f"! {printable(gone.key)}: {printable(gone.reason)}" for gone in found.gone]
    lines += map(printable, differences(locked, _whole(found)))
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo(f"no difference to {against}")
