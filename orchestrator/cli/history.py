"""trend, coverage and list: what earlier runs say, beside one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail, unless_terminated
from orchestrator.core.errors import IllegalTransition, JournalDamaged
from orchestrator.core.model import Result, ServerName
from orchestrator.core.text import counted, printable

if TYPE_CHECKING:
    from orchestrator.app.stores import Place
    from orchestrator.cli.attended import Attended
    from orchestrator.core.events import RunStarted
    from orchestrator.core.lifecycle import MountRecord
    from orchestrator.core.ports.store import Store
    from orchestrator.core.run_state import RunState
    from orchestrator.plan.file.loading import LoadedPlan
    from orchestrator.report.history.coverage import PlannedMachine


@click.command("trend")
@click.option(
    "--plan", metavar="NAME", callback=options.readable, help="Show the runs of this plan."
)
@click.option(
    "--target",
    metavar="GLOB",
    callback=options.readable,
    help="Show each target whose key, label or VM matches, over runs of all plans or of --plan.",
)
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Number of runs to show.",
)
@options.json_option
@options.state_option
@options.output_options
def trend_command(
    plan: str | None,
    target: str | None,
    last: int,
    as_json: bool,
    state: Place | None,
    output: options.Output,
) -> None:
    """Show durations, RTO, RPO, results and forecasts of the last runs, with a small plot.

    Without --plan or --target, shows the plan that ran last. Reads only the journal. Runs over
    simulated servers are shown only where there is no other. RTO is the
    time from the start of a run to its last verdict. RPO is the age of the oldest restore point
    proven. `-` means not measured, because a target was not proven.
    """
    from orchestrator.report.history.trends import (
        counting,
        trend_lines,
        trend_of_plan,
        trend_values,
        trends_of_targets,
    )

    _ = output  # every line is a result
    journal = options.journal_of(state)
    runs = journal.runs()
    if plan is None and target is None and runs:
        plan = runs[0].plan
    states = counting(states_of(journal, plan, target), last)
    trends = (
        trends_of_targets(target, states)
        if target is not None
        else [trend_of_plan(plan or "", states)]
    )
    if not any(trend.samples for trend in trends):
        fail(2, f"no run in {journal.place} matches")
    if as_json:
        options.echo_json(trend_values(trends))
    else:
        click.echo("\n".join(trend_lines(trends)))


def states_of(
    journal: Store, plan: str | None, target: str | None = None, last: int | None = None
) -> Iterator[RunState]:
    """Yield the newest runs first, at most `last`: of a plan, with a target that matches.

    A damaged run is named on stderr and left out: the others can still be read.
    """
    from orchestrator.report.history.trends import matches

    for summary in journal.runs():
        if plan is not None and summary.plan != plan:
            continue
        try:
            run_state = journal.replay(summary.run)
        except (JournalDamaged, IllegalTransition) as exc:
            click.echo(f"left out: {exc}", err=True)
            continue
        if target is None or any(matches(each, target) for each in run_state.records.values()):
            yield run_state


@click.command("coverage")
@options.plan_argument
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="N",
    help="Maximum age of a proof, in days.",
)
@click.option(
    "--ask", is_flag=True, help="Log on and look up the plan's machines again. Mounts nothing."
)
@options.json_option
@options.set_option
@options.state_option
@options.output_options
def coverage_command(
    plan: Path,
    days: float,
    ask: bool,
    as_json: bool,
    overrides: dict[str, str],
    state: Place | None,
    output: options.Output,
) -> None:
    """Show which machines of PLAN were proven in the last days, and which never. Worst first.

    Proven means that a run of any plan verified the machine with checks, or mounted it where the
    plan had no checks. The output shows which of the two, and failures since then. Without --ask,
    no server is asked: for selectors, the machines are those that the newest run of the plan
    found. Exit code 0 if all machines were proven in time, even if a later run failed; otherwise 1.
    -v lists the verified machines too.
    """
    from orchestrator.plan.file.loading import load_plan
    from orchestrator.report.history.coverage import coverage_of, planned_machines, proofs_of
    from orchestrator.report.history.coverage_text import coverage_lines, coverage_values

    loaded = load_plan(plan, overrides=overrides)
    journal = options.journal_of(state)
    wanted, notes = (
        (_machines_now(loaded, journal), ["the servers were asked just now"])
        if ask
        else planned_machines(loaded.plan, loaded.sha256, states_of(journal, loaded.plan.name))
    )
    coverage = coverage_of(
        loaded.plan.name,
        wanted,
        proofs_of(states_of(journal, None)),
        days=days,
        now=datetime.now(UTC),
        notes=notes,
    )
    if as_json:
        options.echo_json(coverage_values(coverage))
    elif not output.quiet:
        click.echo("\n".join(coverage_lines(coverage, verbose=bool(output.verbose))))
    end(0 if coverage.is_whole else 1)


def _machines_now(loaded: LoadedPlan, journal: Store) -> list[PlannedMachine]:
    """Return the machines that the plan selects on its servers now."""
    from orchestrator.app.preview import look
    from orchestrator.report.history.coverage import PlannedMachine

    preview = unless_terminated(partial(look, _without_samples(loaded), journal))
    preview.require_whole()
    rows: list[tuple[ServerName, str, str | None, str]] = [
        (each.server, each.vm, each.backup_server, "its server lists it")
        for each in preview.expansion.requests
    ]
    rows += [
        (each.server, each.label, None, f"no restore point: {each.reason}")
        for each in preview.expansion.unresolved
    ]
    return [
        PlannedMachine(
            server=server,
            url=loaded.plan.servers[server].url,
            name=vm,
            vm=vm,
            backup_server=backup_server,
            source=source,
        )
        for server, vm, backup_server, source in rows
    ]


def _without_samples(loaded: LoadedPlan) -> LoadedPlan:
    """Return the plan with everything that its selectors match, not only a sample of it."""
    waves = tuple(
        replace(wave, entries=tuple(replace(entry, sample=None) for entry in wave.entries))
        for wave in loaded.plan.waves
    )
    return replace(loaded, plan=replace(loaded.plan, waves=waves))


@click.command("list")
@options.run_argument
@click.option(
    "--status",
    metavar="RESULT[,RESULT...]",
    help="Only targets with these results: verified, mounted, failed, unknown, skipped, cancelled.",
)
@click.option(
    "-o",
    "save_as",
    type=options.FILE,
    metavar="FILE",
    help="Save these targets as a locked plan, which `run` executes exactly.",
)
@options.moved_plan_option
@options.json_option
@options.state_option
@options.output_options
def list_command(
    run: str,
    status: str | None,
    save_as: Path | None,
    plan: Path | None,
    as_json: bool,
    state: Place | None,
    output: options.Output,
) -> None:
    """List the targets of RUN (an id, the start of one, or `last`), all or by result.

    -o FILE saves them as a locked plan with the same servers, waves, checks and limits, and with
    the restore points that this run chose. To mount the newest points instead, run the plan itself
    with --retry-failed RUN.

    A target without a result is shown with its phase, and the last line says whether somebody
    works on the run. --status takes such a target only if nobody does: as `unknown` if it was
    submitted, else as `cancelled`. A held one counts by its verdict.
    """
    from orchestrator.cli.attended import attended_by
    from orchestrator.report.history.subset import chosen

    journal = options.journal_of(state)
    summary = journal.summary(run)
    attended = attended_by(journal, summary, state)  # looked at first: it may end meanwhile
    run_state = journal.replay(summary.run)
    run_state.process_gone = not attended.running
    records = chosen(run_state, _results(status))
    if as_json:
        options.echo_json([_values(each) for each in records])
    elif not output.quiet:
        _show(records, run_state, attended)
    if save_as is not None:
        _save(save_as, plan, journal, run_state.started, records)


def _results(status: str | None) -> frozenset[Result] | None:
    if status is None:
        return None
    words = [word.strip() for word in status.split(",")]
    known = {result.value: result for result in Result}
    for word in words:
        if word not in known:
            fail(2, f"--status: {word!r} is not a result; the results are {', '.join(known)}")
    return frozenset(known[word] for word in words)


def _show(records: Sequence[MountRecord], run_state: RunState, attended: Attended) -> None:
    """Print the targets, what else may be open, and how far the run is if it has not ended."""
    from orchestrator.cli.attended import condition_of, going_on, progress_of

    words = [each.result.value if each.result is not None else each.phase.words for each in records]
    width = 2 + max(8, *map(len, words)) if words else 0
    for each, word in zip(records, words, strict=True):
        why = f"  {printable(each.message, 160)}" if each.message else ""
        mount = condition_of(each, run_state, works=attended.on(each.planned.server))
        shown = f" ({mount.lstrip(', ')})" if mount else ""
        click.echo(f"{word:<{width}}{printable(each.planned.key, 120)}{shown}{why}")
    click.echo(f"{len(records)} of {counted(len(run_state.records), 'target')}")
    left = run_state.left_open
    for line in (*left.strays_in_words, *map(printable, left.unknown)):
        click.echo(f"MAY BE MOUNTED: {line}")
    if run_state.finished is None:
        click.echo(progress_of(run_state))
        click.echo("\n".join(going_on(run_state, attended)))


def _values(record: MountRecord) -> dict[str, object]:
    planned = record.planned
    return {
        "key": planned.key,
        "wave": planned.wave,
        "server": planned.server,
        "backup_server": planned.backup_server or None,
        "vm": planned.vm,
        "label": planned.label,
        "os": record.os_mounted.value.lower(),
        "os_known": record.os_source.value,
        "result": record.result.value if record.result is not None else None,
        "phase": record.phase.value,
        "verdict": record.standing.value if record.standing is not None else None,
        "mount": record.mount_state.value,
        "message": record.message,
        "point": planned.point.id if planned.point else None,
    }


def _save(
    save_as: Path,
    moved_to: Path | None,
    journal: Store,
    started: RunStarted,
    records: list[MountRecord],
) -> None:
    """Write the locked plan, or end where there is nothing to write."""
    from orchestrator.app.wiring import require_same
    from orchestrator.core.events import TargetPlanned
    from orchestrator.plan.choose.locked import load_any
    from orchestrator.report.history.subset import locked_plan_of

    if not records:
        fail(1, "no target has this result; there is nothing to save")
    source = load_any(moved_to or Path(started.plan_path), overrides=started.overrides)
    require_same(source, started)
    planned = {
        event.key: event.point  # the last one counts: a resume may have found a point
        for event in journal.events(started.run)
        if isinstance(event, TargetPlanned)
    }
    pointless = {key for key, point in planned.items() if point is None}
    data = locked_plan_of(
        source, records, pointless=pointless, seed=started.seed, now=datetime.now(UTC)
    )
    save_as.write_bytes(data)
    click.echo(f"locked plan: {save_as}", err=True)
    without = sum(each.planned.key in pointless for each in records)
    if without:
        click.echo(
            f"{without} of them had no restore point and will fail again: for these, run the plan "
            f"itself with --retry-failed {started.run}",
            err=True,
        )
