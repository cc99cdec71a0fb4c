"""What a living run waits for that only a person can do, in words."""

from __future__ import annotations

from orchestrator.core.controls import Verb
from orchestrator.core.events import ApprovalAwaited
from orchestrator.core.run_state import RunState
from orchestrator.core.text import counted, moment, printable

CONFIRMING = "waiting for confirmation"
"""What a run does that mounts nothing before somebody has answered its question."""


def _given(run_state: RunState, gate: ApprovalAwaited) -> str:
    """Return who has approved already, where more than one must."""
    users = {
        each.user
        for each in run_state.controls
        if each.verb == Verb.APPROVE and each.words[:1] == (gate.wave,) and each.at >= gate.at
    }
    return f" ({', '.join(printable(user) for user in sorted(users))} gave one)" if users else ""


def waiting_for_people(run_state: RunState) -> list[str]:
    """Return what a living run waits for that only a person can do, and how to do it."""
    if run_state.awaits_confirmation:
        return [f"{CONFIRMING}: it mounts nothing before somebody answers in its terminal"]
    run, paused = run_state.started.run, run_state.pauses[-1:]
    lines = [
        f"PAUSED since {moment(run_state.moment(start))}; go on: bulk-restore ctl {run} continue"
        for start, end in paused
        if end is None
    ]
    return lines + [
        f"wave {printable(each.wave)} waits for "
        f"{counted(each.approvals, 'approval')}{_given(run_state, each)} until "
        f"{moment(run_state.moment(each.until))}: bulk-restore ctl {run} approve "
        f"{printable(each.wave)} --reason TEXT"
        for each in run_state.closed_gates
    ]
