"""simulate and demo: everything without a real server."""

from __future__ import annotations

import json
import os
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import Output, end, explained, fail, output_options
from orchestrator.model import counted

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command("simulate")
@click.option("--servers", type=click.IntRange(1, 16), default=3, help="How many servers.")
@click.option("--machines", type=click.IntRange(1, 20_000), default=2000, help="VMs per server.")
@click.option("--targets", type=click.IntRange(1), default=200, help="Targets of the plan.")
@click.option("--seed", type=int, default=1, help="The same seed gives the same inventory.")
@click.option(
    "--speed", type=click.FloatRange(min=0.01), default=60.0, help="How much faster mounts are."
)
@click.option(
    "--faults", type=click.Path(path_type=Path, exists=True), help="JSON list of faults to script."
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
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plan here instead of printing it.",
)
@explained
def simulate_command(**options: Any) -> None:
    """Start simulated Enterprise Managers over HTTPS on loopback, and a plan that fits them.

    They stay until Ctrl-C. Run the plan from a second terminal; the password is in the
    environment variable that this command prints. At the end it says what really happened.
    """
    import anyio

    anyio.run(_simulate, options)


async def _simulate(options: dict[str, Any]) -> None:
    from dataclasses import replace

    import anyio

    from orchestrator.demo import settings_for
    from orchestrator.simulator.plans import plan_for
    from orchestrator.simulator.process import PASSWORD_VARIABLE, simulation

    password = os.environ.get(PASSWORD_VARIABLE) or secrets.token_urlsafe(16)
    faults = json.loads(options["faults"].read_text()) if options["faults"] else ()
    behaviour = _behaviour(options["behaviour"])
    chosen = [
        replace(settings, faults=faults, behaviour=behaviour)
        for settings in settings_for(
            options["servers"],
            machines=options["machines"],
            password=password,
            seed=options["seed"],
            duration_scale=1.0 / options["speed"],
        )
    ]
    async with simulation(chosen, password=password) as running:
        text = plan_for(running, targets=options["targets"])
        if options["output"] is None:
            click.echo(text)
        else:
            options["output"].write_text(text, encoding="utf-8")
        for name, url in running.urls.items():
            click.echo(f"# {name}: {url}", err=True)
        click.echo(f"# export {PASSWORD_VARIABLE}='{password}'", err=True)
        click.echo("# Ctrl-C ends the servers", err=True)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                break
        _tell(await running.truth())


def _behaviour(pairs: Sequence[str]) -> dict[str, Any]:
    from dataclasses import fields

    from orchestrator.simulator.behaviour import Behaviour

    known = {each.name for each in fields(Behaviour)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or name not in known:
            fail(2, f"--behaviour {pair}: the knobs are {', '.join(sorted(known))}")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _tell(truth: Any) -> None:
    still = truth.still_open()
    click.echo(
        f"# {counted(len(truth.mounts), 'mount')} made, {len(still)} still open, "
        f"{counted(sum(truth.requests.values()), 'request')}, "
        f"{counted(truth.dangerous, 'dangerous call')}",
        err=True,
    )
    for fate in still[:20]:
        click.echo(f"#   open: {fate.server} {fate.vm} ({fate.point})", err=True)


@click.command("demo")
@click.option("--targets", type=click.IntRange(1, 3000), default=200, help="Restore points.")
@click.option("--servers", type=click.IntRange(1, 8), default=3, help="Enterprise Managers.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports/demo"),
    help="Where plan, journal and reports go.",
)
@output_options
@explained
def demo_command(
    targets: int,
    servers: int,
    directory: Path,
    output: Output,
) -> None:
    """Mount restore points over simulated Enterprise Managers: start here.

    Separate server processes, HTTPS, a journal on disk, real reports. At the end the demo
    compares its report with what the servers say really happened.
    """
    import anyio

    from orchestrator.demo import demonstrate
    from orchestrator.report import text

    view = output.view()

    async def whole() -> Any:
        return await demonstrate(directory, view, targets=targets, servers=servers)

    shown = anyio.run(whole)
    click.echo(text(shown.outcome.report))
    truth = shown.truth
    click.echo(
        f"The servers say: {counted(len(truth.mounts), 'mount')} made, "
        f"{len(truth.still_open())} still open, at most {truth.peaks['total']} at once, "
        f"{counted(truth.dangerous, 'dangerous call')}."
    )
    click.echo(f"Plan:    {shown.plan}")
    click.echo(f"Reports: {shown.outcome.directory}")
    if shown.outcome.trouble:
        click.echo(f"bulk-restore: {shown.outcome.trouble}", err=True)
    end(shown.outcome.code)
