"""run: the main job, and how every command that carries out a run shows its end."""

from __future__ import annotations

import os
import select
import sys
import termios
import textwrap
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import click
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail
from orchestrator.cli.serving import background_views, serving_options
from orchestrator.cli.working import token_key_option
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import MountKey, RunId, ServerName
from orchestrator.core.parts import Part
from orchestrator.core.policy import DEADLINE
from orchestrator.core.text import inert
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.app.outcome import Outcome
    from orchestrator.app.stores import Place
    from orchestrator.app.wiring import Choices
    from orchestrator.core.run_state import RunState
    from orchestrator.database.address import Address
    from orchestrator.plan.choose.expansion import Expansion
    from orchestrator.plan.choose.locked import LockedPlan
    from orchestrator.plan.file.loading import LoadedPlan
    from orchestrator.plan.file.settings import RestorePlan
    from orchestrator.report.ci import Ci
    from orchestrator.views.json_events import JsonEvents


def exit_codes() -> str:
    """Return the table of exit codes as help shows it: click keeps what follows a \\b."""
    rows = [
        textwrap.fill(
            code.about, 78, initial_indent=f"  {int(code):>3}  ", subsequent_indent=" " * 7
        )
        for code in ExitCode
    ]
    return "\n".join(["\b", "Exit codes:", *rows])


reason_option = click.option(
    "--reason",
    callback=options.readable,
    help="Reason for this run, for the journal and every report.",
)
max_mounts_option = click.option(
    "--max-mounts", type=click.IntRange(min=1), help="Maximum number of mounts open at once."
)
deadline_option = click.option("--deadline", metavar="DURATION", help=DEADLINE)
report_option = click.option(
    "--report",
    type=options.DIRECTORY,
    help="Directory of the reports. Default: reports/RUN.",
)
require_checks_option = click.option(
    "--require-checks", is_flag=True, help="Count a target without checks as not good."
)
retry_failed_option = click.option(
    "--retry-failed",
    metavar="RUN",
    help="Run only the targets that were not good in an earlier run. If this run or that one has "
    "--require-checks, targets without checks are among them.",
)
hold_option = click.option(
    "--hold",
    metavar="DURATION",
    help="Keep every mount open for this long after its verdict, for inspection: 30m. A held "
    "mount keeps its slots.",
)


@click.command("run", epilog=exit_codes())
@options.plan_argument
@click.option(
    "--yes",
    is_flag=True,
    help="Do not ask for confirmation. Needed without a terminal, except for a locked plan.",
)
@reason_option
@max_mounts_option
@deadline_option
@report_option
@require_checks_option
@retry_failed_option
@options.events_option
@hold_option
@options.yes_write_option
@options.ci_option
@options.on_finish_option
@options.sign_key_option
@serving_options
@options.session_file_option
@token_key_option
@options.state_option
@options.seed_option
@options.set_option
@options.only_option
@options.shard_option
@options.output_options
def run_command(plan: Path, output: options.Output, **values: Any) -> None:
    """Mount the targets of PLAN, check them, unmount them, report. PLAN may be a locked plan.

    Asks for confirmation on a terminal; without a terminal it needs --yes or a locked plan. The
    first Ctrl-C stops new mounts and lets running ones finish; the second cancels and unmounts.
    Writes into a guest only if a plan in recovery mode asks for it and --yes-write allows it.
    Never starts a failover, and never mounts anything that the plan does not name.

    Over a database it submits the run, works on all of it, together with the workers of its sites,
    and waits for its end. Ctrl-C stops the run on all machines.
    """
    show_run(partial(_prepared, plan, values), output, values)


def show_run(
    prepare: Callable[[], Callable[..., Awaitable[Outcome]]],
    output: options.Output,
    values: dict[str, Any],
) -> NoReturn:
    """Carry out the run that `prepare` returns, show it and its end, and end with its exit code.

    `values` are the options of the command. Whether anybody reads what is written here changes
    nothing of the run.
    """
    from orchestrator.views.json_events import JsonEvents

    streams.never_wait()
    events, ci = JsonEvents(sys.stdout) if values["as_json"] else None, values["ci"]
    try:
        view = events or output.view()
        carry_out = prepare()
        background = background_views(values, view)
        outcome = anyio.run(partial(carry_out, view=view, background=background))
    except Exception as exc:
        if events is not None:
            is_known = isinstance(exc, OrchestratorError | OSError)
            events.error(str(exc) if is_known else f"internal error: {type(exc).__name__}")
        raise
    show_end(outcome, events, ci)


