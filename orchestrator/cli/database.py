"""database: a PostgreSQL for runs over several machines, set up and checked."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, unless_terminated
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import printable

if TYPE_CHECKING:
    from orchestrator.database.address import Address


@click.group("database")
def database_command() -> None:
    """Set up and check a PostgreSQL that runs over several machines share.

    A run on one machine needs no database. Exit code 74 if the database cannot be used.
    """


@database_command.command("init", short_help="Make or migrate the tables and the roles.")
@options.address_option
@options.output_options
def init_command(state: Address, output: options.Output) -> None:
    """Make or migrate the schema bulk_restore and its group roles.

    Needs the role that owns the schema, or one that may create it and roles. May be repeated, and
    run twice at once. Afterwards grant logins what they need: bulk_restore_reader,
    bulk_restore_operator or bulk_restore_worker.
    """
    from orchestrator.database.installation import init

    done = unless_terminated(partial(init, state))
    if not output.quiet:
        was = {0: "made", done.version: "up to date"}.get(done.before, f"was {done.before}, now")
        click.echo(
            f"schema bulk_restore: {was}, version {done.version}, owner {printable(done.owner)}"
        )


@database_command.command("check", short_help="Show whether a database is good for runs.")
@options.address_option
@options.json_option
@options.output_options
def check_command(state: Address, as_json: bool, output: options.Output) -> None:
    """Show whether a database is good for runs: versions, rights, clock, speed, standby, NOTIFY.

    Changes nothing. Takes up to twenty seconds. Exit code 0 if there is no problem, else 74;
    warnings are no problem.
    """
    from orchestrator.database.examination import Status, examine

    facts = unless_terminated(partial(examine, state))
    is_ready = all(each.status is not Status.PROBLEM for each in facts)
    if as_json:
        values = {each.name: _values(each.status, each.value, each.words) for each in facts}
        options.echo_json({"ready": is_ready, **values})
    else:
        for each in facts:
            if each.status is Status.PROBLEM or not output.quiet:
                click.echo(f"{each.status:<8} {each.name:<11} {printable(each.words, 300)}")
        click.echo("ready" if is_ready else "NOT READY")
    end(ExitCode.GOOD if is_ready else ExitCode.LOCAL_IO)


def _values(status: str, value: object, words: str) -> dict[str, object]:
    return {"status": status, "value": value, "words": words}


@database_command.command("token-key", short_help="Make a key that seals session tokens.")
@click.argument("file", type=options.FILE)
@options.output_options
def token_key_command(file: Path, output: options.Output) -> None:
    """Make FILE, a key that seals session tokens in the database: 32 random bytes, owner-only.

    All workers of a site need the same one, and so does who unmounts by hand; nobody else. Never
    overwrites a file.
    """
    from orchestrator.database.token_key import make_key

    make_key(file)
    if not output.quiet:
        click.echo(f"token key: {file}", err=True)
