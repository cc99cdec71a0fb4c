"""Options that several commands share, and how errors end a command.

Errors have four parts: what failed, where, why (the server's words, quoted), what to do next.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from orchestrator.model import inert, printable_json

if TYPE_CHECKING:
    from orchestrator.evidence import Signer
    from orchestrator.progress import View
    from orchestrator.report.ci import Ci

F = TypeVar("F", bound=Callable[..., Any])


def echo_json(values: object) -> None:
    """Print values as one JSON document, in which nothing steers a terminal or a CI system."""
    click.echo(printable_json(json.dumps(values, indent=1)))


def default_state() -> Path:
    """Return the user's state directory for this program."""
    from platformdirs import user_state_path

    return user_state_path("bulk-restore")


def state_option(command: F) -> F:
    """Add --state."""
    return click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        default=None,
        help="Directory of the journal. Default: your user state directory.",
    )(command)


def session_file_option(command: F) -> F:
    """Add --no-session-file."""
    return click.option(
        "--no-session-file",
        is_flag=True,
        help="Keep no session token in the state directory. After a crash nobody can then watch "
        "on or unmount; the servers release the mounts after 15 idle minutes.",
    )(command)


def sign_key_option(command: F) -> F:
    """Add --sign-key; the command gets it as `sign`, a Signer or None."""

    @functools.wraps(command)
    def wrapped(*args: Any, sign_key: Path | None, **kwargs: Any) -> Any:
        return command(*args, sign=_signer(sign_key), **kwargs)

    return click.option(
        "--sign-key",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="KEY.pem",
        help="Sign the evidence with this Ed25519 private key (PEM, owner-only, no passphrase).",
    )(wrapped)  # type: ignore[return-value]  # the decorated command


def _signer(path: Path | None) -> Signer | None:
    """Return what signs, or end: nothing was sent yet."""
    if path is None:
        return None
    from orchestrator.errors import KeyUnusable
    from orchestrator.evidence import load_signer
    from orchestrator.report import ExitCode

    try:
        return load_signer(path)
    except KeyUnusable as exc:
        fail(ExitCode.USAGE, str(exc))


def set_option(command: F) -> F:
    """Add --set."""
    return click.option(
        "--set",
        "overrides",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_overrides,
        help="Set a variable of the plan. May be repeated.",
    )(command)


def only_option(command: F) -> F:
    """Add --only."""
    return click.option(
        "--only",
        metavar="GLOB",
        multiple=True,
        help="Only targets whose key, label or VM matches. May be repeated.",
    )(command)


def yes_write_option(command: F) -> F:
    """Add --yes-write, which each process of a run is told anew."""
    return click.option(
        "--yes-write",
        is_flag=True,
        help="Allow what a plan in recovery mode says to write into guests.",
    )(command)


def seed_option(command: F) -> F:
    """Add --seed."""
    return click.option(
        "--seed",
        type=click.IntRange(min=1, max=1_000_000_000),
        help="Repeat what was left to chance: samples and random points are drawn by this number.",
    )(command)


def ci_option(command: F) -> F:
    """Add --ci; the command gets the CI system, or None."""
    return click.option(
        "--ci",
        type=click.Choice(["auto", "github", "gitlab", "azure", "jenkins", "none"]),
        default="auto",
        callback=_ci,
        help="Tell this CI system of the result in its own way: annotations, summary, sections. "
        "auto finds out which it is.",
    )(command)


