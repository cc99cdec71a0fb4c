"""Options that several commands share, and what a command makes of them."""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import Struct

from orchestrator.cli.ending import explained, fail
from orchestrator.core.errors import AddressRefused, KeyUnusable
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.parts import Part, read_part
from orchestrator.core.text import printable_json

if TYPE_CHECKING:
    from orchestrator.app.stores import Place
    from orchestrator.core.ports.store import Store
    from orchestrator.database.address import Address
    from orchestrator.report.ci import Ci
    from orchestrator.report.evidence.signing import Signer
    from orchestrator.views.view import View

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
DIRECTORY = click.Path(path_type=Path, file_okay=False)
ADDRESS = "postgresql://USER@HOST/DATABASE?sslmode=verify-full"
"""How an address is written, for help and messages."""


def echo_json(values: object) -> None:
    """Print values as one JSON document, in which nothing steers a terminal or a CI system."""
    click.echo(printable_json(json.dumps(values, indent=1)))


def default_state() -> Path:
    """Return the user's state directory for this program, or end: there is no home directory."""
    from platformdirs import user_state_path

    try:
        found = user_state_path("bulk-restore")
    except RuntimeError:  # what platformdirs raises where there is no home
        found = Path()
    is_home_empty = (
        os.environ.get("HOME") == "" and not os.environ.get("XDG_STATE_HOME", "").strip()
    )
    if is_home_empty or not found.is_absolute():
        why = f"HOME is not set, and user {os.getuid()} has no entry in passwd"
        why = "HOME is empty" if is_home_empty else why
        place = "there is no directory for the journal"
        fail(ExitCode.USAGE, f"{place}: {why}; name a directory with --state")
    return found


class PlaceType(click.ParamType):  # type: ignore[type-arg]  # older versions take none
    """A directory of this machine, or the address of a database."""

    name = "place"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Place:
        """Return a path, or an address that may be used; else end with what is wrong with it."""
        if isinstance(value, str) and ":" in value:
            from orchestrator.database.address import is_address, read_address

            if is_address(value):
                try:
                    return read_address(value)
                except AddressRefused as exc:
                    fail(ExitCode.USAGE, str(exc))
        path: Path = DIRECTORY.convert(value, param, ctx)
        return path

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return what the option is for: who leaves it out may think of a run on one machine."""
        _ = param, ctx
        return f"This is for runs over several machines; name their database: {ADDRESS}"


def _only_address(_ctx: click.Context, _option: click.Parameter, value: Place) -> Address:
    if isinstance(value, Path):
        from orchestrator.database.address import read_address

        try:
            read_address(str(value))
        except AddressRefused as exc:
            fail(ExitCode.USAGE, str(exc))
    assert not isinstance(value, Path)  # noqa: S101 - a path is no address
    return value


def journal_of(state: Place | None) -> Store:
    """Return where the runs of --state, or of the user's own directory, are read."""
    from orchestrator.app.stores import store_at

    return store_at(state or default_state())


