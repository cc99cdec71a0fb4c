"""status: what the journal knows, also during a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import (
    Output,
    default_state,
    echo_json,
    end,
    explained,
    output_options,
    state_option,
)
from orchestrator.model import counted, inert

if TYPE_CHECKING:
    from orchestrator.history import Glance
    from orchestrator.journal import RunSummary, State
    from orchestrator.lifecycle import MountRecord
    from orchestrator.runstate import RunState


@click.command("status")
@click.argument("run", required=False)
@click.option("--watch", is_flag=True, help="First watch the run until it has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@state_option
@output_options
@explained
def status_command(
    run: str | None, watch: bool, as_json: bool, state: Path | None, output: Output
) -> None:
    """Show all runs, or one RUN (an id, its start, or `last`) and what may still be mounted.

    Reads the journal only, so it works from a second terminal while a run goes on. Exit code 3
    if a mount of the run may still be open and nobody is working on it.
    """
    from orchestrator.journal import State

    kept = State(state or default_state())
    if run is None:
        end(_show_runs(kept, as_json))
    summary = kept.summary(run)
    if watch and kept.is_running(summary):
        from orchestrator.cli.watching import followed

        try:
            followed(kept, summary, output)
        except KeyboardInterrupt:
            end(130)
    end(_show_run(kept.replay(summary.run), kept.is_running(summary), as_json))


def _show_runs(kept: State, as_json: bool) -> int:
    """Print the list of runs and return the exit code.

    A damaged run is told of and hides no other one: what may be mounted must be found.
    """
    from orchestrator.errors import IllegalTransition, JournalDamaged
    from orchestrator.history import glance

    values, lines, damage = [], [], []
    for summary in kept.runs():
        try:
            found = glance(kept, summary)
        except (JournalDamaged, IllegalTransition) as exc:
            damage.append(str(exc))
            values.append(_row_values(summary, "damaged", None))
            lines.append(_row_line(summary, "DAMAGED, nothing can be said of it"))
            continue
        state = _state_of(found, kept.is_running(summary))
        values.append(_row_values(summary, state, found))
        lines.append(_row_line(summary, _said(state, found)))
    if as_json:
        echo_json(values)
    else:
        click.echo("\n".join(lines or [f"no runs in {kept.directory}"]))
    for each in damage:
        click.echo(inert(f"bulk-restore: {each}"), err=True)
    return 74 if damage else 0


def _row_values(summary: RunSummary, state: str, found: Glance | None) -> dict[str, object]:
    return {
        "run": summary.run,
        "plan": summary.plan,
        "state": state,
        "started_at": summary.started_at.isoformat().replace("+00:00", "Z"),
        "exit_code": found.finished.exit_code if found and found.finished else None,
        "targets": found.targets if found else None,
        "may_be_mounted": len(found.open) if found else None,
        "report": found.report_dir if found else summary.report_dir,
    }


def _row_line(summary: RunSummary, said: str) -> str:
    from orchestrator.model import printable

    return f"{summary.run}  {printable(summary.plan, 40)}  {said}"


def _said(state: str, found: Glance) -> str:
    code = f", exit code {found.finished.exit_code}" if found.finished else ""
    mounted = f", {len(found.open)} {'mounted' if state == 'running' else 'MAY BE MOUNTED'}"
    return f"{state}{code}, {counted(found.targets, 'target')}{mounted if found.open else ''}"


def _state_of(found: RunState | Glance, running: bool) -> str:
    if found.finished is not None:
        return "finished"
    return "running" if running else "interrupted"


def _open(found: RunState, running: bool) -> list[str]:
    """Return a line for every target whose mount is, or may be, open."""
    from orchestrator.model import printable

    lines = []
    for record in found.records.values():
        if record.may_be_open:
            planned = record.planned
            point = record.open_point.name if record.open_point else "?"
            lines.append(
                f"  {printable(planned.key)}: {_standing(record, found, running)}; "
                f"{printable(planned.server)}, "
                f"{printable(planned.backup_server)}, restore point {printable(point)}"
            )
    return lines


def _standing(record: MountRecord, found: RunState, running: bool) -> str:
    """Return where a target stands; and what becomes of its mount, if nobody works on it.

    While the run goes on, the state of a mount is only what a report would say if it died now.
    """
    from orchestrator.lifecycle import HOLDING_PHASES, Phase

    phase = record.phase.value.replace("_", " ")
    until = _until(record, found)
    verdict = f", {record.standing}" if record.phase is Phase.HELD else ""
    if running and record.phase in HOLDING_PHASES:
        return f"{phase}{until}{verdict}"
    return f"{phase}{verdict}, mount {record.mount_state.value}{until}"


def _until(record: MountRecord, found: RunState) -> str:
    """Return until when a mount is held, if it is."""
    if record.mount_state.value != "kept":
        return ""
    if record.kept_until is None:
        return " until somebody ends the hold"
    return f" until {found.moment(record.kept_until):%Y-%m-%d %H:%M:%S} UTC"


def _progress(found: RunState) -> str:
    """Return how many targets have their result, and what was found of those that are held."""
    from orchestrator.lifecycle import Phase
    from orchestrator.tally import in_words

    records = found.records.values()
    done = sum(record.is_final for record in records)
    held = [record.standing for record in records if record.phase is Phase.HELD]
    verdicts = in_words(Counter(verdict for verdict in held if verdict is not None))
    more = f", {len(held)} held open: {verdicts}" if held else ""
    have = "has its" if len(records) == 1 else "have their"
    return f"{done} of {counted(len(records), 'target')} {have} result{more}"


def _show_run(found: RunState, running: bool, as_json: bool) -> int:
    from orchestrator.report import summarize, text
    from orchestrator.report.as_json import as_values

    left = _open(found, running)
    report = summarize(found)
    if as_json:
        values = as_values(report)
        values["state"] = _state_of(found, running)
        echo_json(values)
        return 3 if left and not running else 0
    click.echo(f"{found.started.run}: {_state_of(found, running)}")
    if found.finished is not None:
        click.echo(text(report))
    else:
        click.echo(_progress(found))
    if left:
        title = "Open now:" if running else "May still be mounted (bulk-restore unmount RUN):"
        click.echo("\n".join([title, *left]))
    if running and any(record.mount_state.value == "kept" for record in found.records.values()):
        click.echo(f"End the holds: bulk-restore unmount {found.started.run}")
    if not running and found.is_anything_left():
        click.echo(f"Go on with it: bulk-restore resume {found.started.run}")
    return 3 if left and not running else 0
