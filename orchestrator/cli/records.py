"""status: what the journal knows, also during a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from orchestrator.app.held_up import CONFIRMING, waiting_for_people
from orchestrator.cli import options
from orchestrator.cli.attended import (
    RUNNING,
    STALLED,
    Attended,
    attended_by,
    condition_of,
    looked_at_run,
    progress_of,
    reasons_of,
    state_in_words,
    state_of,
)
from orchestrator.cli.ending import end
from orchestrator.cli.wrapping import for_stdout
from orchestrator.core.errors import IllegalTransition, JournalDamaged
from orchestrator.core.lifecycle import HOLDING_PHASES, Phase
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.core.text import counted, inert, moment, printable, timestamp

if TYPE_CHECKING:
    from orchestrator.app.stores import Place
    from orchestrator.core.left_open import LeftOpen
    from orchestrator.core.ports.store import Store
    from orchestrator.core.records import RunSummary
    from orchestrator.core.run_state import RunState
    from orchestrator.report.history.overview import RunOverview


@click.command("status")
@click.argument("run", required=False)
@click.option("--watch", is_flag=True, help="Watch the run until it has ended, then show it.")
@options.json_option
@options.state_option
@options.output_options
def status_command(
    run: str | None, watch: bool, as_json: bool, state: Place | None, output: options.Output
) -> None:
    """Show all runs, or one RUN (an id, the start of one, or `last`) and what may still be mounted.

    Reads only the journal, so it also works during a run, from a second terminal. A run is
    `stalled` if its process is there and has given no sign of life for 30 seconds, and `dead`
    (`interrupted` in JSON) if its process is gone. Exit code 3 if a mount of the run may still be
    open and no process is working on the run, or only one that is stalled.

    Of a run over several machines it shows who serves each server, and what nobody does; exit code
    3 if a mount may be open on a server that no worker serves.
    """
    journal = options.journal_of(state)
    if run is None:
        end(_show_runs(journal, as_json))
    summary = journal.summary(run)
    if watch and journal.is_running(summary):
        from orchestrator.cli.watching import follow

        try:
            follow(journal, summary, output)
        except KeyboardInterrupt:
            end(130)
    attended = attended_by(journal, summary, state)  # looked at first: it may end meanwhile
    run_state = journal.replay(summary.run)
    run_state.process_gone = not attended.running
    reasons: list[str] = []
    if attended.is_open(run_state):
        reasons = list(reasons_of(journal, run_state, attended))
    end(_show_run(run_state, attended, reasons, as_json))


def _show_runs(journal: Store, as_json: bool) -> int:
    """Print the list of runs and return the exit code.

    A damaged run is named and hides no other one: what may be mounted must be found.
    """
    from orchestrator.report.history.overview import overview_of

    values, lines, damage = [], [], []
    for summary in journal.runs():
        attended = looked_at_run(journal, summary)
        running = attended.running
        try:
            overview = overview_of(journal, summary, process_gone=not running)
        except (JournalDamaged, IllegalTransition) as exc:
            damage.append(str(exc))
            values.append(_row_values(summary, "damaged", None, attended))
            lines.append(_row_line(summary, "DAMAGED, its state is unknown"))
            continue
        state = state_of(overview, attended, is_shared=journal.is_shared)
        values.append(_row_values(summary, state, overview, attended))
        words = _progress_of(state_in_words(state, attended), overview)
        served = journal.served(summary.run) if state == RUNNING else None
        waits = [] if served is None else list(served.what_waits())
        lines.append(_row_line(summary, "; ".join([words, *waits])))
    if as_json:
        options.echo_json(values)
    else:
        click.echo("\n".join(lines or [f"no runs in {journal.place}"]))
    for each in damage:
        click.echo(inert(f"bulk-restore: {each}"), err=True)
    return 74 if damage else 0


def _row_values(
    summary: RunSummary, state: str, overview: RunOverview | None, attended: Attended
) -> dict[str, object]:
    return {
        "run": summary.run,
        "plan": summary.plan,
        "state": state,
        "stalled_since": _stalled_since(state, attended),
        "started_at": timestamp(summary.started_at, "auto"),
        "exit_code": overview.finished.exit_code if overview and overview.finished else None,
        "targets": overview.targets if overview else None,
        "may_be_mounted": overview.open.mounts if overview else None,
        "unaudited": list(overview.open.unaudited) if overview else None,
        "report": overview.report_dir if overview else summary.report_dir,
    }


def _row_line(summary: RunSummary, state: str) -> str:
    return f"{summary.run}  {printable(summary.plan, 40)}  {state}"


def _progress_of(state: str, overview: RunOverview) -> str:
    code = f", exit code {overview.finished.exit_code}" if overview.finished else ""
    left = overview.open
    words = _open_words(left) if state == RUNNING else left.short()
    waits = ", WAITS for people" if state == RUNNING and overview.is_held_up else ""
    if state == RUNNING and overview.awaits_confirmation:
        state = CONFIRMING
    return f"{state}{code}{waits}, {counted(overview.targets, 'target')}{words}"


def _open_words(left: LeftOpen) -> str:
    """Return what is under way, held open, and perhaps open, of a run that goes on."""
    under_way = [each for each in left.records if each.phase in HOLDING_PHASES]
    held = sum(each.phase is Phase.HELD for each in under_way)
    counts = {
        "under way": len(under_way) - held,
        "held open": held,
        "MAY BE MOUNTED": left.mounts - len(under_way),
    }
    return "".join(f", {count} {word}" for word, count in counts.items() if count)


def _stalled_since(state: str, attended: Attended) -> str | None:
    stalled = state == STALLED and attended.stall is not None
    return timestamp(attended.stall.since, "auto") if stalled and attended.stall else None


def _is_anything_unattended(run_state: RunState, attended: Attended) -> bool:
    """Return whether something may be open where nobody works."""
    left = run_state.left_open
    servers = {record.planned.server for record in left.records}
    servers |= {stray.server for stray in left.strays}
    if not attended.moves:
        servers |= set(left.unaudited)
    return not all(map(attended.on, servers))


def _open(run_state: RunState, attended: Attended) -> Iterator[str]:
    """Yield a line for everything that is, or may be, open."""
    left, running = run_state.left_open, attended.running
    for record in left.records:
        planned = record.planned
        point = record.open_point.name if record.open_point else "?"
        what = record.result.value if record.result is not None else record.phase.words
        mount = condition_of(record, run_state, works=attended.on(planned.server))
        yield (
            f"  {printable(planned.key)}: {what}{mount}; {printable(planned.server)}, "
            f"{printable(planned.backup_server)}, restore point {printable(point)}"
        )
    yield from (f"  {line}" for line in left.strays_in_words)
    if not running:
        yield from (f"  {printable(line)}" for line in left.unknown)


def _show_run(run_state: RunState, attended: Attended, reasons: list[str], as_json: bool) -> int:
    from orchestrator.report.as_json import as_values
    from orchestrator.report.summary import summarize
    from orchestrator.report.text import SHOWN, text

    running, served = attended.is_open(run_state), attended.served
    attended = replace(attended, running=running)
    left = list(_open(run_state, attended))
    code = 3 if _is_anything_unattended(run_state, attended) else 0
    report = summarize(run_state, goes_on=attended.running)
    state = state_of(run_state, attended, is_shared=served is not None)
    if as_json:
        values = as_values(report)
        values["state"] = state
        values["stalled_since"] = _stalled_since(state, attended)
        waits = served.what_waits() if served is not None and run_state.finished is None else ()
        awaited = waiting_for_people(run_state) if attended.moves else []
        values["held_up_by"] = [*waits, *reasons, *awaited]
        values["awaits_confirmation"] = run_state.awaits_confirmation
        if served is not None:
            from orchestrator.app.sites.overview import as_values as as_shards

            values |= as_shards(served)
        options.echo_json(values)
        return code
    stalled = attended.stalled_words(run_state) if state == STALLED else ""
    words = CONFIRMING if run_state.awaits_confirmation else state_in_words(state, attended)
    click.echo(f"{run_state.started.run}: {stalled or words}")
    if served is not None and run_state.finished is None:
        click.echo("\n".join(attended.lines(run_state)))
    for reason in reasons:
        click.echo(reason)
    if not running and _has_more_in_report(run_state):
        where = printable(run_state.report_dir)
        click.echo(f"The journal took nothing any more; the report has the rest: {where}")
    if run_state.finished is not None:
        click.echo(for_stdout(text(report)))
    else:
        awaited = waiting_for_people(run_state) if attended.moves else []
        click.echo("\n".join([progress_of(run_state), *awaited]))
    if left and (run_state.finished is None or len(left) > SHOWN):  # else the report names all
        title = "Open now:" if running else _title_of_left(run_state, attended)
        click.echo("\n".join([title, *left]))
    if attended.moves and any(
        record.mount_state.value == "kept" for record in run_state.records.values()
    ):
        click.echo(f"End the holds: bulk-restore unmount {run_state.started.run}")
    if not running and run_state.is_anything_left() and state not in {"waiting", STALLED}:
        click.echo(f"Continue it: bulk-restore resume {run_state.started.run}")
    return code


def _title_of_left(run_state: RunState, attended: Attended) -> str:
    """Return until when what is open can be released, and how.

    A session lasts 15 minutes from its last request. That came with the last record or later, or
    before its process stalled.
    """
    last = run_state.moment(run_state.last_at)
    if attended.stall is not None:
        last = attended.stall.since
    until = last + timedelta(seconds=SESSION_IDLE_LIMIT)
    how = f"bulk-restore unmount {run_state.started.run}"
    if until < datetime.now(UTC):
        return f"May still be mounted; since about {moment(until)} maybe out of reach, try {how}:"
    return f"May still be mounted; until about {moment(until)} this can release it, {how}:"


def _has_more_in_report(run_state: RunState) -> bool:
    """Return whether the run's report has what its journal does not have; if it can be read."""
    from orchestrator.report.evidence.writing import is_only_record

    with suppress(OSError, ValueError):  # the journal may name what is no path
        return is_only_record(Path(run_state.report_dir), run_state.started.run)
    return False
