"""`ctl`: asks the living process of a run for something, and waits for its answer.

The process records a request before it does it, so the journal tells in the end what was done: also
where the process died before it could answer.
"""

from __future__ import annotations

import socket

import anyio
from msgspec import Struct

from orchestrator.app.user import person_name
from orchestrator.core.control_rules import why_refused
from orchestrator.core.controls import Control, control_words
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.records import RunSummary
from orchestrator.core.text import duration, printable
from orchestrator.journal import State
from orchestrator.journal.controls import new_control_id

ANSWER_WITHIN = 20.0
"""Seconds in which a living process takes a request: it looks every second."""

AFTER_TAKING = 10.0
"""Seconds that are waited for the answer to a request that was taken, but not answered in time."""

TICK = 0.2


class ControlOutcome(Struct, frozen=True, kw_only=True):
    """What came of a request: a line for a person, and the exit code."""

    line: str
    code: int


def asked_for(
    verb: str,
    words: tuple[str, ...],
    *,
    reason: str | None = None,
    beyond_plan: bool = False,
    reject: bool = False,
) -> Control:
    """Return a request of this user on this machine, with an id of its own."""
    return Control(
        id=new_control_id(),
        verb=verb,
        words=words,
        user=person_name(),
        host=socket.gethostname(),
        reason=reason,
        beyond_plan=beyond_plan,
        reject=reject,
    )


async def ask(state: State, summary: RunSummary, control: Control) -> ControlOutcome:
    """Ask the process of a run for something, and wait until it is done or refused.

    Changes nothing unless the process takes the request; safe to repeat.

    Raises:
        JournalError: the state directory cannot be read or written.
    """
    run, said = summary.run, printable(control_words(control), 600)
    if not state.is_running(summary):
        return ControlOutcome(
            line=f"{run}: refused: no process works on it; nothing was changed. To go on with it: "
            f"bulk-restore resume {run}",
            code=ExitCode.USAGE,
        )
    run_state = state.replay(run)
    why = why_refused(control, run_state.started, run_state.records.values())
    if why is not None:
        return _refused(run, why)
    files = state.controls(run)
    files.ask(control)
    is_taken = False
    for patience in (ANSWER_WITHIN, AFTER_TAKING):
        with anyio.move_on_after(patience):
            while state.is_running(summary):
                answer = files.answer_to(control.id)
                if answer is not None and answer.refused is not None:
                    return _refused(run, answer.refused)
                if answer is not None:
                    return ControlOutcome(line=f"{run}: applied: {said}", code=ExitCode.GOOD)
                await anyio.sleep(TICK)
        is_taken = not files.withdraw(control.id)
        if not is_taken:
            break
    return _unanswered(state, summary, control, is_taken=is_taken)


def _refused(run: str, why: str) -> ControlOutcome:
    return ControlOutcome(
        line=f"{run}: refused: {printable(why, 1000)}; nothing was changed", code=ExitCode.USAGE
    )


def _unanswered(
    state: State, summary: RunSummary, control: Control, *, is_taken: bool
) -> ControlOutcome:
    """Return what the journal tells of a request without an answer."""
    run, is_alive = summary.run, state.is_running(summary)
    if _is_recorded(state, summary, control):
        return ControlOutcome(
            line=f"{run}: applied: {printable(control_words(control), 600)}", code=ExitCode.GOOD
        )
    if not is_alive:
        return _refused(run, "its process ended first")
    if not is_taken:
        return ControlOutcome(
            line=f"{run}: no answer in {duration(ANSWER_WITHIN)}: its process does not move, or is "
            "of a version without ctl; the request was taken back and nothing was changed",
            code=ExitCode.LOCKED,
        )
    return ControlOutcome(
        line=f"{run}: no answer: its process has taken the request and may still do it; see "
        f"controls in the report, or: bulk-restore status {run}",
        code=ExitCode.IN_DOUBT,
    )


def _is_recorded(state: State, summary: RunSummary, control: Control) -> bool:
    return any(each.control == control.id for each in state.replay(summary.run).controls)
