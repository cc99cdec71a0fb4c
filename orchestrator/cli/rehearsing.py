"""simulate --plan: the servers of a plan of the user's, and what to run against them."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.ending import fail
from orchestrator.cli.simulating import serve_until_stopped
from orchestrator.core.text import counted, printable

if TYPE_CHECKING:
    from orchestrator.app.rehearsing import Rehearsal
    from orchestrator.simulator.process import Simulation
    from orchestrator.simulator.rehearsal.planned import RehearsedServer

SHOWN = 6
"""Names of machines made for one selector that are shown."""


async def rehearse_until_stopped(values: dict[str, Any]) -> None:
    """Start the servers of `simulate --plan`, say what to do with them, wait for Ctrl-C."""
    from orchestrator.app.rehearsing import COPY, rehearsing

    started = rehearsing(
        values["plan"],
        values["output"] or Path("rehearsal") / COPY,
        scenario=values["scenario"],
        overrides=values["overrides"],
        at=_time(values["at"]),
        speed=values["speed"],
        short_waits=values["short_waits"],
        behaviour=values["behaviour"],
    )
    await serve_until_stopped(started, _shown)


def _time(text: str | None) -> datetime | None:
    from orchestrator.plan.file.quantities import instant

    try:
        return None if text is None else instant(text)
    except ValueError as exc:
        fail(2, f"--at: {exc}")


def _shown(rehearsal: Rehearsal) -> Simulation:
    """Print what there is, what could not be made, the commands that run the plan."""
    from orchestrator.simulator.process import PASSWORD_VARIABLE

    path = rehearsal.path
    living = rehearsal.simulation.urls
    for server in rehearsal.servers:
        state = "" if server.name in living else ", dead"
        machines = counted(len(server.stock.machines), "machine")
        click.echo(f"# {server.name}: {rehearsal.urls[server.name]}, {machines}{state}", err=True)
        for line in _details(server):
            click.echo(f"#   {printable(line)}", err=True)
    click.echo("# Ctrl-C ends the servers. In a second terminal:", err=True)
    click.echo(f"export {PASSWORD_VARIABLE}='{rehearsal.password}'")
    state, report = (shlex.quote(str(path.parent / name)) for name in ("state", "report"))
    command = f"bulk-restore run {shlex.quote(str(path))} --state {state} --report {report}"
    click.echo(command)
    return rehearsal.simulation


def _details(server: RehearsedServer) -> list[str]:
    lines = [
        f"{selector}: {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
        for selector, names in server.invented.items()
    ]
    return lines + [f"not rehearsed: {each}" for each in server.not_rehearsed]
