"""submit: a run for the workers of several machines."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import click

from orchestrator.cli import options, running
from orchestrator.cli.ending import end, fail
from orchestrator.core.errors import JournalError
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import RunId
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.app.sites.stored_plan import TravellingPlan
    from orchestrator.app.wiring import Choices
    from orchestrator.core.sites import Submission
    from orchestrator.database.address import Address


@click.command("submit", epilog=running.exit_codes())
@options.plan_argument
@click.option(
    "--wait",
    is_flag=True,
    help="Follow the run until it has ended, write its reports here, and end with its exit code. "
    "Ending this command changes nothing of the run.",
)
@running.reason_option
@running.max_mounts_option
@running.deadline_option
@running.report_option
@running.require_checks_option
@running.retry_failed_option
@running.hold_option
@options.yes_write_option
@options.on_finish_option
@options.sign_key_option
@options.address_option
@options.seed_option
@options.set_option
@options.only_option
@options.output_options
def submit_command(plan: Path, wait: bool, output: options.Output, **values: Any) -> None:
    """Submit a run of PLAN to a database, whose workers carry it out. PLAN may be a locked plan.

    Each server of the plan is served by a worker of its site (servers.NAME.site); see
    bulk-restore work. The plan, the lists and the certificates that it names travel with it.
    Secrets do not: they are read by the workers, so none is needed here, and no server is asked
    for anything. There is no question: what is submitted is mounted.

    The first line of stdout is the id of the run. Exit code 0 once the run is stored, 6 if another
    run of the plan is open.
    """
    from orchestrator.app.sites.stored_plan import submission_of, travelling_plan
    from orchestrator.app.sites.submitting import submit, warn_if_not_heard
    from orchestrator.app.wiring import World

    for option, given in (("--on-finish", values["on_finish"]), ("--sign-key", values["sign_key"])):
        if given and not wait:
            fail(ExitCode.USAGE, f"{option} needs --wait: without it nobody is here at the end")
    streams.never_wait()
    running.require_durations(values)
    address: Address = values["state"]
    travelling = travelling_plan(plan, overrides=values["overrides"])
    choices = running.choices_of(travelling.source, address, values)
    submission = _allowed(
        travelling,
        choices,
        submission_of(travelling, choices, World(), options.journal_of(address)),
    )
    anyio.run(partial(submit, address, submission))
    run = submission.started.run
    click.echo(run)
    anyio.run(warn_if_not_heard, address)
    _say_who_is_missing(address, run)
    if wait:
        directory = Path(submission.started.report_dir)
        _wait(address, run, travelling, directory, output, values)
    end(ExitCode.GOOD)


def _allowed(travelling: TravellingPlan, choices: Choices, submission: Submission) -> Submission:
    """Return the run, after checking that it may begin, as `run` does.

    Raises:
        PlanError: it would write into guests, and nobody allowed that, or nothing of it can be
            what was asked for.
    """
    from orchestrator.app.wiring import require_allowed_writes, require_something_wanted

    require_allowed_writes(travelling.source, choices)
    require_something_wanted(travelling.source, choices)
    return submission


def _say_who_is_missing(address: Address, run: RunId) -> None:
    """Say for which sites no worker lives: nothing is mounted there until one comes."""
    from orchestrator.app.stores import store_at

    with suppress(JournalError):  # it is submitted, and whoever follows it is told
        served = store_at(address).served(run)
        sites = sorted({each.site for each in served.servers if each.site}) if served else []
        for site in sites:
            if served is not None and not served.has_worker(site):
                start = f"bulk-restore work --site {site}"
                click.echo(f"no worker serves site {site} yet; start one: {start}", err=True)


def _wait(
    address: Address,
    run: RunId,
    travelling: TravellingPlan,
    directory: Path,
    output: options.Output,
    values: dict[str, Any],
) -> NoReturn:
    """Follow a run to its end, write its reports, and end with its exit code."""
    from orchestrator.app.sites.ending import reported, tell_command_of_end, wait_for
    from orchestrator.app.stores import store_at

    store = store_at(address)
    try:
        wait_for(store, store.summary(run), output.view())
    except KeyboardInterrupt:
        fail(128 + 2, f"stopped waiting; run {run} goes on: bulk-restore status {run}")
    state, outcome = reported(store, run, directory, values["sign_key"])
    plan = travelling.source.plan
    outcome = anyio.run(partial(tell_command_of_end, values["on_finish"], state, outcome, plan))
    running.show_end(outcome)