def on_finish_option(command: F) -> F:
    """Add --on-finish; the command gets the program and its arguments."""
    return click.option(
        "--on-finish",
        metavar="COMMAND",
        callback=_command,
        help="Start COMMAND (no shell) after the reports are written. It gets JSON on stdin and "
        "BULK_RESTORE_RUN, _PLAN, _MODE, _EXIT_CODE and _REPORT; it has 5 minutes, and changes no "
        "result.",
    )(command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How much to say on stderr, and how: -q, -v, --log-format and --color."""

    quiet: bool
    verbose: int
    log_format: str
    color: str

    def view(self) -> View:
        """Return the progress view that fits stderr."""
        from orchestrator.progress import Show, choose_view

        show = Show.QUIET if self.quiet else Show.VERBOSE if self.verbose else Show.NORMAL
        return choose_view(sys.stderr, os.environ, show=show, color=self.color)


def output_options(command: F) -> F:
    """Add -q, -v, --log-format and --color; the command gets them as `output`, logs set up."""

    @functools.wraps(command)
    def wrapped(
        *args: Any, quiet: bool, verbose: int, log_format: str, color: str, **kwargs: Any
    ) -> Any:
        from orchestrator import logs

        logs.configure(verbosity=-1 if quiet else verbose, style=log_format)
        output = Output(quiet=quiet, verbose=verbose, log_format=log_format, color=color)
        return command(*args, output=output, **kwargs)

    taken: Any = wrapped
    for option in (
        click.option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            help="The live view with colours: auto obeys NO_COLOR and CI. Needs a terminal.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(["auto", "console", "json"]),
            default="auto",
            help="Form of the logs on stderr.",
        ),
        click.option("-v", "--verbose", count=True, help="Say more; -vv for debugging."),
        click.option("-q", "--quiet", is_flag=True, help="Only results and errors."),
    ):
        taken = option(taken)
    return taken  # type: ignore[no-any-return]  # the decorated command


def readable(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse a text that is not UTF-8: it could not be journaled."""
    if value is not None and any("\ud800" <= char <= "\udfff" for char in value):
        raise click.BadParameter("it is not valid UTF-8 text")
    return value


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
        raise click.BadParameter("it names no program")
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


def end(code: int) -> NoReturn:
    """End the process with an exit code, whatever happened to its streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    raise SystemExit(code)


def fail(code: int, message: str) -> NoReturn:
    """Print an error and end."""
    click.echo(inert(f"bulk-restore: {message}"), err=True)
    end(code)


def explained(command: F) -> F:
    """Turn our errors into messages and documented exit codes."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from orchestrator.errors import (
            CannotResume,
            CredentialError,
            EnterpriseManagerError,
            JournalError,
            KeyUnusable,
            OrchestratorError,
            PlanError,
            RunLocked,
            RunNotFound,
            ServerUnusable,
        )
        from orchestrator.report import ExitCode

        try:
            return command(*args, **kwargs)
        except PlanError as exc:
            for problem in exc.problems:
                click.echo(inert(str(problem)), err=True)
            count = len(exc.problems)
            click.echo(f"{count} problem{'s' if count != 1 else ''}; nothing was sent.", err=True)
            end(ExitCode.USAGE)
        except RunLocked as exc:
            fail(ExitCode.LOCKED, str(exc))
        except (RunNotFound, CannotResume, KeyUnusable) as exc:
            fail(ExitCode.USAGE, str(exc))
        except JournalError as exc:
            fail(ExitCode.LOCAL_IO, f"{exc}\n{_advice(exc)}")
        except (ServerUnusable, EnterpriseManagerError, CredentialError) as exc:
            fail(ExitCode.UNUSABLE, f"{exc}\n{_advice(exc)}")
        except OrchestratorError as exc:
            fail(ExitCode.INTERNAL, str(exc))
        except OSError as exc:
            where = exc.filename or "input or output failed"
            fail(ExitCode.LOCAL_IO, f"{where}: {exc.strerror or exc}")

    return wrapped  # type: ignore[return-value]  # the same signature


def _advice(error: Exception) -> str:
    """Return what to do next about an error that is not a mistake in the plan."""
    from orchestrator import errors

    advice: dict[type[Exception], str] = {
        errors.CredentialError: "set it, or change the reference under `servers` in the plan",
        errors.LogonRefused: "check the account and its secret; a refused logon is never repeated, "
        "because accounts lock",
        errors.CertificateRefused: "check that this is your server, then name its `ca_file` or "
        "`fingerprint_sha256` under `tls`",
        errors.AccessDenied: "give the account the role File Restore Operator",
        errors.RequestNotSent: "check `url` and its port (9398 by default), name resolution and "
        "firewall",
        errors.JournalDamaged: "keep the file as it is; use another --state to go on meanwhile",
        errors.JournalError: "the state directory (--state) must be writable and on a local disk",
    }
    for kind, text in advice.items():
        if isinstance(error, kind):
            return f"  next: {text}"
    return "  next: try again; if it stays, look at the Enterprise Manager's service and its logs"