def show_end(outcome: Outcome, events: JsonEvents | None = None, ci: Ci | None = None) -> NoReturn:
    """Show the end of a run, and end with its exit code; `events` were written to stdout."""
    from orchestrator.cli.wrapping import for_stdout
    from orchestrator.report.text import text

    messages = [message for message in (outcome.trouble, *outcome.untold) if message]
    if events is not None:
        for message in messages:
            events.error(message)
        events.sum_up(outcome.code)
        if not outcome.written:
            click.echo(text(outcome.report), err=True)  # it is printed nowhere else
    else:
        shown = _shown(outcome, for_stdout(text(outcome.report)), ci)
        click.echo(shown, color=True)  # a section of GitLab's is an escape sequence, of ours
    if ci is not None:
        _report_to_ci(outcome, ci, aside=events is not None)
    for message in messages:
        click.echo(inert(f"bulk-restore: {message}"), err=True)
    end(outcome.code)


def _shown(outcome: Outcome, summary: str, ci: Ci | None) -> str:
    """Return what stdout shows at the end of a run."""
    lines = [f"Run {outcome.report.run.id}: nothing is left to do.\n"] * outcome.nothing_left
    lines += [summary]
    if outcome.written:
        lines += [inert(f"Reports: {outcome.directory}")]
    shown = "\n".join(lines)
    if ci is None:
        return shown
    from orchestrator.report.ci import fold_log

    return fold_log(ci, shown, outcome.report, token=token_hex(16))


def _report_to_ci(outcome: Outcome, ci: Ci, *, aside: bool) -> None:
    """Report to a CI system in its own format: `aside`, on stderr, where stdout holds JSON only.

    A failure here is printed and changes nothing.
    """
    from orchestrator.report.as_markdown import render
    from orchestrator.report.ci import Ci, append_summary, ci_commands

    directory = outcome.directory if outcome.written else None
    try:
        for line in ci_commands(ci, outcome.report, directory):
            click.echo(line, err=aside, color=None if aside else True)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if ci is Ci.GITHUB and summary:
            append_summary(Path(summary), render(outcome.report))
    except Exception as exc:  # noqa: BLE001 - what a CI system shows changes no result
        why = getattr(exc, "strerror", None) or type(exc).__name__
        click.echo(f"bulk-restore: --ci {ci}: {why}", err=True)


def _prepared(path: Path, values: dict[str, Any]) -> Callable[..., Awaitable[Outcome]]:
    """Load the plan and check that the run may begin; return what carries it out."""
    require_durations(values)
    state = values["state"] or options.default_state()
    if not isinstance(state, Path):
        return _prepared_there(path, state, values)
    from orchestrator.app.runner import run_plan
    from orchestrator.plan.choose.locked import LockedPlan, load_any

    if values["token_key"] is not None:
        fail(ExitCode.USAGE, "--token-key is for a database; a state directory needs none")
    source = load_any(path, overrides=values["overrides"])
    locked = isinstance(source, LockedPlan)
    if not (values["yes"] or locked or sys.stdin.isatty()):
        fail(
            ExitCode.USAGE,
            "there is no terminal to ask for confirmation; use --yes, or run a locked plan",
        )
    choices = choices_of(source, state, values)
    confirm = None if values["yes"] or locked else partial(_confirmed, source.plan, choices.hold)
    choices = replace(
        choices,
        confirm=confirm,
        session_file=not values["no_session_file"],
        on_finish=values["on_finish"],
        sign=values["sign_key"],
    )
    return partial(run_plan, source, choices)


def _prepared_there(
    path: Path, address: Address, values: dict[str, Any]
) -> Callable[..., Awaitable[Outcome]]:
    """Do the same for a run over a database, which this process submits and works on."""
    from orchestrator.app.sites.running import run_over_database
    from orchestrator.app.sites.stored_plan import travelling_plan
    from orchestrator.database.sealing import load_sealer
    from orchestrator.plan.choose.locked import LockedPlan

    if values["shard"] is not None:
        fail(
            ExitCode.USAGE, "--shard is for a state directory; over a database workers share a run"
        )
    if values["no_session_file"] and values["token_key"] is not None:
        fail(
            ExitCode.USAGE,
            "--no-session-file keeps no session token, and --token-key keeps them in the database; "
            "leave one of them away",
        )
    travelling = travelling_plan(path, overrides=values["overrides"])
    if not (values["yes"] or isinstance(travelling.source, LockedPlan)):
        fail(
            ExitCode.USAGE,
            "a run over a database asks for no confirmation; use --yes, or run a locked plan",
        )
    key = values["token_key"]
    choices = choices_of(travelling.source, address, values)
    return partial(
        run_over_database,
        travelling,
        replace(choices, on_finish=values["on_finish"], sign=values["sign_key"]),
        address,
        sealer=None if key is None else load_sealer(key),
    )


