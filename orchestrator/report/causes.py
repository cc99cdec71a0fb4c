"""What a report says beside a failure: its kind, what to do, and what ran on the machine."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.causes import FailureCause
from orchestrator.core.events import ActivitySeen
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.run_state import RunState
from orchestrator.core.text import moment

HOLDING_WORDS = ("locked by", "is locked", "in use by", "used by another")
"""Words of a server after which advice is added; they decide nothing. Source: reference 15.7."""

HINTS = {
    FailureCause.BUSY: "run it once that has ended, or let the plan wait longer: timeouts.busy",
    FailureCause.DENIED: (
        "give the account the role File Restore Operator, with this machine in its scope"
    ),
    FailureCause.NOT_FOUND: (
        "look at the machine's job: no such point is listed, or retention has removed it"
    ),
    FailureCause.WRONG_OS: (
        "say which system it is (os: windows or linux); if that is right, its volumes cannot be "
        "read by the mount server"
    ),
    FailureCause.TIMEOUT: (
        "look at the session in the backup server's console, or allow more time under timeouts"
    ),
    FailureCause.LOST: "look for an open file-level restore in the backup server's console",
    FailureCause.CONTENT: "compare what was expected with what was observed, below checks",
    FailureCause.OTHER: (
        "the reason is in the session of this restore, in the backup server's console"
    ),
}


def hint_of(cause: FailureCause, record: MountRecord, state: RunState) -> str:
    """Return what a person can do about a failure."""
    hint, said = HINTS[cause], (record.message or "").casefold()
    if cause is FailureCause.BUSY or not any(words in said for words in HOLDING_WORDS):
        return hint
    seen = seen_of(record, state)
    if seen is None or not (ran := sessions_on(record, seen)):
        return f"{hint}; a job or another restore seems to hold it"
    at = moment(state.moment(seen.at))
    return f"{hint}; a job or another restore seems to hold it; as of {at}: {'; '.join(ran)}"


def seen_of(record: MountRecord, state: RunState) -> ActivitySeen | None:
    """Return what the target's server showed last before its result; None: nothing is visible."""
    until = state.last_at if record.concluded_at is None else record.concluded_at
    shown = (each for each in state.servers[record.planned.server].activity if each.at <= until)
    return max(shown, key=lambda each: each.at, default=None)


def sessions_on(record: MountRecord, seen: ActivitySeen) -> Sequence[str]:
    """Return what the server showed at work on the target's machine, in words."""
    machine = record.planned.vm.casefold(), record.planned.backup_server.casefold()
    return [
        f"{each.words} works on {each.vm} since {moment(each.began_at)}"
        for each in seen.shown
        if (each.vm.casefold(), each.backup_server.casefold()) == machine
    ]
