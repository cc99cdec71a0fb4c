"""The end of a run that workers carry out, for who waits for it: its reports and its messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from orchestrator.app.follow import RunFollower, watch
from orchestrator.app.notify.command import tell_command
from orchestrator.app.notify.composing import composed_end
from orchestrator.app.outcome import Outcome, ending_of, outcome_of
from orchestrator.app.rebuilding import rebuild
from orchestrator.app.wiring import secret_variables
from orchestrator.core.errors import JournalError
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import RunId
from orchestrator.core.ports.store import Store
from orchestrator.core.records import RunSummary
from orchestrator.core.run_state import RunState
from orchestrator.plan.file.settings import RestorePlan
from orchestrator.views.view import View


def wait_for(store: Store, summary: RunSummary, view: View) -> None:
    """Show a run until it has ended, whoever works on it meanwhile.

    Raises:
        JournalError: it cannot be read or trusted.
    """
    watch(RunFollower(store, summary), view, patient=True)


def reported(
    store: Store, run: RunId, directory: Path, sign: Callable[[bytes], bytes] | None = None
) -> tuple[RunState, Outcome]:
    """Write the reports of a run that has ended; return all of it, and how it ended.

    `sign` makes the signature of the evidence beside them.

    Raises:
        JournalError: it cannot be read or trusted, or has not ended.
    """
    state, mark = store.replay_to_head(run)
    if state.finished is None:
        raise JournalError(f"run {run} has not ended")
    code, trouble = state.finished.exit_code, state.finished.trouble
    written: tuple[Path, ...] = ()
    try:
        written = tuple(rebuild(store, run, directory, sign))
    except OSError as exc:
        code = ExitCode.LOCAL_IO
        trouble = f"the reports cannot be written to {directory}: {exc.strerror}"
    outcome = outcome_of(state, code, mark.head, trouble, str(directory))
    return state, replace(outcome, written=written)


async def tell_command_of_end(
    argv: tuple[str, ...], state: RunState, outcome: Outcome, plan: RestorePlan
) -> Outcome:
    """Start a program with the end of a run; return the outcome with what went wrong there."""
    if not argv:
        return outcome
    message = next(composed_end(state, ending_of(outcome)))
    why = await tell_command(argv, message, withheld=secret_variables(plan))
    return replace(outcome, untold=(*outcome.untold, why)) if why else outcome
