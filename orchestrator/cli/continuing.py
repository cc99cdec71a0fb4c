"""resume and unmount: what can still be done about a run that ended too early."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from orchestrator.cli import options
from orchestrator.cli.asking import refuse_given, resume_there, unmount_there
from orchestrator.cli.ending import end, fail
from orchestrator.cli.running import exit_codes, show_run
from orchestrator.cli.serving import serving_options
from orchestrator.cli.working import token_key_option
from orchestrator.core.errors import OrchestratorError, RunLocked
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import inert
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.app.outcome import Outcome
    from orchestrator.app.stores import Place
    from orchestrator.core.events import RunStarted
    from orchestrator.core.ports.store import Store
    from orchestrator.core.records import RunSummary
    from orchestrator.plan.choose.locked import LockedPlan
    from orchestrator.plan.file.loading import LoadedPlan
    from orchestrator.plan.file.settings import RestorePlan


ELSEWHERE = {"state", "retry_failed"}
"""Options of `resume` that have a meaning where workers carry the run out."""


@click.command("resume", epilog=exit_codes())
@options.run_argument
@options.moved_plan_option
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Mount failed and unknown targets again, from their first restore point on. Not if a "
    "mount of the target may still be open. A target that was mounted without checks is left as it "
    "is, also after --require-checks: the plan has none for it.",
)
@click.option(
    "--report",
    type=options.DIRECTORY,
    help="Directory of the reports. Default: the run's own report directory.",
)
@options.events_option
@serving_options
@options.yes_write_option
@options.ci_option
@options.on_finish_option
@options.sign_key_option
@options.session_file_option
@options.state_option
@options.output_options
def resume_command(run: str, plan: Path | None, output: options.Output, **values: Any) -> None:
    """Continue RUN (an id, the start of one, or `last`) after it was killed, stopped or halted.

    For 15 minutes the logon sessions of the earlier process stay valid. Resume uses them to follow
    its tasks, settle what is in doubt, and check and unmount what is mounted. After that the
    outcome cannot be determined; those targets are reported as unknown. Targets that were not
    submitted yet are mounted now. Held mounts stay open until their time. A target that may have
    been mounted before is mounted again only with --retry-failed.

    The plan, its variables and the options of the run apply unchanged, except --yes-write: give it
    again. The deadline and the failure budget start again. Safe to repeat.

    A run over several machines is only opened again: its workers go on with it. Its plan is in the
    database, and --yes-write is as it was submitted. Of the options, only --retry-failed has a
    meaning then.
    """
    state = values["state"]
    if state is not None and not isinstance(state, Path):
        refuse_given(
            {"plan"} | values.keys() - ELSEWHERE, "its workers go on with the run, not this command"
        )
        resume_there(run, state, retry_failed=values["retry_failed"])
    show_run(partial(_prepared, run, plan, values), output, values)


def _prepared(
    run: str, plan: Path | None, values: dict[str, Any]
) -> Callable[..., Awaitable[Outcome]]:
    from orchestrator.app.runner import resume
    from orchestrator.app.wiring import Choices

    choices = Choices(
        state=values["state"] or options.default_state(),
        report=values["report"],
        retry_failed=values["retry_failed"],
        session_file=not values["no_session_file"],
        yes_write=values["yes_write"],
        on_finish=values["on_finish"],
        sign=values["sign_key"],
    )
    return partial(resume, run, partial(plan_of_run, moved_to=plan), choices)


def plan_of_run(
    started: RunStarted,
    moved_to: Path | None,
    overrides: dict[str, str] | None = None,
    *,
    only_servers: bool = False,
) -> LoadedPlan | LockedPlan:
    """Load the plan of a run as it was loaded then; `overrides` are set on top."""
    from orchestrator.plan.choose.locked import load_any
    from orchestrator.plan.file.variables import Overrides

    variables = Overrides(started.overrides)
    variables.set(overrides or {})
    path = moved_to or Path(started.plan_path)
    return load_any(path, overrides=variables, only_servers=only_servers)


WAIT_TICK_S = 0.5
"""Seconds between two looks whether a run has ended."""


def _seconds(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float:
    from orchestrator.plan.file.quantities import duration

    try:
        return 0.0 if value is None else duration(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


@click.command("unmount")
@options.run_argument
@click.option(
    "--plan",
    type=options.PATH,
    help="The plan file, if it has moved. It holds the servers' addresses and TLS settings.",
)
@click.option(
    "--wait",
    metavar="DURATION",
    callback=_seconds,
    help="How long to wait for a run that is still ending, as after a signal: 10m. Default: 0s.",
)
@token_key_option
@options.state_option
@options.set_option
@options.output_options
def unmount_command(
    run: str,
    plan: Path | None,
    wait: float,
    token_key: Path | None,
    state: Place | None,
    overrides: dict[str, str],
    output: options.Output,
) -> None:
    """Remove the mounts of RUN (an id, the start of one, or `last`) that can still be reached.

    A mount can be reached only through the logon session that made it, and only until that
    session has been idle for 15 minutes. Once the session is lost, no command can remove the
    mount. A mount request whose answer is missing may still start up to 3 minutes after it was
    sent: unmount waits for that, and for servers that do not answer. It lists the mounts that it
    cannot remove, with server, VM and restore point: remove them in the Veeam console. Then it
    updates the run's reports, unless they are signed. Safe to repeat.

    Another run of the same plan may be running; it is not disturbed.
    If RUN itself is still running and holds mounts (--hold, cleanup), unmount asks its process to
    remove these and waits. What else RUN has under way, or may still mount, is listed, with exit
    code 3: its process removes it, perhaps after a new hold. Then repeat unmount, or stop RUN with
    SIGINT.

    Over several machines its workers are asked to do that. Where a server has none, it is done
    here, with the secrets of that server and --token-key, by a database account that is operator
    and worker; a run that nobody works on is stopped first, and can be resumed. If other workers
    go on with it, stop it first.
    """
    _ = output  # every line is a result
    streams.never_wait()
    journal = options.journal_of(state)
    summary = journal.summary(run)
    if state is not None and not isinstance(state, Path):
        refuse_given(
            {"plan", "overrides", "values_files", "wait"}, "the plan of the run is in the database"
        )
        code = unmount_there(summary.run, state, token_key)
        _update_reports(journal, summary)
        end(code)
    if token_key is not None:
        fail(ExitCode.USAGE, "--token-key is for a database; a state directory needs none")

    def plan_of(started: RunStarted) -> RestorePlan:
        return plan_of_run(started, plan, overrides, only_servers=True).plan

    end(_unmount(journal, summary, state or options.default_state(), plan_of, wait))


def _unmount(
    journal: Store,
    summary: RunSummary,
    directory: Path,
    plan_of: Callable[[RunStarted], RestorePlan],
    wait: float,
) -> int:
    """Unmount what is left of a run of a state directory; return the exit code."""
    from orchestrator.app.unmount import release_leftovers

    release = partial(
        release_leftovers,
        directory,
        summary.run,
        plan_of,
        say=lambda line: click.echo(line, err=True),
    )
    is_alive = journal.is_running(summary)
    try:
        outcome = anyio.run(release)
    except RunLocked:
        if not _has_ended(journal, summary, wait):
            raise
        is_alive = False
        outcome = anyio.run(release)
    for line in outcome.lines:
        click.echo(line)
    if not is_alive:  # else its own process writes them
        _update_reports(journal, summary)
    return outcome.code


def _has_ended(journal: Store, summary: RunSummary, wait: float) -> bool:
    """Wait at most so many seconds for the end of a run's process; return whether it came."""
    until = time.monotonic() + wait
    if wait:
        click.echo(f"waiting for the process of {summary.run} to end", err=True)
    while journal.is_running(summary) and time.monotonic() < until:
        time.sleep(WAIT_TICK_S)
    return wait > 0 and not journal.is_running(summary)


def _update_reports(journal: Store, summary: RunSummary) -> None:
    """Update the reports of a run with what it has left now; print what goes wrong."""
    from orchestrator.app.rebuilding import rebuild
    from orchestrator.report.evidence.writing import free_place, is_signed, kept_report

    run_state = journal.replay(summary.run)
    directory = Path(run_state.report_dir)
    if not directory.is_dir() and run_state.finished is not None:
        return  # somebody has moved them; those of a killed run were never written
    again = f"bulk-restore report {summary.run}"
    if is_signed(directory):
        why = f"are signed and were not updated; update them with: {again} --sign-key KEY"
    else:
        try:
            place = free_place(directory, summary.run, partial(journal.records, summary.run))
            rebuild(journal, summary.run, place)
        except (OSError, OrchestratorError) as exc:
            why = f"could not be updated: {exc}. Update them with: {again}"
        else:
            if place != directory:
                click.echo(inert(f"bulk-restore: {kept_report(directory, place)}"), err=True)
            click.echo(f"reports updated: {place}")
            return
    click.echo(inert(f"bulk-restore: the reports in {directory} {why}"), err=True)