def readable(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse a text that is not UTF-8: it could not be journaled."""
    if value is not None and any("\ud800" <= char <= "\udfff" for char in value):
        raise click.BadParameter("it is not valid UTF-8 text")
    return value


def all_readable(
    ctx: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse the first of several texts that is not UTF-8."""
    for value in values:
        readable(ctx, option, value)
    return values


def _ci(_ctx: click.Context, _option: click.Parameter, value: str) -> Ci | None:
    from orchestrator.report.ci import Ci, detect

    if value == "none":
        return None
    return detect(os.environ) if value == "auto" else Ci(value)


def _command(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    try:
        argv = tuple(shlex.split(value))
    except ValueError as exc:
        raise click.BadParameter(f"{exc}: quote it as for a shell") from None
    if not argv or not argv[0]:
        raise click.BadParameter("it does not name a program")
    return argv


def _overrides(
    _ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE")
        found[name] = text
    return found


def _part(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Part | None:
    try:
        return None if value is None else read_part(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


def _signer(_ctx: click.Context, _option: click.Parameter, path: Path | None) -> Signer | None:
    from orchestrator.report.evidence.signing import load_signer

    try:
        return None if path is None else load_signer(path)
    except KeyUnusable as exc:
        fail(ExitCode.USAGE, str(exc))


plan_argument = click.argument("plan", type=PATH)
run_argument = click.argument("run")
json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
events_option = click.option(
    "--json", "as_json", is_flag=True, help="Write events to stdout as JSON, one per line."
)
moved_plan_option = click.option(
    "--plan",
    type=PATH,
    help="The plan file, if it has moved. It must not have changed since the run was started.",
)
state_option = click.option(
    "--state",
    type=PlaceType(),
    metavar="DIRECTORY|ADDRESS",
    help="Directory of the journal, or the address of a database that several machines share: "
    f"{ADDRESS}. Default: your user state directory.",
)
address_option = click.option(
    "--state",
    required=True,
    type=PlaceType(),
    callback=_only_address,
    metavar="ADDRESS",
    help=f"Address of the database: {ADDRESS}, or postgresql://?service=NAME. No password in it: "
    "use PGPASSWORD, PGPASSFILE, a service file or a client certificate.",
)
sign_key_option = click.option(
    "--sign-key",
    type=FILE,
    metavar="KEY.pem",
    callback=_signer,
    help="Sign the evidence with this Ed25519 private key (PEM, owner-only, no passphrase).",
)
session_file_option = click.option(
    "--no-session-file",
    is_flag=True,
    help="Do not save session tokens in the state directory; a database has none without "
    "--token-key. After a crash, no command can then follow or remove the run's mounts: look for "
    "them in the Veeam console.",
)


def set_option(command: F) -> F:
    """Add --set and --vars; the command gets the values of both as `overrides`."""

    @click.option(
        "--set",
        "overrides",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_overrides,
        help="Set a variable of the plan. May be repeated.",
    )
    @click.option(
        "--vars",
        "values_files",
        type=FILE,
        metavar="FILE",
        multiple=True,
        help="Set the variables that a YAML file names, as one for each site does. May be "
        "repeated: the last value counts, and --set counts more.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any, overrides: dict[str, str], values_files: tuple[Path, ...], **kwargs: Any
    ) -> Any:
        if values_files:
            from orchestrator.plan.file.values_files import read_values

            with explained():
                values = read_values(values_files)
            values.set(overrides)
            overrides = values
        return command(*args, overrides=overrides, **kwargs)

    return wrapped  # type: ignore[return-value]  # the decorated command


only_option = click.option(
    "--only",
    metavar="GLOB",
    multiple=True,
    help="Only targets whose key, label or VM matches. May be repeated.",
)
shard_option = click.option(
    "--shard",
    metavar="K/N",
    callback=_part,
    help="Only the machines of shard K of N, for N jobs that run side by side. A machine belongs "
    "to the same shard in every run, whatever else the plan has.",
)
yes_write_option = click.option(
    "--yes-write",
    is_flag=True,
    help="Allow a plan in recovery mode to write files into guests.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=1, max=1_000_000_000),
    help="Random seed for sampling and `policy: random`. Use a run's seed to get the same "
    "selection again.",
)
ci_option = click.option(
    "--ci",
    type=click.Choice(["auto", "github", "gitlab", "azure", "jenkins", "none"]),
    default="auto",
    callback=_ci,
    help="Report to this CI system in its own format: annotations, summary, sections. "
    "auto detects the system.",
)
on_finish_option = click.option(
    "--on-finish",
    metavar="COMMAND",
    callback=_command,
    help="Start COMMAND (no shell) after the reports are written. It gets JSON on stdin and "
    "the variables BULK_RESTORE_RUN, _PLAN, _MODE, _EXIT_CODE and _REPORT. It may take 5 "
    "minutes and never affects the exit code.",
)


class Output(Struct, frozen=True, kw_only=True):
    """How much to say on stderr, and how: -q, -v and --color."""

    quiet: bool
    verbose: int
    color: str

    def view(self) -> View:
        """Return the progress view that fits stderr."""
        from orchestrator.views.choice import Show, choose_view

        show = Show.QUIET if self.quiet else Show.VERBOSE if self.verbose else Show.NORMAL
        return choose_view(sys.stderr, os.environ, show=show, color=self.color)


def output_options(command: F) -> F:
    """Add -q, -v, --log-format and --color; the command gets them as `output`.

    Logs are set up before the command, and its errors end the process: see `explained`.
    """

    @click.option("-q", "--quiet", is_flag=True, help="Show only results and errors.")
    @click.option("-v", "--verbose", count=True, help="Show more; -vv for debugging.")
    @click.option(
        "--log-format",
        type=click.Choice(["auto", "console", "json"]),
        default="auto",
        help="Format of the logs on stderr.",
    )
    @click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        help="Show the live view, in colours: auto obeys NO_COLOR and CI. Needs a terminal.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any, quiet: bool, verbose: int, log_format: str, color: str, **kwargs: Any
    ) -> Any:
        from orchestrator.app import logs

        logs.configure(verbosity=-1 if quiet else verbose, style=log_format)
        with explained(verbose=verbose):
            output = Output(quiet=quiet, verbose=verbose, color=color)
            return command(*args, output=output, **kwargs)

    return wrapped  # type: ignore[return-value]  # the decorated command
