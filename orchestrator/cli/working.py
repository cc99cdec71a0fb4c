"""work: a worker, which serves the runs that were submitted to a database."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import anyio
import click

from orchestrator.cli import options
from orchestrator.cli.ending import end
from orchestrator.core.exit_codes import ExitCode
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.database.address import Address


def _names(
    _ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    from orchestrator.plan.file.scalars import name

    try:
        return tuple(dict.fromkeys(map(name, values)))
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


token_key_option = click.option(
    "--token-key",
    type=options.FILE,
    help="File with the key that seals the tokens of logon sessions in the database, the same for "
    "all workers of a site. Make one with: bulk-restore database token-key FILE.",
)


@click.command("work")
@click.option(
    "--site",
    "sites",
    multiple=True,
    required=True,
    metavar="NAME",
    callback=_names,
    help="Serve the servers of this site (servers.NAME.site in a plan; `default` if a plan names "
    "none). May be repeated.",
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="Serve at most so many servers of runs at once. If a run has more, they take turns.",
)
@token_key_option
@click.option(
    "--until-idle",
    is_flag=True,
    help="End with exit code 0 when no open run has anything left for these sites.",
)
@options.address_option
@options.output_options
def work_command(
    sites: tuple[str, ...],
    shards: int,
    token_key: Path | None,
    until_idle: bool,
    state: Address,
    output: options.Output,
) -> None:
    """Serve the runs that are submitted to a database, until stopped.

    Serves every server of the named sites that no other worker serves, of all runs, and conducts
    runs that nobody conducts. When another worker dies, its servers are taken over within some
    seconds: with --token-key its logon sessions are used on, so nothing is lost; without it, what
    was mounted is out of reach, and reported so.

    Ctrl-C or SIGTERM hands everything over to other workers: no new mount is begun, nothing is
    unmounted, and the process ends with code 0 once the answers under way are recorded. A second
    signal ends it at once, and lists what it knows to be mounted. To end a run use:
    bulk-restore stop RUN.

    It says on stderr which servers it takes, finishes and leaves to others, and what stays mounted
    when it ends; not with --quiet.

    The secrets of the servers are read on this machine, at each logon.
    """
    from orchestrator.app.sites.onlooker import Onlooker
    from orchestrator.app.sites.worker import Terms
    from orchestrator.app.sites.working import work
    from orchestrator.cli.telling import Teller
    from orchestrator.database.sealing import load_sealer

    streams.never_wait()
    sealer = None if token_key is None else load_sealer(token_key)
    if sealer is None:
        click.echo(
            "bulk-restore: WARNING: without --token-key no other worker can go on with what this "
            "one has mounted, should it die",
            err=True,
        )
    terms = Terms(sites=sites, room=shards, until_idle=until_idle)
    onlooker = Onlooker() if output.quiet else Teller(f"serving {', '.join(sites)} in {state}")
    went_well = anyio.run(
        partial(
            work,
            state,
            terms,
            sealer=sealer,
            at_once=_end_at_once,
            on_long_away=_tell_of_outage,
            onlooker=onlooker,
        )
    )
    end(ExitCode.GOOD if went_well else ExitCode.INTERNAL)


def _end_at_once(number: int, mounted: Sequence[str]) -> NoReturn:
    """End as a kill would: what is mounted stays so, and other workers find it."""
    _tell_of_mounts("bulk-restore: ended at once", mounted)
    with suppress(OSError):
        streams.finish()
    os._exit(128 + number)


def _tell_of_outage(mounted: Sequence[str]) -> None:
    """Say what is mounted while no other command can."""
    _tell_of_mounts(
        "bulk-restore: WARNING: the database is away for longer than limits.outage", mounted
    )


def _tell_of_mounts(what: str, mounted: Sequence[str]) -> None:
    words = "known to be mounted, or asked for:" if mounted else "nothing is mounted here"
    for line in (f"{what}; {words}", *(f"  {each}" for each in mounted)):
        click.echo(line, err=True)
