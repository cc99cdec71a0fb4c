"""init: a first plan from what the servers list."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail, unless_terminated
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import ServerName
from orchestrator.core.text import counted, printable

if TYPE_CHECKING:
    from orchestrator.app.first_plan import FirstPlan, NoFirstPlan
    from orchestrator.plan.choose.first_plan import FirstServer
    from orchestrator.plan.file.access import SecretReference, Trust

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
SECRETS = "env:NAME, file:PATH, credential:NAME or keyring:SERVICE/USER"


@click.command("init")
@click.argument("urls", nargs=-1, required=True)
@click.option(
    "--username", required=True, callback=options.readable, help="The account, on every server."
)
@click.option(
    "--password-from",
    "password",
    required=True,
    metavar="REFERENCE",
    help=f"Where the password is: {SECRETS}. Never the password itself.",
)
@click.option(
    "--ca-file", type=options.FILE, help="PEM file with the authorities that signed the servers."
)
@click.option(
    "--fingerprint",
    "fingerprints",
    multiple=True,
    metavar="SHA256",
    help="Accept a certificate with this fingerprint. May be repeated.",
)
@click.option("--insecure", is_flag=True, help="Accept any certificate; every report says so.")
@click.option(
    "--source",
    type=click.Choice(["replica", "backup", "agent"]),
    help="Family of restore points. Default: replicas, or backups where there are none.",
)
@click.option(
    "--job",
    "jobs",
    multiple=True,
    metavar="GLOB",
    callback=options.all_readable,
    help="Only jobs whose name matches. May be repeated.",
)
@click.option(
    "--match",
    "machines",
    multiple=True,
    metavar="GLOB",
    callback=options.all_readable,
    help="Only machines whose name matches. May be repeated.",
)
@click.option(
    "-o",
    "--output",
    "save_as",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write the plan here; - prints it.",
)
@click.option("--force", is_flag=True, help="Replace the file, if there is one.")
@options.output_options
def init_command(
    urls: tuple[str, ...], save_as: Path, output: options.Output, **values: Any
) -> None:
    """Log on to the Enterprise Managers at URLS and write a first plan of what they list.

    Reads only. The plan has one wave for each job, a limit for each backup server, and in each
    wave the number of machines that was counted. Its comments say what to decide. It can be run
    as it is. The same command makes the same file again, until the servers list something else.

    Exit code 0 once it is written, 4 if a server cannot be asked or lists nothing. Nothing is
    written then, nor with exit code 2.
    """
    from orchestrator.app.first_plan import NoFirstPlan, make_first_plan
    from orchestrator.core.model import Source
    from orchestrator.plan.choose.first_waves import Wanted

    is_printed = str(save_as) == "-"
    if not is_printed:
        _require_free(save_as, force=values["force"])
    servers = _servers(urls, Path() if is_printed else save_as.parent, values)
    wanted = Wanted(jobs=values["jobs"], machines=values["machines"])
    source = Source(values["source"]) if values["source"] else None

    async def make() -> FirstPlan | NoFirstPlan:
        try:
            return await make_first_plan(servers, wanted, source=source)
        except NoFirstPlan as exc:  # an answer: nothing went wrong here
            return exc

    made = unless_terminated(make)
    if isinstance(made, NoFirstPlan):
        _refuse(made)
    if is_printed:
        click.echo(made.text, nl=False)
    else:
        _write(save_as, made.text, force=values["force"])
    if not output.quiet:
        _say(made, save_as)
    end(ExitCode.GOOD)


def _refuse(why: NoFirstPlan) -> NoReturn:
    code = ExitCode.USAGE if why.is_mistyped else ExitCode.UNUSABLE
    fail(code, f"{why}\nnothing was written")


def _say(made: FirstPlan, save_as: Path) -> None:
    """Tell what was made, and what to do next."""
    waves = made.waves.waves
    servers = len({wave.server for wave in waves})
    for line in (
        *made.notes,
        *(f"left out: {printable(each)}" for each in made.waves.left_out[:20]),
    ):
        click.echo(f"warning: {printable(line, 1000)}", err=True)
    more = len(made.waves.left_out) - 20
    if more > 0:
        click.echo(f"warning: left out: {more} more", err=True)
    counts = f"{counted(servers, 'server')}, {counted(len(waves), 'wave')}"
    machines = counted(sum(wave.machines for wave in waves), "machine")
    click.echo(f"{save_as}: {counts}, {machines}", err=True)
    click.echo(f"next: read it, then: bulk-restore check {save_as}", err=True)


# --- what the plan refers to -------------------------------------------------------------------


def _servers(urls: Sequence[str], directory: Path, values: dict[str, Any]) -> list[FirstServer]:
    """Return the servers to ask; every mistake in the options ends the command."""
    from orchestrator.plan.choose.first_plan import FirstServer
    from orchestrator.plan.file.access import FileSecret
    from orchestrator.plan.file.servers import absolute_reference
    from orchestrator.plan.file.settings import ServerSettings

    here = Path.cwd()
    username = _username(values["username"])
    password = _reference(values["password"])
    shown = password
    if isinstance(password, FileSecret):
        shown = FileSecret(path=_from(directory, password.path))
    trust, trust_shown = _trust(values, directory)
    addresses = _addresses(urls)
    return [
        FirstServer(
            settings=ServerSettings(
                name=name,
                url=url,
                username=username,
                password=absolute_reference(password, here),
                trust=trust,
            ),
            password=shown,
            trust=trust_shown,
        )
        for name, url in zip(_names(addresses), addresses, strict=True)
    ]


def _username(text: str) -> str:
    from orchestrator.plan.file.scalars import line

    try:
        return line(text)
    except ValueError as exc:
        fail(ExitCode.USAGE, f"--username: {exc}")


def _addresses(urls: Sequence[str]) -> list[str]:
    from orchestrator.plan.file.scalars import url as address

    found: list[str] = []
    for number, text in enumerate(urls, start=1):
        try:
            one = address(text)
        except ValueError as exc:
            fail(ExitCode.USAGE, f"URL {number}: {exc}")
        if one in found:
            fail(ExitCode.USAGE, f"URL {number}: {one} is URL {found.index(one) + 1} too: keep one")
        found.append(one)
    return found


def _reference(text: str) -> SecretReference:
    """Return the reference; what was given is never shown, for it may be the password."""
    from orchestrator.plan.file.secrets import secret_reference
    from orchestrator.plan.file.section import NoReference

    kind, _, value = text.partition(":")
    is_known = kind in {"env", "file", "credential", "keyring"}
    try:
        return secret_reference({kind: value} if is_known else {})
    except NoReference:
        fail(ExitCode.USAGE, f"--password-from: write {SECRETS}; never the password itself")


def _trust(values: dict[str, Any], directory: Path) -> tuple[Trust, Trust]:
    """Return how certificates are judged here, and the same as the plan shall hold it."""
    from orchestrator.plan.file.access import CaFileTrust, FingerprintTrust, NoTrust, SystemTrust
    from orchestrator.plan.file.scalars import fingerprint

    given = {
        "--ca-file": values["ca_file"] is not None,
        "--fingerprint": bool(values["fingerprints"]),
        "--insecure": values["insecure"],
    }
    named = [option for option, is_given in given.items() if is_given]
    if len(named) > 1:
        fail(ExitCode.USAGE, f"{' and '.join(named)} exclude each other: keep one")
    trust: Trust = NoTrust() if values["insecure"] else SystemTrust()
    if values["fingerprints"]:
        try:
            pins = [fingerprint(text) for text in values["fingerprints"]]
        except ValueError as exc:
            fail(ExitCode.USAGE, f"--fingerprint: {exc}")
        trust = FingerprintTrust(sha256=tuple(dict.fromkeys(pins)))
    if values["ca_file"] is not None:
        path = str(values["ca_file"])
        shown = CaFileTrust(path=_from(directory, path))
        return CaFileTrust(path=os.path.abspath(path)), shown  # noqa: PTH100 - as plans do
    return trust, trust


def _from(directory: Path, path: str) -> str:
    """Return a path as a plan in `directory` holds it: relative where it is below it."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - links are followed when the file is read
    base = os.path.abspath(directory)  # noqa: PTH100
    below = os.path.relpath(absolute, base)
    return absolute if below.startswith("..") else below


