"""`ctl`: asks the living process of a run for something, and waits for its answer.

The process records a request before it does it, so the journal tells in the end what was done: also
where the process died before it could answer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import anyio
from msgspec import Struct

from orchestrator.app.user import person_name
from orchestrator.core.control_rules import why_refused
from orchestrator.core.controls import Answer, Control, control_words
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
    why = refused_at_once(state, summary, control)
    if why is not None:
        return refused(summary.run, why)
    answer, is_taken = await answer_to(state, summary, control, after_taking=AFTER_TAKING)
    if answer is None:
        return _unanswered(state, summary, control, is_taken=is_taken)
    if answer.refused is not None:
        return refused(summary.run, answer.refused)
    said = printable(control_words(control), 600)
    return ControlOutcome(line=f"{summary.run}: applied: {said}", code=ExitCode.GOOD)


def refused_at_once(state: State, summary: RunSummary, control: Control) -> str | None:
    """Return why the run's process need not be asked, by the journal; None: it is to be asked."""
    if not state.is_running(summary):
        return f"no process works on it; to go on with it: bulk-restore resume {summary.run}"
    run_state = state.replay(summary.run)
    return why_refused(control, run_state.started, run_state.records.values())


async def answer_to(
    state: State,
    summary: RunSummary,
    control: Control,
    *,
    after_taking: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[Answer | None, bool]:
    """Ask the process of a run, and return its answer, and whether it has taken the request.

    Once taken, the answer is waited for `after_taking` seconds more, as long as the process lives
    and moves. `meanwhile` is called between two looks.

    Raises:
        JournalError: the state directory does not take the request.
    """
    files = state.controls(summary.run)
    files.ask(control)
    is_taken = False
    for patience in (ANSWER_WITHIN, after_taking):
        with anyio.move_on_after(patience):
            while state.is_running(summary) and not (is_taken and state.stall(summary)):
                answer = files.answer_to(control.id)
                if answer is not None:
                    return answer, True
                meanwhile()
                await anyio.sleep(TICK)
        is_taken = not files.withdraw(control.id)
        if not is_taken:
            break
    return None, is_taken


def refused(run: str, why: str) -> ControlOutcome:
    """Return the outcome of what was not done."""
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
        return refused(run, "its process ended first")
    if not is_taken:
        return does_not_move(run)
    return ControlOutcome(
        line=f"{run}: no answer: its process has taken the request and may still do it; see "
        f"controls in the report, or: bulk-restore status {run}",
        code=ExitCode.IN_DOUBT,
    )


def does_not_move(run: str) -> ControlOutcome:
    """Return the outcome of a request that nobody has taken."""
    return ControlOutcome(
        line=f"{run}: no answer in {duration(ANSWER_WITHIN)}: its process does not move, or is "
        "of a version without ctl; the request was taken back and nothing was changed",
        code=ExitCode.LOCKED,
    )


def _is_recorded(state: State, summary: RunSummary, control: Control) -> bool:
    return any(each.control == control.id for each in state.replay(summary.run).controls)
