"""simulate and demo: everything without a real server."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import click
from click.core import ParameterSource

from orchestrator.cli import options
from orchestrator.cli.ending import end, explained, fail
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import counted
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.app.outcome import Outcome
    from orchestrator.simulator.process import Simulation
    from orchestrator.simulator.truth import GroundTruth

T = TypeVar("T")

SIGNAL_WITHIN_S = 0.2
"""Seconds after the end of a server in which a signal is taken for its cause."""

REMOVED = "its workers, servers and database are removed, and its run cannot be resumed"


@click.command("simulate")
@click.option("--servers", type=click.IntRange(1, 16), default=3, help="Number of servers.")
@click.option(
    "--machines", type=click.IntRange(1, 20_000), default=2000, help="Number of VMs per server."
)
@click.option(
    "--targets", type=click.IntRange(1), default=200, help="Number of targets in the plan."
)
@click.option("--seed", type=int, default=1, help="The same seed gives the same inventory.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0.01),
    default=60.0,
    help="How many times faster mounts are.",
)
@click.option(
    "--faults",
    type=click.Path(path_type=Path, exists=True),
    help="JSON file with a list of faults.",
)
@click.option(
    "--behaviour",
    metavar="KNOB=VALUE",
    multiple=True,
    help="Change a knob of the servers, such as latency_s=0.2. May be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=options.FILE,
    help="Write the plan here instead of printing it; with --plan instead of "
    "rehearsal/rehearsal.yaml.",
)
@click.option(
    "--plan",
    type=options.FILE,
    help="Rehearse this plan: servers with the machines, jobs and checked files that it names.",
)
@click.option(
    "--scenario",
    type=options.FILE,
    help="With --plan: YAML file that says what goes wrong.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="With --plan: what the clocks of the servers show when they start, RFC 3339. "
    "Default: now.",
)
@click.option(
    "--short-waits",
    is_flag=True,
    help="With --plan: shorten the pauses between attempts, and keep_failed.",
)
@options.set_option
@explained()
def simulate_command(**values: Any) -> None:
    """Start simulated Enterprise Managers over HTTPS on loopback, and a plan that fits them.

    They run until Ctrl-C. Run the plan from a second terminal. This command prints the
    environment variable with the password; set it there. At the end it prints the mounts that the
    servers made and those that are still open.

    With --plan, the servers have what a plan of yours names, and a copy of it leads to them. No
    secret of the plan is read, and nothing is sent to its servers or webhooks.
    """
    streams.never_wait()
    given = _given()
    if values["plan"] is None:
        unfit = given & {"scenario", "at", "short_waits", "overrides"}
        _refuse(unfit, "goes with --plan")
        anyio.run(_simulate, values)
        return
    unfit = given & {"servers", "machines", "targets", "seed", "faults"}
    _refuse(unfit, "does not go with --plan: the plan and the scenario say it")
    from orchestrator.cli.rehearsing import rehearse_until_stopped

    values["behaviour"] = _behaviour(values["behaviour"])
    anyio.run(rehearse_until_stopped, values)


def _given() -> set[str]:
    """Return the names of the options that the command line has."""
    context = click.get_current_context()
    return {
        name
        for name in context.params
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def _refuse(names: set[str], why: str) -> None:
    for name in sorted(names):
        shown = "set" if name == "overrides" else name.replace("_", "-")
        fail(2, f"--{shown} {why}")


async def _simulate(values: dict[str, Any]) -> None:
    from orchestrator.app.demo import settings_for
    from orchestrator.simulator.plans import plan_for
    from orchestrator.simulator.process import PASSWORD_VARIABLE, simulation

    password = os.environ.get(PASSWORD_VARIABLE) or secrets.token_urlsafe(16)
    faults = _faults(values["faults"])
    behaviour = _behaviour(values["behaviour"])
    chosen = [
        replace(settings, faults=faults, behaviour=behaviour)
        for settings in settings_for(
            values["servers"],
            machines=values["machines"],
            password=password,
            seed=values["seed"],
            duration_scale=1.0 / values["speed"],
        )
    ]

    def show(running: Simulation) -> Simulation:
        text = plan_for(running, targets=values["targets"])
        if values["output"] is None:
            click.echo(text)
        else:
            values["output"].write_text(text, encoding="utf-8")
        for name, url in running.urls.items():
            click.echo(f"# {name}: {url}", err=True)
        click.echo(f"# export {PASSWORD_VARIABLE}='{password}'", err=True)
        click.echo("# Ctrl-C ends the servers", err=True)
        return running

    await serve_until_stopped(simulation(chosen, password=password), show)


async def serve_until_stopped(
    starting: AbstractAsyncContextManager[T], show: Callable[[T], Simulation]
) -> None:
    """Start servers, `show` them, and end them when the user wants it: Ctrl-C, or SIGTERM.

    What they counted is printed then. A signal before they all answer ends the command.
    """
    came: list[signal.Signals] = []
    stopped, serving = anyio.Event(), False

    async def until_signalled(signals: AsyncIterator[signal.Signals]) -> None:
        async for number in signals:
            came.append(number)
            stopped.set()
            if not serving:
                tasks.cancel_scope.cancel()

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(until_signalled, signals)
                async with starting as servers:
                    if not came:  # else a signal came in the moment in which the last answered
                        simulation, serving = show(servers), True
                        await stopped.wait()
                        show_truth(await simulation.truth())
                tasks.cancel_scope.cancel()
        except Exception:
            if not came:  # what ends all processes of a service may reach a server first
                with anyio.move_on_after(SIGNAL_WITHIN_S):
                    came.append(await anext(aiter(signals)))
            if serving or not came:
                raise
    if not serving:
        fail(128 + came[0], f"stopped by {came[0].name}")


def _faults(path: Path | None) -> list[dict[str, Any]]:
    """Return the faults of a script, each of which a server will take."""
    from orchestrator.simulator.faults import FaultScript

    if path is None:
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it is not a JSON list of objects")
        FaultScript.from_json(rows)
    except (ValueError, TypeError, re.error) as exc:
        fail(2, f"--faults {path}: {exc}")
    return rows


def _behaviour(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the knobs of a command line, each with a value that it knows."""
    from orchestrator.simulator.behaviour import KINDS, Behaviour, allowed, read_knob

    behaviour: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or name not in KINDS:
            fail(2, f"--behaviour {pair}: the knobs are {', '.join(sorted(KINDS))}")
        behaviour[name] = read_knob(name, text)
        try:
            Behaviour(**behaviour)
        except ValueError:
            values = allowed(name).replace("`", "")
            fail(2, f"--behaviour {pair}: {name} takes {values}")
    return behaviour


