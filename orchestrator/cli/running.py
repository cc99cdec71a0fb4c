"""run: the main job, and how every command that carries out a run tells its end."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from orchestrator.cli.common import (
    Output,
    ci_option,
    default_state,
    end,
    explained,
    fail,
    on_finish_option,
    only_option,
    output_options,
    readable,
    seed_option,
    session_file_option,
    set_option,
    sign_key_option,
    state_option,
    yes_write_option,
)
from orchestrator.cli.serving import companions_of, serving_options
from orchestrator.errors import OrchestratorError
from orchestrator.model import inert
from orchestrator.report.exit_codes import ExitCode

if TYPE_CHECKING:
    from orchestrator.conducting import Outcome
    from orchestrator.engine.orders import Expansion
    from orchestrator.model import ServerName
    from orchestrator.plan.loading import LoadedPlan
    from orchestrator.plan.locked import LockedPlan
    from orchestrator.plan.settings import RestorePlan
    from orchestrator.progress import JsonEvents, View
    from orchestrator.report.ci import Ci


def exit_codes() -> str:
    """Return the table of exit codes as help shows it: click keeps what follows a \\b."""
    rows = [
        textwrap.fill(
            code.about, 78, initial_indent=f"  {int(code):>3}  ", subsequent_indent=" " * 7
        )
        for code in ExitCode
    ]
    return "\n".join(["\b", "Exit codes:", *rows])


@click.command("run", epilog=exit_codes())
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask; needed without a terminal.")
@click.option(
    "--reason",
    callback=readable,
    help="Why this run: goes to the journal and every report.",
)
@click.option("--max-mounts", type=click.IntRange(min=1), help="Open mounts at once, at most.")
@click.option("--deadline", metavar="DURATION", help="Submit nothing more after this: 90m, 3h.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the reports. Default: reports/RUN.",
)
@click.option("--require-checks", is_flag=True, help="A target without checks is not good enough.")
@click.option("--retry-failed", metavar="RUN", help="Only what was not good in an earlier run.")
@click.option("--json", "as_json", is_flag=True, help="Write events to stdout, one per line.")
@click.option(
    "--hold",
    metavar="DURATION",
    help="Keep every mount open so long after its verdict, for a person to look: 30m. It keeps "
    "its slots.",
)
@yes_write_option
@ci_option
@on_finish_option
@sign_key_option
@serving_options
@session_file_option
@state_option
@seed_option
@set_option
@only_option
@output_options
@explained
def run_command(plan: Path, output: Output, **options: Any) -> None:
    """Mount what PLAN names, prove it readable, unmount it, report. PLAN may be a locked plan.

    Asks for confirmation on a terminal; without one it needs --yes or a locked plan. The first
    Ctrl-C submits nothing more and lets running mounts end; the second cancels and unmounts.
    Writes into a guest only where a plan in recovery mode says so and --yes-write allows it; never
    fails over, never mounts what the plan did not name.
    """
    told(
        lambda view: _carried_out(plan, view, options),
        output,
        as_json=options["as_json"],
        ci=options["ci"],
    )


def told(
    carry_out: Callable[[View], Outcome], output: Output, *, as_json: bool, ci: Ci | None
) -> NoReturn:
    """Carry out a run, show it while it goes on, tell its end, and end the process with it."""
    events = _json_events() if as_json else None
    try:
        outcome = carry_out(events or output.view())
    except (OrchestratorError, OSError) as exc:
        if events is not None:
            events.error(str(exc))
        raise
    if events is not None:
        for message in (outcome.trouble, *outcome.untold):
            if message:
                events.error(message)
        events.sum_up(outcome.code)
        if not outcome.written:
            from orchestrator.report import text

            click.echo(text(outcome.report), err=True)  # it stands nowhere else
    else:
        from orchestrator.report import text

        _say(_shown(outcome, text(outcome.report), ci))
    if ci is not None:
        _touch(outcome, ci, aside=as_json)
    for message in (outcome.trouble, *outcome.untold):
        if message:
            click.echo(inert(f"bulk-restore: {message}"), err=True)
    end(outcome.code)


def _shown(outcome: Outcome, summary: str, ci: Ci | None) -> str:
    """Return what stdout shows of the end."""
    lines = [f"Nothing is left to do of run {outcome.report.run.id}.\n"] * outcome.nothing_left
    lines += [summary]
    if outcome.written:
        lines += [inert(f"Reports: {outcome.directory}")]
    shown = "\n".join(lines)
    if ci is None:
        return shown
    from secrets import token_hex

    from orchestrator.report.ci import around

    return around(ci, shown, outcome.report, token=token_hex(16))


def _touch(outcome: Outcome, ci: Ci, *, aside: bool) -> None:
    """Tell a CI system in its own way: `aside`, on stderr, where stdout holds JSON only.

    What goes wrong here is told and changes nothing.
    """
    from orchestrator.report.as_markdown import render
    from orchestrator.report.ci import Ci, append_summary, touches

    directory = outcome.directory if outcome.written else None
    try:
        for line in touches(ci, outcome.report, directory):
            if aside:
                click.echo(line, err=True)
            else:
                _say(line)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if ci is Ci.GITHUB and summary:
            append_summary(Path(summary), render(outcome.report))
    except Exception as exc:  # noqa: BLE001 - what a CI system shows changes no result
        why = getattr(exc, "strerror", None) or type(exc).__name__
        click.echo(f"bulk-restore: --ci {ci}: {why}", err=True)


def _carried_out(path: Path, view: View, options: dict[str, Any]) -> Outcome:
    """Load the plan, see that the run may begin, and conduct it."""
    import anyio

    from orchestrator.assembly import Choices
    from orchestrator.conducting import conduct
    from orchestrator.plan.locked import LockedPlan, load_any
    from orchestrator.plan.quantities import duration, positive_duration

    deadline = _duration("--deadline", options["deadline"], duration)
    hold = _duration("--hold", options["hold"], positive_duration)
    source = load_any(path, overrides=options["overrides"])
    state = options["state"] or default_state()
    locked = isinstance(source, LockedPlan)
    if not (options["yes"] or locked or sys.stdin.isatty()):
        fail(
            ExitCode.USAGE,
            "there is no terminal to ask for confirmation; use --yes, or run a locked plan",
        )
    if locked and options["seed"] is not None:
        fail(ExitCode.USAGE, "--seed cannot change a locked plan: lock it anew")
    keys, seed = _keys_to_retry(state, options["retry_failed"], source)
    choices = Choices(
        state=state,
        report=options["report"],
        reason=options["reason"],
        max_mounts=options["max_mounts"],
        deadline=deadline,
        require_checks=options["require_checks"],
        only=options["only"],
        keys=keys,
        seed=options["seed"] if options["seed"] is not None else seed,
        confirm=None if options["yes"] or locked else _asking(source.plan, hold),
        session_file=not options["no_session_file"],
        overrides=options["overrides"],
        hold=hold,
        yes_write=options["yes_write"],
        on_finish=options["on_finish"],
        sign=options["sign"],
    )

    companions = companions_of(options, view)

    async def whole() -> Outcome:
        return await conduct(source, choices, view=view, companions=companions)

    return anyio.run(whole)


def _duration(option: str, text: str | None, read: Callable[[str], float]) -> float | None:
    """Return the seconds that an option names, or end with what is wrong with it."""
    try:
        return None if text is None else read(text)
    except ValueError as exc:
        fail(ExitCode.USAGE, f"{option}: {exc}")


def _say(message: str) -> None:
    """Print to stdout; a closed stdout never changes how a run ends."""
    try:
        click.echo(message, color=True)  # a section of GitLab's is an escape sequence, of ours
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _keys_to_retry(
    state: Path, run: str | None, source: LoadedPlan | LockedPlan
) -> tuple[frozenset[str] | None, int | None]:
    """Return the keys of an earlier run's targets that were not good, and what it drew by.

    None for the keys means all of them.
    """
    if run is None:
        return None, None
    from orchestrator.journal import State
    from orchestrator.lifecycle import FIRM_RESULTS

    kept = State(state)
    name = kept.find(run)
    earlier = kept.replay(name)
    if earlier.started.plan != source.plan.name:
        fail(ExitCode.USAGE, f"run {name} was of the plan {earlier.started.plan!r}")
    keys = frozenset(
        key for key, record in earlier.records.items() if record.result not in FIRM_RESULTS
    )
    if not keys:
        fail(ExitCode.USAGE, f"every target of run {name} was good; there is nothing to retry")
    return keys, earlier.started.seed or None


def _asking(
    plan: RestorePlan, hold: float | None
) -> Callable[[Expansion, Sequence[ServerName]], bool]:
    def confirm(expansion: Expansion, silent: Sequence[ServerName]) -> bool:
        from orchestrator.cli.question import lines_before

        for line in lines_before(plan, expansion, silent, hold=hold):
            click.echo(line, err=True)
        click.echo("Mount them now? [y/N]: ", nl=False, err=True)
        return _typed().strip().lower() in {"y", "yes"}

    return confirm


def _typed() -> str:
    """Return the line that a person types; whoever stops the run need not type any more."""
    import select

    import anyio

    while not select.select([sys.stdin], [], [], 0.2)[0]:
        anyio.from_thread.check_cancelled()
    return sys.stdin.readline()


def _json_events() -> JsonEvents:
    from orchestrator.progress import JsonEvents

    return JsonEvents(sys.stdout)
