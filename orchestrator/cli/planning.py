"""validate, plan, schema: everything before a run."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import (
    Output,
    end,
    explained,
    fail,
    only_option,
    output_options,
    set_option,
)

if TYPE_CHECKING:
    from orchestrator.plan.expansion import Expansion
    from orchestrator.plan.loading import LoadedPlan
    from orchestrator.plan.locked import LockedPlan
    from orchestrator.targeting import Expanded


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
@click.option("--explain", is_flag=True, help="Say why each restore point was chosen.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Show the difference to an earlier locked plan.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the targets as JSON.")
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

    from orchestrator.plan.loading import load_plan

    loaded = load_plan(plan, overrides=overrides)
    found = anyio.run(_expanded, loaded, only)
    if as_json:
        click.echo(json.dumps(_as_values(found, loaded), indent=1))
    elif not output.quiet:
        _show(found, explain)
    for line in found.broken:
        click.echo(f"broken: {line}", err=True)
    if against is not None:
        _show_difference(against, loaded, found)
    if save_as is not None and not found.broken:
        _save(save_as, loaded, found)
    end(4 if found.broken else 1 if found.unresolved or not found.requests else 0)


async def _expanded(loaded: LoadedPlan, only: tuple[str, ...]) -> Expanded:
    """Ask every server once and expand; a server that cannot be used ends the command."""
    from datetime import UTC, datetime

    import anyio

    from orchestrator.assembly import World, clients
    from orchestrator.em.client import Client
    from orchestrator.engine.inventory import gather_once
    from orchestrator.errors import OrchestratorError
    from orchestrator.model import RestorePoint, ServerName
    from orchestrator.targeting import Narrowing, PlanSelection

    selection = PlanSelection(loaded.plan, Narrowing(only=only), datetime.now(UTC))
    found: dict[ServerName, list[RestorePoint]] = {}
    errors: list[Exception] = []

    async def ask(client: Client) -> None:
        try:
            async with client.logon() as session:
                found[client.server] = list(
                    await gather_once(session, selection.needs(client.server))
                )
        except OrchestratorError as exc:
            errors.append(exc)

    async with anyio.create_task_group() as tasks:
        for client in clients(loaded.plan, World(rng=random.SystemRandom())):
            tasks.start_soon(ask, client)
    if errors:
        raise errors[0]
    return selection.expand(found)


def _show(found: Expanded, explain: bool) -> None:
    from datetime import UTC, datetime

    from orchestrator.model import printable
    from orchestrator.report.text import duration

    now = datetime.now(UTC)
    rows: list[tuple[str, ...]] = [
        ("WAVE", "SERVER", "BACKUP SERVER", "TARGET", "RESTORE POINT", "AGE")
    ]
    rows += [
        (
            request.wave,
            request.server,
            request.backup_server,
            request.label,
            request.point.name,
            duration((now - request.point.created_at).total_seconds()),
        )
        for request in found.requests
    ]
    shown = [tuple(printable(cell, 48) for cell in row) for row in rows]
    widths = [max(len(row[place]) for row in shown) for place in range(len(rows[0]))]
    for place, row in enumerate(shown):
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
        if explain and place:
            click.echo(f"    because: {printable(found.requests[place - 1].policy)}")
    for target in found.unresolved:
        click.echo(f"no point: {printable(target.key)}: {printable(target.reason)}", err=True)
    click.echo(f"{len(found.requests)} targets, {len(found.unresolved)} without a restore point")


def _as_values(found: Expanded, loaded: LoadedPlan) -> dict[str, object]:
    return {
        "plan": loaded.plan.name,
        "plan_sha256": loaded.sha256,
        "targets": [
            {
                "key": each.key,
                "wave": each.wave,
                "server": each.server,
                "backup_server": each.backup_server,
                "vm": each.vm,
                "label": each.label,
                "os": each.os_kind.value.lower(),
                "point": {
                    "id": each.point.id,
                    "name": each.point.name,
                    "created_at": each.point.created_at.isoformat().replace("+00:00", "Z"),
                },
                "why": each.policy,
            }
            for each in found.requests
        ],
        "unresolved": [{"key": each.key, "reason": each.reason} for each in found.unresolved],
        "broken": list(found.broken),
    }


def _whole(found: Expanded) -> Expansion:
    from orchestrator.plan.expansion import Expansion

    return Expansion(
        requests=tuple(found.requests),
        unresolved=tuple(found.unresolved),
        broken=tuple(found.broken),
        pending=(),
    )


def _save(output: Path, loaded: LoadedPlan, found: Expanded) -> None:
    from datetime import UTC, datetime

    from orchestrator._version import __version__
    from orchestrator.plan.locked import lock

    data = lock(loaded, _whole(found), created_at=datetime.now(UTC), version=__version__)
    output.write_bytes(data)
    click.echo(f"locked plan: {output}", err=True)


def _show_difference(against: Path, loaded: LoadedPlan, found: Expanded) -> None:
    from orchestrator.plan.locked import LockedPlan, differences, load_any

    _ = loaded
    locked: LoadedPlan | LockedPlan = load_any(against)
    if not isinstance(locked, LockedPlan):
        fail(2, f"{against} is a plan, not a locked plan; make one with: plan -o")
    lines = differences(locked, _whole(found))
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo(f"no difference to {against}")
