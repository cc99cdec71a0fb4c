"""validate, plan, schema: everything before a run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, explained, fail, unless_terminated
from orchestrator.core.errors import PlanError, PlanProblem, in_brief
from orchestrator.core.text import printable
from orchestrator.core.version import __version__

if TYPE_CHECKING:
    from orchestrator.app.preview import Preview
    from orchestrator.app.stores import Place
    from orchestrator.core.parts import Part
    from orchestrator.plan.file.loading import LoadedPlan


@click.command("validate")
@click.argument("plans", nargs=-1, required=True, type=options.PATH)
@options.set_option
@options.output_options
def validate_command(
    plans: tuple[Path, ...], overrides: dict[str, str], output: options.Output
) -> None:
    """Check PLANS offline: syntax, schema, references. Shows every error in one pass; of
    errors that differ in names and numbers only, the first 20 and how many more there are.

    Sends nothing and reads no secret. Exit code 0, or 2 with file:line:column for each problem.
    """
    from orchestrator.plan.choose.locked import load_any

    problems: list[PlanProblem] = []
    for path in plans:
        try:
            source = load_any(path, overrides=overrides)
        except PlanError as exc:
            problems.extend(exc.problems)
        else:
            waves = source.plan.waves
            entries = sum(len(wave.entries) for wave in waves)
            entries = entries or len(getattr(source, "requests", ()))
            if not output.quiet:
                click.echo(f"{path}: valid (waves: {len(waves)}, target entries: {entries})")
            for doubt in in_brief(getattr(source, "doubts", ())):
                click.echo(f"warning: {doubt}", err=True)
    if problems:
        raise PlanError(tuple(problems))


SCHEMAS = {
    "plan": ("plan.file.json_schema", "plan_json_schema"),
    "report": ("report.as_json", "report_json_schema"),
    "events": ("views.json_events", "events_json_schema"),
    "forecast": ("app.forecasting.json_schema", "forecast_json_schema"),
    "check": ("app.readiness.as_json", "readiness_json_schema"),
}
"""What `schema` prints, by name: the module, which is imported late, and its function."""


@click.command("schema")
@click.argument("what", type=click.Choice(list(SCHEMAS)))
@explained()
def schema_command(what: str) -> None:
    """Print a published JSON Schema.

    Save the plan's schema beside your plans and name it in the first line of a plan. Your editor
    then completes and checks the plan: # yaml-language-server: $schema=./plan.schema.json
    """
    module, function = SCHEMAS[what]
    schema = getattr(import_module(f"orchestrator.{module}"), function)()
    click.echo(json.dumps(schema, indent=2, ensure_ascii=False))


@click.command("plan")
@options.plan_argument
@click.option(
    "-o",
    "--output",
    "save_as",
    type=options.FILE,
    help="Save the targets as a locked plan, which `run` executes exactly.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Show why each restore point was chosen, and why others were passed over.",
)
@click.option(
    "--against",
    metavar="FILE|RUN",
    callback=options.readable,
    help="Compare with a locked plan or an earlier run (an id, the start of one, or `last`), and "
    "show which of its restore points are gone. The plan may have changed since.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the targets as JSON.")
@options.state_option
@options.seed_option
@options.set_option
@options.only_option
@options.shard_option
@options.output_options
def plan_command(
    plan: Path,
    save_as: Path | None,
    explain: bool,
    against: str | None,
    as_json: bool,
    state: Place | None,
    seed: int | None,
    overrides: dict[str, str],
    only: tuple[str, ...],
    shard: Part | None,
    output: options.Output,
) -> None:
    """Log on, expand PLAN and show every target: server, backup server, point, age, wave.

    Reads only; mounts nothing. Exit code 0 if every entry has its restore point, 4 if a server
    cannot be used or a guard is broken, 1 if a target has no restore point or no target is
    selected. Servers that cannot be asked are listed, with the targets of the other servers.
    """
    from orchestrator.app.preview import look
    from orchestrator.cli import comparing
    from orchestrator.cli.showing import as_values, shown_plan
    from orchestrator.plan.file.loading import load_plan

    if shard is not None and save_as is not None:
        fail(
            2, "lock the whole plan, and give --shard to `run`: all shards must have the same file"
        )
    loaded = load_plan(plan, overrides=overrides)
    journal = options.journal_of(state)
    before = comparing.earlier(against, loaded, journal, overrides) if against is not None else None
    locked = before.locked if before is not None else None
    if locked is not None and seed is None:
        seed = locked.seed or None  # what was drawn then is drawn again
    ask = partial(look, loaded, journal, only=only, part=shard, seed=seed, locked=locked)
    preview = unless_terminated(ask)
    lines = comparing.differences_of(before, preview, only) if before is not None else []
    if as_json:
        values = as_values(preview, loaded)
        if before is not None:
            values["against"] = comparing.as_values(before, lines)
        options.echo_json(values)
    elif not output.quiet:
        for line in shown_plan(preview, explain=explain):
            click.echo(line)
    expansion = preview.expansion
    for target in expansion.unresolved if not as_json else ():
        click.echo(f"no point: {printable(target.key)}: {printable(target.reason)}", err=True)
    for line in expansion.broken:
        click.echo(f"broken: {printable(line, 1000)}", err=True)
    for server, reason in preview.missing.items():
        click.echo(f"missing: {server}: {printable(str(reason), 1000)}", err=True)
    if before is not None and not as_json:
        click.echo("\n".join(comparing.shown(before, lines)))
    unusable = bool(expansion.broken or preview.missing)
    if save_as is not None and not unusable:
        _save(save_as, loaded, preview)
    nothing = not expansion.requests and not (shard is not None and expansion.elsewhere)
    end(4 if unusable else 1 if expansion.unresolved or nothing else 0)


def _save(output: Path, loaded: LoadedPlan, preview: Preview) -> None:
    from orchestrator.plan.choose.locked import lock

    data = lock(
        loaded,
        preview.expansion,
        created_at=datetime.now(UTC),
        version=__version__,
        seed=preview.seed,
    )
    output.write_bytes(data)
    click.echo(f"locked plan: {output}", err=True)
