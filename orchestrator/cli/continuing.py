"""resume and unmount: what can still be done about a run that ended too early."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import (
    Output,
    ci_option,
    default_state,
    end,
    explained,
    on_finish_option,
    output_options,
    session_file_option,
    set_option,
    sign_key_option,
    state_option,
    yes_write_option,
)
from orchestrator.cli.running import exit_codes, told
from orchestrator.cli.serving import companions_of, serving_options
from orchestrator.errors import OrchestratorError
from orchestrator.model import inert

if TYPE_CHECKING:
    from orchestrator.conducting import Outcome
    from orchestrator.events import RunStarted
    from orchestrator.journal import RunSummary, State
    from orchestrator.plan.loading import LoadedPlan
    from orchestrator.plan.locked import LockedPlan
    from orchestrator.progress import View


@click.command("resume", epilog=exit_codes())
@click.argument("run")
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    help="The plan file, if it moved. It must be the very plan that the run was started with.",
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Mount again what failed or is unknown, if nothing of it may still be mounted, from its "
    "first restore point on.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the reports. Default: where the run's report was, or would have been.",
)
@click.option("--json", "as_json", is_flag=True, help="Write events to stdout, one per line.")
@serving_options
@yes_write_option
@ci_option
@on_finish_option
@sign_key_option
@session_file_option
@state_option
@output_options
@explained
def resume_command(run: str, plan: Path | None, output: Output, **options: Any) -> None:
    """Go on with RUN (an id, its start, or `last`) where it was killed, stopped or halted.

    Within 15 minutes the logon sessions of the earlier process still live: its tasks are watched
    on, what was in doubt is settled, what is mounted is proven and unmounted. Later nobody can
    know any more, and the report says so. What was not submitted yet is mounted now; what was held
    is held on until its time. What may have been mounted before is never mounted again unless
    --retry-failed asks for it.

    The plan, its variables and the options of the run apply unchanged, but --yes-write must be
    said again; its deadline and its failure budget count anew. Safe to repeat.
    """
    told(
        lambda view: _carried_on(run, plan, view, options),
        output,
        as_json=options["as_json"],
        ci=options["ci"],
    )


def _carried_on(run: str, plan: Path | None, view: View, options: dict[str, Any]) -> Outcome:
    import anyio

    from orchestrator.assembly import Choices
    from orchestrator.conducting import resume

    choices = Choices(
        state=options["state"] or default_state(),
        report=options["report"],
        retry_failed=options["retry_failed"],
        session_file=not options["no_session_file"],
        yes_write=options["yes_write"],
        on_finish=options["on_finish"],
        sign=options["sign"],
    )

    companions = companions_of(options, view)

    async def whole() -> Outcome:
        return await resume(
            run,
            lambda begun: _plan_of(begun, plan),
            choices,
            view=view,
            companions=companions,
        )

    return anyio.run(whole)


def _plan_of(
    begun: RunStarted, moved_to: Path | None, overrides: dict[str, str] | None = None
) -> LoadedPlan | LockedPlan:
    """Load the plan of a run as it was loaded then; `overrides` are set on top."""
    from orchestrator.plan.locked import load_any

    variables = {**begun.overrides, **(overrides or {})}
    return load_any(moved_to or Path(begun.plan_path), overrides=variables)


@click.command("unmount")
@click.argument("run")
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    help="The plan file, if it moved: it says how to reach and trust the servers.",
)
@state_option
@set_option
@output_options
@explained
def unmount_command(
    run: str,
    plan: Path | None,
    state: Path | None,
    overrides: dict[str, str],
    output: Output,
) -> None:
    """Release the mounts of RUN (an id, its start, or `last`) that are still reachable.

    A mount can be reached only through the logon session that made it, and only until that
    session has been idle for 15 minutes. What cannot be released is named, with server, VM and
    restore point, so that a person can remove it in the Veeam console. The run's reports say so
    afterwards, unless they are signed. Safe to repeat.

    A run that is alive and holds mounts (--hold, cleanup) is asked to remove these, and waited
    for; what else it has mounted is its own business.
    """
    import anyio

    from orchestrator.journal import State
    from orchestrator.leftovers import Released, release_leftovers

    _ = output  # every line is a result

    async def whole() -> Released:
        return await release_leftovers(
            state or default_state(),
            run,
            lambda begun: _plan_of(begun, plan, overrides).plan,
            say=lambda line: click.echo(line, err=True),
        )

    kept = State(state or default_state())
    summary = kept.summary(run)
    is_alive = kept.is_running(summary)
    outcome = anyio.run(whole)
    for line in outcome.lines:
        click.echo(line)
    if not is_alive:  # else its own process writes them
        _report_anew(kept, summary)
    end(outcome.code)


def _report_anew(kept: State, summary: RunSummary) -> None:
    """Let the reports of a run say what it has left now; whatever goes wrong there is told."""
    from orchestrator.cli.reporting import rebuilt
    from orchestrator.evidence import is_signed

    place = Path(kept.replay(summary.run).report_dir)
    if not place.is_dir():
        return
    again = f"bulk-restore report {summary.run}"
    if is_signed(place):
        why = f"are signed and stay as they are; {again} --sign-key KEY writes what is left now"
    else:
        try:
            rebuilt(kept, summary.run, place)
        except (OSError, OrchestratorError) as exc:
            why = f"do not say so yet: {exc}. {again} makes them anew"
        else:
            click.echo(f"reported: {place}")
            return
    click.echo(inert(f"bulk-restore: the reports in {place} {why}"), err=True)
