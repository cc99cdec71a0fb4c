"""The command line: argv, run, exit code. Commands are thin and import late.

`--help` must answer at once, so a command's module is imported only when it is used.
"""

from __future__ import annotations

from importlib import import_module

import click

from orchestrator.core.version import __version__

COMMANDS = {
    "init": ("beginning", "Write a first plan from what the servers list."),
    "validate": ("planning", "Check plan files offline and show every error."),
    "plan": ("planning", "Log on and show which restore points a plan would mount."),
    "forecast": ("forecasting", "Show how long a plan will take. Mounts nothing."),
    "check": ("checking", "Check whether a plan could run now. Changes nothing."),
    "run": ("running", "Mount the targets of a plan, check them, unmount them, report."),
    "submit": ("submitting", "Submit a run to the workers of several machines."),
    "work": ("working", "Serve the runs that were submitted, for some sites."),
    "stop": ("asking", "Stop a run that workers carry out, as Ctrl-C stops `run`."),
    "resume": ("continuing", "Continue an interrupted run from its journal."),
    "status": ("records", "Show runs, their states and the mounts that may still be open."),
    "watch": ("watching", "Watch a run from a second terminal until it has ended."),
    "serve": ("serving", "Show a run in a browser, from its journal."),
    "list": ("history", "List the targets of a run, or save them as a locked plan."),
    "trend": ("history", "Show durations, RTO and RPO over the last runs."),
    "coverage": ("history", "Show which machines of a plan were proven lately, and which never."),
    "due": ("timing", "Show which plans are due, by their own `every` and the last proofs."),
    "units": ("timing", "Print a systemd service and timer for a plan."),
    "orphans": ("orphaning", "Show which open restores a run may have left. Changes nothing."),
    "ctl": ("steering", "Steer a living run: pause, limits, skip, approve."),
    "browse": ("browsing", "Look into a held mount: list its files, copy some out."),
    "unmount": ("continuing", "Remove the mounts that a run may have left open."),
    "report": ("reporting", "Rebuild, check or compare the reports of runs."),
    "simulate": ("simulating", "Start simulated Enterprise Managers on loopback."),
    "demo": ("simulating", "Run a complete drill against simulated servers."),
    "database": ("database", "Set up and check a PostgreSQL for runs over several machines."),
    "schema": (
        "planning",
        "Print a JSON Schema: plan, report, events, check or forecast.",
    ),
}
"""Command -> (module of this package, what the list of commands says)."""


class LateCommands(click.Group):
    """A group that knows its commands by name and imports each one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of a run's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"orchestrator.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them, then the exit codes."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(
    cls=LateCommands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "BULK_RESTORE",
        "max_content_width": 100,
    },
    epilog="Start with: bulk-restore demo. Exit codes: bulk-restore run --help.",
)
@click.version_option(__version__, prog_name="bulk-restore")
def command() -> None:
    """Mount many Veeam restore points from one plan file, check them, unmount them, report.

    A drill mounts restore points through Veeam Backup Enterprise Manager, reads their volumes
    and removes the mounts. It does not write into any machine. Only a plan in recovery mode
    writes files back into the original guests, and only with --yes-write. No command ever starts
    a failover.
    """
