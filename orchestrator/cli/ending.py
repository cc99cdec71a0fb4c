"""How a command ends: its exit code, its error message, and what SIGTERM does to it.

Errors have four parts: what failed, where, why (the server's words, quoted), what to do next.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TypeVar

import anyio
import click
from anyio.abc import TaskStatus

from orchestrator.core import errors
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import counted, inert, printable
from orchestrator.log import Log
from orchestrator.views import streams

T = TypeVar("T")


def end(code: int) -> NoReturn:
    """End the process with an exit code, also where nobody reads its streams.

    Raises:
        OSError: data could not be written; see `streams.finish`.
    """
    with suppress(KeyboardInterrupt):  # there is nothing left to end but the waiting
        streams.finish()
    raise SystemExit(code)


def fail(code: int, message: str) -> NoReturn:
    """Print an error and end."""
    click.echo(inert(f"bulk-restore: {message}"), err=True)
    end(code)


@contextmanager
def explained(*, verbose: int | None = None) -> Iterator[None]:
    """Turn errors and Ctrl-C into messages and documented exit codes; the unexpected ends with 70.

    `verbose` is how often -v was given; None where the command has no such option.
    """
    try:
        yield
        streams.finish()
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise  # click has messages and exit codes of its own
    except KeyboardInterrupt:  # of a command that only asks, or of a run that has not begun
        fail(128 + signal.SIGINT, "stopped by SIGINT")
    except Exception as exc:  # noqa: BLE001 - the process ends with it
        _explain(first_cause(exc))
        unforeseen(exc, verbose=verbose)


def first_cause(exc: Exception) -> Exception:
    """Return the first leaf of nested exception groups."""
    return first_cause(exc.exceptions[0]) if isinstance(exc, ExceptionGroup) else exc


def _explain(error: Exception) -> None:
    """End the process with what an error of ours or of the system means; return for any other."""
    match error:
        case errors.PlanError():
            for text in errors.in_brief(error.problems):
                click.echo(inert(text), err=True)
            click.echo(f"{counted(len(error.problems), 'problem')}; nothing was sent.", err=True)
            end(ExitCode.USAGE)
        case errors.RunLocked():
            fail(ExitCode.LOCKED, str(error))
        case (
            errors.RunNotFound()
            | errors.CannotResume()
            | errors.CannotMerge()
            | errors.KeyUnusable()
            | errors.AddressRefused()
        ):
            fail(ExitCode.USAGE, str(error))
        case errors.JournalError():
            fail(ExitCode.LOCAL_IO, f"{error}\n{_advice(error)}")
        case errors.ServerUnusable() | errors.EnterpriseManagerError() | errors.CredentialError():
            fail(ExitCode.UNUSABLE, f"{error}\n{_advice(error)}")
        case errors.SimulatedServerEnded():
            fail(ExitCode.LOCAL_IO, str(error))
        case errors.OrchestratorError():
            fail(ExitCode.INTERNAL, str(error))
        case OSError():
            where = error.filename or "input or output failed"
            fail(ExitCode.LOCAL_IO, f"{where}: {error.strerror or error}")


def unforeseen(error: Exception, *, verbose: int | None = None) -> NoReturn:
    """End the process with one line about an unexpected error; -v shows where it happened."""
    from orchestrator.app import logs

    if verbose:
        Log(__name__).error("command.internal_error", exc_info=error)
    hint = "; use -v to see where it happened" if verbose == 0 else ""
    cause = first_cause(error)
    message = printable(logs.without_secrets(f"{type(cause).__name__}: {cause}"))
    fail(ExitCode.INTERNAL, f"internal error: {message}{hint}")


def _advice(error: Exception) -> str:
    """Return what to do next about an error that is not a mistake in the plan."""
    advice: dict[type[Exception], str] = {
        errors.CredentialError: "set it, or change the reference under `servers` in the plan",
        errors.LogonRefused: "check the account and its secret; a refused logon is never repeated, "
        "so that the account is not locked",
        errors.CertificateRefused: "check that this is your server, then name its `ca_file` or "
        "`fingerprint_sha256` under `tls`",
        errors.AddressUnusable: "check `url` and its port (9398 by default), and any proxy in "
        "front of the server",
        errors.AccessDenied: "give the account the role File Restore Operator",
        errors.RequestNotSent: "check `url` and its port (9398 by default), name resolution and "
        "firewall",
        errors.JournalDamaged: "keep the file as it is; until it is repaired, use another --state",
        errors.ReportKept: "read that report; --report writes to another directory",
        errors.JournalLocked: "find the process that has it open (a backup, an open sqlite3 shell, "
        "another run), and try again when it has ended",
        errors.DatabaseAway: "check the address, the network and that the server runs; a new "
        "database is set up with: bulk-restore database init",
        errors.SiteDenied: "grant it, or use a login of that site, or leave the site away",
        errors.DatabaseUnusable: "look at it with: bulk-restore database check; it is set up with: "
        "bulk-restore database init",
        errors.JournalError: "the state directory (--state) must be writable and on a local disk",
    }
    for kind, text in advice.items():
        if isinstance(error, kind):
            return f"  next: {text}"
    return (
        "  next: try again; if the error stays, check the Enterprise Manager's service and its logs"
    )


def unless_terminated(work: Callable[[], Awaitable[T]]) -> T:
    """Do `work` and return its result; SIGTERM cancels it, and the process ends.

    What `work` does when it is cancelled (a logoff) is waited for; a second SIGTERM ends the
    process at once.
    """
    answers: list[T] = []
    is_over = False

    async def until_signalled(
        scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        nonlocal is_over
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                is_over = True
                break
        scope.cancel()

    async def whole() -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(until_signalled, tasks.cancel_scope)
            answers.append(await work())
            tasks.cancel_scope.cancel()

    try:
        anyio.run(whole)
    except Exception:
        if not is_over:
            raise
    if is_over and not answers:
        fail(ExitCode.SIGTERM, "stopped by SIGTERM")
    return answers[0]
