"""`--on-finish`: a program of the user's, started after the reports are written.

No shell. It finds the generic message on its standard input, and in its environment
BULK_RESTORE_RUN, _PLAN, _MODE, _EXIT_CODE and _REPORT (the directory); variables that hold a
secret of the plan, and other BULK_RESTORE_ variables, it does not see. What it writes goes to
our standard error. Neither it nor its process group outlives its time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

import anyio
from anyio.abc import Process

from orchestrator.app.notify.composing import Notice
from orchestrator.app.notify.shapes import body
from orchestrator.core.text import duration
from orchestrator.plan.file.settings import HookKind

TIME_S = 300.0
"""How long it may take."""

OURS = "BULK_RESTORE_"


async def tell_command(
    argv: Sequence[str],
    notice: Notice,
    *,
    withheld: frozenset[str] = frozenset(),
    timeout: float = TIME_S,
) -> str | None:
    """Run the program to its end; return what went wrong, or None. Cancelling it ends it."""
    try:
        process = await anyio.open_process(
            list(argv),
            stdout=2,
            stderr=2,
            env=_environment(notice, withheld),
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        return f"--on-finish: {argv[0]} cannot be started: {getattr(exc, 'strerror', None) or exc}"
    try:
        with anyio.move_on_after(timeout) as limit:
            await _tell(process, body(notice, HookKind.GENERIC))
            await process.wait()
    finally:
        await _reap(process)
    if limit.cancelled_caught:
        return f"--on-finish: {argv[0]} did not end within {duration(timeout)}"
    code = process.returncode
    return f"--on-finish: {argv[0]} ended with exit code {code}" if code else None


def _environment(notice: Notice, withheld: frozenset[str]) -> Mapping[str, str]:
    """Return what the program sees; our own options must not reach a run that it may start."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in withheld and not name.startswith(OURS)
    }
    return inherited | {
        f"{OURS}RUN": notice.run,
        f"{OURS}PLAN": notice.plan,
        f"{OURS}MODE": notice.mode,
        f"{OURS}EXIT_CODE": str(notice.exit_code),
        f"{OURS}REPORT": notice.report or "",
    }


async def _tell(process: Process, content: bytes) -> None:
    """Write the message; a program that does not read it may end as it likes."""
    assert process.stdin is not None  # noqa: S101 - a pipe by default
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        await process.stdin.send(content)
    with suppress(anyio.BrokenResourceError, OSError):
        await process.stdin.aclose()


async def _reap(process: Process) -> None:
    """Kill what is left of the program and of what it started, and leave no zombie."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.CancelScope(shield=True):
        await process.wait()
        if process.stdin is not None:
            with suppress(anyio.BrokenResourceError, OSError):
                await process.stdin.aclose()
