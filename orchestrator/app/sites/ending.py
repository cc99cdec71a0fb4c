"""The end of a run that workers carry out, for who waits for it elsewhere."""

from __future__ import annotations

from pathlib import Path

from orchestrator.app.follow import RunFollower, watch
from orchestrator.app.notify.command import tell_command
from orchestrator.app.notify.composing import composed_end
from orchestrator.app.outcome import ending_of, outcome_of
from orchestrator.app.wiring import secret_variables
from orchestrator.core.ports.store import Store
from orchestrator.core.records import RunSummary
from orchestrator.core.run_state import RunState
from orchestrator.plan.file.settings import RestorePlan
from orchestrator.views.view import View


def waited_for(store: Store, summary: RunSummary, view: View) -> RunState:
    """Show a run until it has ended, whoever works on it meanwhile; return all of it.

    Raises:
        JournalError: it cannot be read or trusted.
    """
    watch(RunFollower(store, summary), view, patient=True)
    return store.replay(summary.run)


async def tell_end(
    argv: tuple[str, ...], state: RunState, directory: Path, plan: RestorePlan
) -> str | None:
    """Start a program with the end of a run; return what went wrong, or None."""
    if not argv or state.finished is None:
        return None
    code = state.finished.exit_code
    ending = ending_of(outcome_of(state, code, None, state.finished.trouble, str(directory)))
    message = next(composed_end(state, ending))
    return await tell_command(argv, message, withheld=secret_variables(plan))