def choices_of(source: LoadedPlan | LockedPlan, state: Place, values: dict[str, Any]) -> Choices:
    """Return what the options of `run` and `submit` say of a run, or end with what is wrong.

    An earlier run of --retry-failed is read from `state`.
    """
    from orchestrator.app.wiring import Choices
    from orchestrator.plan.choose.locked import LockedPlan
    from orchestrator.plan.file.quantities import duration, positive_duration

    deadline = _duration("--deadline", values["deadline"], duration)
    hold = _duration("--hold", values["hold"], positive_duration)
    if isinstance(source, LockedPlan) and values["seed"] is not None:
        fail(ExitCode.USAGE, "--seed cannot change a locked plan: lock it again")
    retry = _to_retry(
        state, values["retry_failed"], source, require_checks=values["require_checks"]
    )
    part = values.get("shard")
    if None not in {part, retry.part} and part != retry.part:
        fail(
            ExitCode.USAGE, f"--shard {part}: run {retry.run} was shard {retry.part}; leave it out"
        )
    return Choices(
        state=state,
        report=values["report"],
        reason=values["reason"],
        max_mounts=values["max_mounts"],
        deadline=deadline,
        require_checks=values["require_checks"],
        only=values["only"],
        keys=retry.keys,
        retry_of=retry.run,
        part=part or retry.part,
        seed=values["seed"] if values["seed"] is not None else retry.seed,
        overrides=values["overrides"],
        hold=hold,
        yes_write=values["yes_write"],
    )


def require_durations(values: dict[str, Any]) -> None:
    """End with what is wrong with a duration, before anything is read."""
    from orchestrator.plan.file.quantities import duration, positive_duration

    _duration("--deadline", values["deadline"], duration)
    _duration("--hold", values["hold"], positive_duration)


def _duration(option: str, text: str | None, read: Callable[[str], float]) -> float | None:
    """Return the seconds that an option names, or end with what is wrong with it."""
    try:
        return None if text is None else read(text)
    except ValueError as exc:
        fail(ExitCode.USAGE, f"{option}: {exc}")


class _Retry(Struct, frozen=True, kw_only=True):
    """The keys of an earlier run's targets that were not good, its seed, its name and its part.

    None for the keys means all of them.
    """

    keys: frozenset[str] | None = None
    seed: int | None = None
    run: RunId | None = None
    part: Part | None = None


def _to_retry(
    state: Place, run: str | None, source: LoadedPlan | LockedPlan, *, require_checks: bool
) -> _Retry:
    """Return what an earlier run leaves to retry.

    With `require_checks`, which either run can have, a target that was only mounted was not good.
    """
    if run is None:
        return _Retry()
    from orchestrator.core.run_state import good_results

    journal = options.journal_of(state)
    name = journal.find(run)
    earlier = journal.replay(name)
    if earlier.started.plan != source.plan.name:
        fail(ExitCode.USAGE, f"run {name} belongs to the plan {earlier.started.plan!r}")
    good = good_results(require_checks=require_checks or earlier.started.require_checks)
    keys = frozenset(key for key, record in earlier.records.items() if record.result not in good)
    if not earlier.records:
        fail(ExitCode.USAGE, f"run {name} has no targets; run the plan itself")
    keys |= _never_listed(source, earlier)
    if not keys:
        fail(ExitCode.USAGE, f"every target of run {name} was good; there is nothing to retry")
    return _Retry(keys=keys, seed=earlier.started.seed or None, run=name, part=earlier.started.part)


def _never_listed(source: LoadedPlan | LockedPlan, earlier: RunState) -> frozenset[MountKey]:
    """Return the keys of placeholders on servers that a run had not heard of when it was killed."""
    from orchestrator.app.wiring import selection_of
    from orchestrator.plan.choose.sampling import Draw
    from orchestrator.plan.choose.targets import Narrowing

    if earlier.finished is not None:
        return frozenset()  # every server has said which machines it has, or has placeholders
    started = earlier.started
    keys = frozenset(map(MountKey, started.keys)) if started.keys is not None else None
    narrowing = Narrowing(only=started.only, keys=keys, part=started.part)
    selection = selection_of(source, narrowing, datetime.now(UTC), Draw())
    known = {record.planned.server for record in earlier.records.values()}
    return frozenset(
        placeholder.key
        for server in source.plan.servers
        if server not in known and selection.wants(server)
        for placeholder in selection.placeholders(server)
    )


def _confirmed(
    plan: RestorePlan, hold: float | None, expansion: Expansion, silent: Sequence[ServerName]
) -> bool:
    from orchestrator.cli.question import lines_before

    for line in lines_before(plan, expansion, silent, hold=hold):
        click.echo(line, err=True)
    _forget_what_was_typed()
    click.echo("Mount them now? [y/N]: ", nl=False, err=True)
    return _typed().strip().lower() in {"y", "yes"}


def _forget_what_was_typed() -> None:
    """Drop what a terminal has read so far: an answer is one to the question that is shown."""
    if sys.stdin.isatty():
        with suppress(termios.error):  # it has been closed: that is an answer, too
            termios.tcflush(sys.stdin, termios.TCIFLUSH)


def _typed() -> str:
    """Return the line that a person types; a signal ends the waiting for it."""
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        anyio.from_thread.check_cancelled()
    return sys.stdin.readline()
