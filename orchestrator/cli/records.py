"""status: what the journal knows, also during a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.cli import options
from orchestrator.cli.ending import end
from orchestrator.core.controls import Verb
from orchestrator.core.errors import IllegalTransition, JournalDamaged
from orchestrator.core.text import counted, inert, moment, printable, timestamp

if TYPE_CHECKING:
    from orchestrator.app.sites.overview import ServedRun
    from orchestrator.app.stores import Place
    from orchestrator.core.events import ApprovalAwaited
    from orchestrator.core.lifecycle import MountRecord
    from orchestrator.core.model import ServerName, SessionId
    from orchestrator.core.ports.store import Store
    from orchestrator.core.records import RunSummary, Stall
    from orchestrator.core.run_state import RunState
    from orchestrator.report.history.overview import RunOverview


RUNNING, STALLED, INTERRUPTED = "running", "stalled", "interrupted"


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
    attended = _attended(journal, summary, state)  # looked at first: it may end meanwhile
    run_state = journal.replay(summary.run)
    run_state.process_gone = not attended.running
    end(_show_run(run_state, attended, as_json))


class _Attended(Struct, frozen=True, kw_only=True):
    """Whether somebody works on a run, and on which of its servers.

    `served` is known of a run over several machines, in which each server has a worker or none.
    """

    running: bool
    stall: Stall | None = None
    """Who works on it and does not move."""
    served: ServedRun | None = None
    kept: frozenset[tuple[ServerName, SessionId]] = frozenset()
    """Sessions with which another worker could go on."""

    def on(self, server: ServerName) -> bool:
        """Return whether somebody works on a server, and moves."""
        return self.moves and (self.served is None or server in self.served.served)

    @property
    def moves(self) -> bool:
        """Whether somebody works on the run, and moves."""
        return self.running and self.stall is None

    def is_open(self, run_state: RunState) -> bool:
        """Return whether somebody works on the run, and it has not ended."""
        return self.running and run_state.finished is None

    def stalled_words(self, run_state: RunState) -> str:
        """Return who does not move, since when, and what to do about it."""
        from orchestrator.views.stalled import continuing_words, stalled_words

        if self.stall is None:
            return ""
        is_shared = self.served is not None
        words = stalled_words(self.stall, is_shared=is_shared)
        how = continuing_words(run_state.started.run, self.stall, is_shared=is_shared)
        return printable(f"{words}; {how}")

    def lines(self, run_state: RunState) -> Iterator[str]:
        """Yield who serves what, what nobody does, and what no other worker could go on with."""
        from orchestrator.app.sites.overview import lines

        if self.served is None:
            return
        yield from lines(self.served)
        yield from self.served.what_waits()
        for name, server in run_state.servers.items():
            live = {each.session for each in server.sessions} - server.over
            if self.on(name) and live and not any((name, each) in self.kept for each in live):
                yield f"{printable(name)}: not survivable, its worker keeps no tokens (--token-key)"


def _looked_at(journal: Store, summary: RunSummary) -> _Attended:
    """Return whether somebody works on a run. Who does not move keeps a lock, and loses a lease."""
    running = journal.is_running(summary)
    stall = journal.stall(summary) if running is not journal.is_shared else None
    return _Attended(running=running, stall=stall)


def _attended(journal: Store, summary: RunSummary, state: Place | None) -> _Attended:
    if state is None or isinstance(state, Path):
        return _looked_at(journal, summary)
    from orchestrator.app.sites.asking import looked_at
    from orchestrator.database.store import DatabaseStore

    served = anyio.run(looked_at, state, summary.run)
    kept = DatabaseStore(state).kept_sessions(summary.run)
    stall = None if served.served else journal.stall(summary)
    return _Attended(running=bool(served.served), stall=stall, served=served, kept=kept)


def _show_runs(journal: Store, as_json: bool) -> int:
    """Print the list of runs and return the exit code.

    A damaged run is named and hides no other one: what may be mounted must be found.
    """
    from orchestrator.report.history.overview import overview_of

    values, lines, damage = [], [], []
    for summary in journal.runs():
        attended = _looked_at(journal, summary)
        running = attended.running
        try:
            overview = overview_of(journal, summary, process_gone=not running)
        except (JournalDamaged, IllegalTransition) as exc:
            damage.append(str(exc))
            values.append(_row_values(summary, "damaged", None, attended))
            lines.append(_row_line(summary, "DAMAGED, its state is unknown"))
            continue
        state = _state_of(overview, attended, is_shared=journal.is_shared)
        values.append(_row_values(summary, state, overview, attended))
        lines.append(_row_line(summary, _progress_of(_in_words(state, attended), overview)))
    if as_json:
        options.echo_json(values)
    else:
        click.echo("\n".join(lines or [f"no runs in {journal.place}"]))
    for each in damage:
        click.echo(inert(f"bulk-restore: {each}"), err=True)
    return 74 if damage else 0


def _row_values(
    summary: RunSummary, state: str, overview: RunOverview | None, attended: _Attended
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
    mounted = f", {left.mounts} mounted" if left.mounts else ""
    words = mounted if state == RUNNING else left.short()
    waits = ", WAITS for people" if state == RUNNING and overview.is_held_up else ""
    return f"{state}{code}{waits}, {counted(overview.targets, 'target')}{words}"


def _state_of(run_state: RunState | RunOverview, attended: _Attended, *, is_shared: bool) -> str:
    """Return the state of a run, as JSON has it."""
    if run_state.finished is not None:
        return "finished"
    if attended.stall is not None:
        return STALLED
    return RUNNING if attended.running else "waiting" if is_shared else INTERRUPTED


def _in_words(state: str, attended: _Attended) -> str:
    """Return the state of a run for a person; a run that is interrupted has a dead process."""
    if state == STALLED and attended.stall is not None:
        return f"stalled since {moment(attended.stall.since)}"
    return "dead" if state == INTERRUPTED else state


def _stalled_since(state: str, attended: _Attended) -> str | None:
    stalled = state == STALLED and attended.stall is not None
    return timestamp(attended.stall.since, "auto") if stalled and attended.stall else None


def _is_anything_unattended(run_state: RunState, attended: _Attended) -> bool:
    """Return whether something may be open where nobody works."""
    left = run_state.left_open
    servers = {record.planned.server for record in left.records}
    servers |= {stray.server for stray in left.strays}
    if not attended.moves:
        servers |= set(left.unaudited)
    return not all(map(attended.on, servers))


def _open(run_state: RunState, attended: _Attended) -> Iterator[str]:
    """Yield a line for everything that is, or may be, open."""
    left, running = run_state.left_open, attended.running
    for record in left.records:
        planned = record.planned
        point = record.open_point.name if record.open_point else "?"
        condition = _condition(record, run_state, attended.on(planned.server))
        yield (
            f"  {printable(planned.key)}: {condition}; {printable(planned.server)}, "
            f"{printable(planned.backup_server)}, restore point {printable(point)}"
        )
    yield from (f"  {line}" for line in left.strays_in_words)
    if not running:
        yield from (f"  {printable(line)}" for line in left.unknown)


def _condition(record: MountRecord, run_state: RunState, running: bool) -> str:
    """Return the phase of a target, and the state of its mount if no process works on it.

    While the run goes on, the state of a mount is only what a report would say if it died now.
    """
    from orchestrator.core.lifecycle import HOLDING_PHASES, Phase

    phase = record.phase.value.replace("_", " ")
    until = _until(record, run_state)
    verdict = f", {record.standing}" if record.phase is Phase.HELD else ""
    if running and record.phase in HOLDING_PHASES:
        return f"{phase}{until}{verdict}"
    return f"{phase}{verdict}, mount {record.mount_state.value}{until}"


def _until(record: MountRecord, run_state: RunState) -> str:
    """Return until when a mount is held, if it is."""
    if record.mount_state.value != "kept":
        return ""
    if record.kept_until is None:
        return " until somebody ends the hold"
    return f" until {moment(run_state.moment(record.kept_until))}"


def _progress(run_state: RunState) -> str:
    """Return how many targets have their result, and the verdicts of those that are held."""
    from orchestrator.core.lifecycle import Phase
    from orchestrator.views.statistics import in_words

    records = run_state.records.values()
    done = sum(record.is_final for record in records)
    held = [record.standing for record in records if record.phase is Phase.HELD]
    verdicts = in_words(Counter(verdict for verdict in held if verdict is not None))
    more = f", {len(held)} held open: {verdicts}" if held else ""
    have = "has its" if len(records) == 1 else "have their"
    return f"{done} of {counted(len(records), 'target')} {have} result{more}"


def _given(run_state: RunState, gate: ApprovalAwaited) -> str:
    """Return who has approved already, where more than one must."""
    users = {
        each.user
        for each in run_state.controls
        if each.verb == Verb.APPROVE and each.words[:1] == (gate.wave,) and each.at >= gate.at
    }
    return f" ({', '.join(printable(user) for user in sorted(users))} gave one)" if users else ""


def _waiting_for_people(run_state: RunState) -> list[str]:
    """Return what a living run waits for that only a person can do."""
    run, paused = run_state.started.run, run_state.pauses[-1:]
    lines = [
        f"PAUSED since {moment(run_state.moment(start))}; go on: bulk-restore ctl {run} continue"
        for start, end in paused
        if end is None
    ]
    return lines + [
        f"wave {printable(each.wave)} waits for "
        f"{counted(each.approvals, 'approval')}{_given(run_state, each)} until "
        f"{moment(run_state.moment(each.until))}: bulk-restore ctl {run} approve "
        f"{printable(each.wave)} --reason TEXT"
        for each in run_state.closed_gates
    ]


def _show_run(run_state: RunState, attended: _Attended, as_json: bool) -> int:
    from orchestrator.report.as_json import as_values
    from orchestrator.report.summary import summarize
    from orchestrator.report.text import text

    running, served = attended.is_open(run_state), attended.served
    attended = replace(attended, running=running)
    left = list(_open(run_state, attended))
    code = 3 if _is_anything_unattended(run_state, attended) else 0
    report = summarize(run_state)
    state = _state_of(run_state, attended, is_shared=served is not None)
    if as_json:
        values = as_values(report)
        values["state"] = state
        values["stalled_since"] = _stalled_since(state, attended)
        if served is not None:
            from orchestrator.app.sites.overview import as_values as as_shards

            values |= as_shards(served)
        options.echo_json(values)
        return code
    stalled = attended.stalled_words(run_state) if state == STALLED else ""
    words = stalled or _in_words(state, attended)
    click.echo(f"{run_state.started.run}: {words}")
    if served is not None and run_state.finished is None:
        click.echo("\n".join(attended.lines(run_state)))
    if not running and _has_more_in_report(run_state):
        where = printable(run_state.report_dir)
        click.echo(f"The journal took nothing any more; the report has the rest: {where}")
    if run_state.finished is not None:
        click.echo(text(report))
    else:
        click.echo("\n".join([_progress(run_state), *_waiting_for_people(run_state)]))
    if left:
        title = "Open now:" if running else "May still be mounted (bulk-restore unmount RUN):"
        click.echo("\n".join([title, *left]))
    if attended.moves and any(
        record.mount_state.value == "kept" for record in run_state.records.values()
    ):
        click.echo(f"End the holds: bulk-restore unmount {run_state.started.run}")
    if not running and run_state.is_anything_left() and state not in {"waiting", STALLED}:
        click.echo(f"Continue it: bulk-restore resume {run_state.started.run}")
    return code


def _has_more_in_report(run_state: RunState) -> bool:
    """Return whether the run's report has what its journal does not have; if it can be read."""
    from orchestrator.report.evidence.writing import is_only_record

    with suppress(OSError, ValueError):  # the journal may name what is no path
        return is_only_record(Path(run_state.report_dir), run_state.started.run)
    return False