def _names(urls: Sequence[str]) -> list[ServerName]:
    """Return a name for each server: the shortest part of its address that no other has."""
    from orchestrator.plan.choose.first_waves import plan_name, unique

    hosts = [urlsplit(url).hostname or "" for url in urls]
    ports = [urlsplit(url).port for url in urls]
    firsts = [_first_label(host) for host in hosts]
    names = []
    for host, port, first in zip(hosts, ports, firsts, strict=True):
        if hosts.count(host) > 1:
            name = f"{host}-{port}"
        else:
            name = first if firsts.count(first) == 1 else host
        names.append(plan_name(name, "em"))
    return [ServerName(name) for name in unique(names)]


def _first_label(host: str) -> str:
    """Return the first part of a host's name; an IP address stays whole."""
    with suppress(ValueError):
        return str(ip_address(host)).replace(":", "-")
    return host.partition(".")[0]


# --- the file ----------------------------------------------------------------------------------


def _require_free(path: Path, *, force: bool) -> None:
    """End where the plan could not be written, before any server is asked."""
    if not path.parent.is_dir():
        fail(ExitCode.USAGE, f"-o {path}: there is no directory {path.parent}")
    if not force and os.path.lexists(path):
        fail(ExitCode.USAGE, f"-o {path}: it is there already; --force replaces it")


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write the whole file or none; without `force` never in the place of another.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with fresh.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if force:
            fresh.replace(path)
        else:
            _take_name(fresh, path)
    except FileExistsError:
        fail(ExitCode.USAGE, f"-o {path}: it is there already; --force replaces it")
    finally:
        fresh.unlink(missing_ok=True)


def _take_name(fresh: Path, path: Path) -> None:
    """Give a file its name, unless another one has it.

    Raises:
        FileExistsError: one has.
    """
    try:
        os.link(fresh, path)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        path.open("x").close()  # a disk without links: an empty file of our own, then ours
        fresh.replace(path)
