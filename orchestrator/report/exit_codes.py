"""How a run ends, as one number. The table exists here and nowhere else."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

from orchestrator.lifecycle import MountRecord
from orchestrator.model import MountState, Result
from orchestrator.report.objectives import run_objectives, target_objectives, wave_objectives
from orchestrator.runstate import RunState


class ExitCode(IntEnum):
    """The documented exit codes; an unlisted code counts as a failure."""

    about: str

    def __new__(cls, value: int, about: str) -> Self:
        """Attach the sentence that help and README show."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.about = about
        return member

    GOOD = (
        0,
        "every required target is verified (or mounted, where the plan asks for no check), "
        "objectives met, nothing left mounted",
    )
    NOT_GOOD = (
        1,
        "the run ended and the answer is no: a target failed or was skipped, or an objective "
        "was missed",
    )
    USAGE = (2, "usage or plan error; nothing was sent")
    IN_DOUBT = (
        3,
        "in doubt: an outcome is unknown or a mount may be left; a person must look",
    )
    UNUSABLE = (
        4,
        "no server could be used (unreachable, certificate, logon, role), or the readiness "
        "check failed; nothing was mounted",
    )
    HALTED = (
        5,
        "halted before the end by the failure budget, the deadline, an outage or a critical "
        "target; resumable",
    )
    LOCKED = (6, "another run holds the lock of this plan")
    INTERNAL = (70, "internal error")
    LOCAL_IO = (74, "local I/O fault (journal or report not writable)")
    SIGINT = (130, "stopped by SIGINT, everything unmounted, resumable")
    SIGTERM = (143, "stopped by SIGTERM, everything unmounted, resumable")


PRECEDENCE = (
    ExitCode.INTERNAL,
    ExitCode.LOCAL_IO,
    ExitCode.IN_DOUBT,
    ExitCode.SIGINT,
    ExitCode.SIGTERM,
    ExitCode.UNUSABLE,
    ExitCode.HALTED,
    ExitCode.NOT_GOOD,
)
"""Several at once: the first of these that applies."""

IN_DOUBT_MOUNTS = frozenset({MountState.LEFT, MountState.UNKNOWN, MountState.KEPT})
"""What a run may not end with unsaid; `kept` too, once nobody is there to end the hold."""


def exit_code(state: RunState) -> ExitCode:
    """Return how the run ends by what was recorded; internal and local faults are the caller's."""
    applies = set(_reasons(state))
    return next((code for code in PRECEDENCE if code in applies), ExitCode.GOOD)


def _reasons(state: RunState) -> list[ExitCode]:
    records = list(state.records.values())
    submitted = any(record.attempts for record in records)
    found: list[ExitCode] = []
    if any(_is_in_doubt(record) for record in records):
        found.append(ExitCode.IN_DOUBT)
    if state.stops:
        terminated = state.stops[0].signal == "SIGTERM"
        found.append(ExitCode.SIGTERM if terminated else ExitCode.SIGINT)
    if not submitted and _nothing_usable(state):
        found.append(ExitCode.UNUSABLE)
    if state.halted is not None or _outage(state):
        found.append(ExitCode.HALTED)
    if any(not _is_good(record, state) for record in records) or not _objectives_met(state):
        found.append(ExitCode.NOT_GOOD)
    return found


def _is_in_doubt(record: MountRecord) -> bool:
    return record.result is Result.UNKNOWN or record.mount_state in IN_DOUBT_MOUNTS


def _is_good(record: MountRecord, state: RunState) -> bool:
    if record.result is Result.MOUNTED:
        return not state.started.require_checks
    return record.result is Result.VERIFIED


def _nothing_usable(state: RunState) -> bool:
    if state.halted is not None and state.halted.reason == "expect":
        return True
    servers = state.servers.values()
    return bool(servers) and all(server.given_up is not None for server in servers)


def _outage(state: RunState) -> bool:
    """Tell whether a server stayed out of reach and targets were skipped for it."""
    lost = {
        name
        for name, server in state.servers.items()
        if server.given_up is not None and not server.given_up.refused
    }
    return any(
        record.result is Result.SKIPPED and record.planned.server in lost
        for record in state.records.values()
    )


def _objectives_met(state: RunState) -> bool:
    everything = [
        *run_objectives(state),
        *wave_objectives(state),
        *(each for record in state.records.values() for each in target_objectives(record, state)),
    ]
    return all(objective.met for objective in everything)