def show_truth(truth: GroundTruth) -> None:
    """Print what the servers counted, and the mounts that are still open."""
    open_mounts = truth.still_open()
    click.echo(
        f"# {counted(len(truth.mounts), 'mount')} made, {len(open_mounts)} still open, "
        f"{counted(sum(truth.requests.values()), 'request')}, "
        f"{counted(truth.dangerous, 'dangerous call')}",
        err=True,
    )
    for fate in open_mounts[:20]:
        click.echo(f"#   open: {fate.server} {fate.vm} ({fate.point})", err=True)


@click.command("demo")
@click.option(
    "--targets", type=click.IntRange(1, 3000), default=200, help="Number of restore points."
)
@click.option(
    "--servers", type=click.IntRange(1, 8), default=3, help="Number of Enterprise Managers."
)
@click.option(
    "--directory",
    type=options.DIRECTORY,
    default=Path("reports/demo"),
    help="Directory for plan, journal and reports. Default: reports/demo.",
)
@click.option(
    "--sites",
    type=click.IntRange(1, 8),
    metavar="N",
    help="Run it over N sites: a worker and an Enterprise Manager each, and a PostgreSQL that is "
    "removed at the end. Needs the extra `sites`, and the binaries of PostgreSQL.",
)
@click.option("--kill", is_flag=True, help="With --sites: kill the busiest worker half-way.")
@options.output_options
def demo_command(
    targets: int,
    servers: int,
    directory: Path,
    sites: int | None,
    kill: bool,
    output: options.Output,
) -> None:
    """Run a complete drill against simulated Enterprise Managers. Start here.

    Uses separate server processes, HTTPS, a journal on disk and real reports. At the end the demo
    shows its report and the servers' own count of mounts.

    Ctrl-C or SIGTERM stops the run, and the demo ends with its report. With --sites a second one
    ends it at once, without a report.
    """
    streams.never_wait()
    if kill and (sites is None or sites < 2):
        fail(2, "--kill needs --sites 2 or more: another worker must be there to take over")
    if sites is not None:
        from orchestrator.app.sites.demo import DemoStopped, demonstrate_sites

        begun = partial(
            demonstrate_sites, directory, output.view(), targets=targets, sites=sites, kill=kill
        )
        try:
            over_sites = anyio.run(begun)
        except DemoStopped as exc:
            fail(128 + exc.number, f"{exc}; {REMOVED}")
        killed = over_sites.killed
        if killed is not None:
            click.echo(
                f"Worker {killed.pid} was killed; others served all that it had, "
                f"{counted(killed.shards, 'shard')}, {killed.seconds:.1f} s later."
            )
        if over_sites.outcome.code in {ExitCode.SIGINT, ExitCode.SIGTERM}:
            click.echo(f"bulk-restore: the demo was stopped; {REMOVED}", err=True)
        _show_demo(over_sites.outcome, over_sites.truth, over_sites.plan)
    else:
        from orchestrator.app.demo import demonstrate

        demo = anyio.run(
            partial(demonstrate, directory, output.view(), targets=targets, servers=servers)
        )
        _show_demo(demo.outcome, demo.truth, demo.plan)


def _show_demo(outcome: Outcome, truth: GroundTruth, plan: Path) -> NoReturn:
    """Show the report and what the servers counted, and end with the run's code."""
    from orchestrator.cli.wrapping import for_stdout
    from orchestrator.report.text import text

    click.echo(for_stdout(text(outcome.report)))
    click.echo(
        f"The servers counted: {counted(len(truth.mounts), 'mount')} made, "
        f"{len(truth.still_open())} still open, at most {truth.peaks['total']} at once, "
        f"{counted(truth.dangerous, 'dangerous call')}."
    )
    click.echo(f"Plan:    {plan}")
    click.echo(f"Reports: {outcome.directory}")
    if outcome.trouble:
        click.echo(f"bulk-restore: {outcome.trouble}", err=True)
    end(outcome.code)
