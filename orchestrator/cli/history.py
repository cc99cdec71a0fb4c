"""trend, coverage and list: what earlier runs say, beside one another."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
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
    output_options,
    readable,
    set_option,
    state_option,
)
from orchestrator.model import counted

if TYPE_CHECKING:
    from orchestrator.history import Wanted
    from orchestrator.journal import State
    from orchestrator.lifecycle import MountRecord
    from orchestrator.model import Result
    from orchestrator.plan.loading import LoadedPlan
    from orchestrator.runstate import RunState


@click.command("trend")
@click.option("--plan", metavar="NAME", callback=readable, help="The runs of this plan as wholes.")
@click.option(
    "--target",
    metavar="GLOB",
    callback=readable,
    help="Each target whose key, label or VM matches, over runs of all plans or of --plan.",
)
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="How many runs back.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@state_option
@output_options
@explained
def trend_command(
    plan: str | None,
    target: str | None,
    last: int,
    as_json: bool,
    state: Path | None,
    output: Output,
) -> None:
    """Show durations, RTO, RPO and results over the last runs, with a small plot.

    Without --plan or --target: of the plan that ran last. Reads the journal only. RTO is the time
    from the start of a run to the last verdict, RPO the age of the oldest restore point proven;
    `-` where that was not measured, because something was not proven.
    """
    from orchestrator.history import (
        trend_lines,
        trend_of_plan,
        trend_values,
        trends_of_targets,
    )
    from orchestrator.journal import State

    _ = output  # every line is a result
    kept = State(state or default_state())
    runs = kept.runs()
    if plan is None and target is None and runs:
        plan = runs[0].plan
    states = _states(kept, plan, target, last)
    trends = (
        trends_of_targets(target, states)
        if target is not None
        else [trend_of_plan(plan or "", states)]
    )
    if not any(trend.samples for trend in trends):
        fail(2, f"no run in {kept.directory} has anything to say of that")
    if as_json:
        echo_json(trend_values(trends))
    else:
        click.echo("\n".join(trend_lines(trends)))


def _states(
    kept: State, plan: str | None, target: str | None = None, last: int | None = None
) -> Iterator[RunState]:
    """Yield the newest runs first, at most `last`: of a plan, with a target that is meant.

    A damaged run is told of and left out: the others can still be read.
    """
    from orchestrator.errors import IllegalTransition, JournalDamaged
    from orchestrator.history.trends import matches

    given = 0
    for summary in kept.runs():
        if plan is not None and summary.plan != plan:
            continue
        try:
            found = kept.replay(summary.run)
        except (JournalDamaged, IllegalTransition) as exc:
            click.echo(f"left out: {exc}", err=True)
            continue
        if target is not None and not any(matches(r, target) for r in found.records.values()):
            continue
        yield found
        given += 1
        if last is not None and given >= last:
            return


@click.command("coverage")
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="N",
    help="How old a proof may be.",
)
@click.option("--ask", is_flag=True, help="Log on and expand the plan anew; mounts nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@set_option
@state_option
@output_options
@explained
def coverage_command(
    plan: Path,
    days: float,
    ask: bool,
    as_json: bool,
    overrides: dict[str, str],
    state: Path | None,
    output: Output,
) -> None:
    """Say which machines of PLAN were proven in the last days, which never. Worst first.

    Proven means that a run of any plan ended with the machine verified by checks, or mounted
    where there were none; which of these it was is said, and so is whatever failed since. Without
    --ask no server is asked: the machines of selectors are those that the newest run of the plan
    found. Exit code 0 if all were proven in time, also where a later run failed, else 1. -v names
    the verified ones too.
    """
    from orchestrator.history import (
        coverage_lines,
        coverage_values,
        covered,
        proofs_of,
        wanted_by,
    )
    from orchestrator.journal import State
    from orchestrator.plan.loading import load_plan

    loaded = load_plan(plan, overrides=overrides)
    kept = State(state or default_state())
    wanted, notes = (
        (_asked(loaded, state or default_state()), ["the servers were asked just now"])
        if ask
        else wanted_by(loaded.plan, loaded.sha256, _states(kept, loaded.plan.name))
    )
    found = covered(
        loaded.plan.name,
        wanted,
        proofs_of(_states(kept, None)),
        days=days,
        now=datetime.now(UTC),
        notes=notes,
    )
    if as_json:
        echo_json(coverage_values(found))
    elif not output.quiet:
        click.echo("\n".join(coverage_lines(found, verbose=bool(output.verbose))))
    end(0 if found.is_whole else 1)


def _asked(loaded: LoadedPlan, state: Path) -> list[Wanted]:
    """Return the machines that the plan means on its servers now."""
    import anyio

    from orchestrator.history import Wanted
    from orchestrator.looking import look

    found = anyio.run(look, _without_samples(loaded), state).expanded
    servers = loaded.plan.servers
    return [
        Wanted(
            server=each.server,
            url=servers[each.server].url,
            name=each.vm,
            vm=each.vm,
            backup_server=each.backup_server,
            source="its server lists it",
        )
        for each in found.requests
    ] + [
        Wanted(
            server=each.server,
            url=servers[each.server].url,
            name=each.label,
            vm=each.label,
            backup_server=None,
            source=f"no restore point: {each.reason}",
        )
        for each in found.unresolved
    ]


def _without_samples(loaded: LoadedPlan) -> LoadedPlan:
    """Return the plan with everything that its selectors match, not only a sample of it."""
    from dataclasses import replace

    waves = tuple(
        replace(wave, entries=tuple(replace(entry, sample=None) for entry in wave.entries))
        for wave in loaded.plan.waves
    )
    return replace(loaded, plan=replace(loaded.plan, waves=waves))


@click.command("list")
@click.argument("run")
@click.option(
    "--status",
    metavar="RESULT[,RESULT...]",
    help="Only targets with these results: verified, mounted, failed, unknown, skipped, cancelled.",
)
@click.option(
    "-o",
    "save_as",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Save a locked plan of just these targets, which `run` executes exactly.",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    help="The plan file, if it moved. It must be the very plan that the run was started with.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@state_option
@output_options
@explained
def list_command(
    run: str,
    status: str | None,
    save_as: Path | None,
    plan: Path | None,
    as_json: bool,
    state: Path | None,
    output: Output,
) -> None:
    """List the targets of RUN (an id, its start, or `last`), all or by result.

    With -o FILE they become a locked plan: the same servers, waves, checks and limits, and the
    same restore points that this run chose. To mount the newest points instead, run the plan
    itself with --retry-failed RUN.
    """
    from orchestrator.history import chosen
    from orchestrator.journal import State

    kept = State(state or default_state())
    found = kept.replay(kept.find(run))
    records = chosen(found, _results(status))
    if as_json:
        echo_json([_values(each) for each in records])
    elif not output.quiet:
        for each in records:
            click.echo(_line(each))
        click.echo(f"{len(records)} of {counted(len(found.records), 'target')}")
    if save_as is not None:
        _save(save_as, plan, kept, found, records)


def _results(status: str | None) -> frozenset[Result] | None:
    from orchestrator.model import Result

    if status is None:
        return None
    words = [word.strip() for word in status.split(",")]
    known = {result.value: result for result in Result}
    for word in words:
        if word not in known:
            fail(2, f"--status: {word!r} is no result; there are {', '.join(known)}")
    return frozenset(known[word] for word in words)


def _line(record: MountRecord) -> str:
    from orchestrator.history.narrowing import result_of
    from orchestrator.model import printable

    why = f"  {printable(record.message, 160)}" if record.message else ""
    mount = f" ({record.mount_state.value})" if record.may_be_open else ""
    return f"{result_of(record).value:<10}{printable(record.planned.key, 120)}{mount}{why}"


def _values(record: MountRecord) -> dict[str, object]:
    from orchestrator.history.narrowing import result_of

    planned = record.planned
    return {
        "key": planned.key,
        "wave": planned.wave,
        "server": planned.server,
        "backup_server": planned.backup_server or None,
        "vm": planned.vm,
        "label": planned.label,
        "result": result_of(record).value,
        "mount": record.mount_state.value,
        "message": record.message,
        "point": planned.point.id if planned.point else None,
    }


def _save(
    save_as: Path, moved_to: Path | None, kept: State, found: RunState, records: list[MountRecord]
) -> None:
    """Write the locked plan, or say why there is none."""
    from orchestrator.conducting import require_same
    from orchestrator.events import TargetPlanned
    from orchestrator.history import locked_plan_of
    from orchestrator.plan.locked import load_any

    if not records:
        fail(1, "no target has such a result: there is nothing to save")
    begun = found.started
    source = load_any(moved_to or Path(begun.plan_path), overrides=begun.overrides)
    require_same(source, begun)
    pointless = {
        event.key
        for event in kept.events(begun.run)
        if isinstance(event, TargetPlanned) and event.point is None
    }
    data = locked_plan_of(
        source, records, pointless=pointless, seed=begun.seed, now=datetime.now(UTC)
    )
    save_as.write_bytes(data)
    click.echo(f"locked plan: {save_as}", err=True)
    without = sum(each.planned.key in pointless for each in records)
    if without:
        click.echo(
            f"{without} of them had no restore point and will fail again: for these, run the plan "
            f"itself with --retry-failed {begun.run}",
            err=True,
        )
