"""The exit code of a run: which of `model.ExitCode` applies, and why.

Reports that cannot be written (74) and internal errors (70) are decided in `app/outcome.py`, errors
outside of a run in `cli/ending.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from orchestrator.core.exit_codes import (
    DECLINED,
    NOTHING_MOUNTED,
    ExitCode,
    exit_words,
    short_words,
)
from orchestrator.core.lifecycle import FIRM_RESULTS, MountRecord
from orchestrator.core.model import MountState, Result
from orchestrator.core.run_state import RunState, good_results
from orchestrator.core.text import counted
from orchestrator.report.objective_values import Objective
from orchestrator.report.objectives import common_objectives, target_objectives

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

NOT_BEGUN = frozenset({"not_sent", "refused"})
"""Outcomes of attempts with which nothing was mounted."""

UNCHECKED = "nothing was checked (--require-checks)"


def exit_code(state: RunState) -> ExitCode:
    """Return how the run ends by what was recorded; internal and local faults are the caller's."""
    applies = set(_reasons(state))
    return next((code for code in PRECEDENCE if code in applies), ExitCode.GOOD)


def _reasons(state: RunState) -> list[ExitCode]:
    records = list(state.records.values())
    codes: list[ExitCode] = []
    if state.left_open or any(record.result is Result.UNKNOWN for record in records):
        codes.append(ExitCode.IN_DOUBT)
    if state.stops:
        terminated = state.stops[0].signal == "SIGTERM"
        codes.append(ExitCode.SIGTERM if terminated else ExitCode.SIGINT)
    if _nothing_usable(state):
        codes.append(ExitCode.UNUSABLE)
    if is_damaged(state):
        codes.append(ExitCode.IN_DOUBT)
    if state.halted is not None and state.halted.reason == "selection":
        codes.append(ExitCode.NOT_GOOD)
    elif halted(state) is not None:
        codes.append(ExitCode.HALTED)
    are_good = all(_is_good(record, state) for record in records)
    if not (are_good and all(objective.met for objective in _objectives(state))):
        codes.append(ExitCode.NOT_GOOD)
    return codes


def _is_good(record: MountRecord, state: RunState) -> bool:
    return record.result in good_results(require_checks=state.started.require_checks)


def _nothing_usable(state: RunState) -> bool:
    """Return whether nothing was mounted, because no server could be used or a guard was broken.

    Servers that have no part in a narrowed run do not count. Where mounts were asked for, only
    servers that refuse them all were of no use; one that fell silent halted the run.
    """
    records = list(state.records.values())
    outcomes = {attempt.outcome for record in records for attempt in record.attempts}
    if outcomes - NOT_BEGUN:
        return False
    asked = set() if state.started.is_whole else {record.planned.server for record in records}
    named = asked or state.servers.keys()
    given_up = [state.servers[name].given_up for name in named]
    unusable = bool(given_up) and None not in given_up
    if outcomes:
        return unusable and all(each is not None and each.refused for each in given_up)
    return unusable or (state.halted is not None and state.halted.reason == "expect")


def halted(state: RunState) -> str | None:
    """Return why the run ended early: by its own decision, or because a server fell silent.

    A server is named if targets were skipped for it.
    """
    why = [f"{state.halted.reason}: {state.halted.detail}"] if state.halted is not None else []
    for name, server in state.servers.items():
        skipped = sum(
            record.result is Result.SKIPPED and record.planned.server == name
            for record in state.records.values()
        )
        if server.given_up is not None and not server.given_up.refused and skipped:
            reason = server.given_up.reason.removeprefix(f"{name}: ")
            why.append(f"outage: {name}: {reason}; {counted(skipped, 'target')} skipped")
    return "; ".join(why) or None


def reasons(state: RunState) -> tuple[str, ...]:
    """Return everything that the exit code is about, in words; nothing for a good run."""
    records = list(state.records.values())
    results = Counter(record.result for record in records)
    mounts = Counter(record.mount_state for record in records)
    missed = sum(not objective.met for objective in _objectives(state))
    unchecked = sum(is_unchecked(record, state) for record in records)
    counts = [
        (mounts[MountState.LEFT], "mount", "left open"),
        (len(state.strays), "mount", "of no target left open"),
        (mounts[MountState.UNKNOWN], "mount", "may be open"),
        (mounts[MountState.KEPT], "mount", "held open"),
        (results[Result.UNKNOWN], "target", "unknown"),
        (results[Result.FAILED], "target", "failed"),
        (results[Result.SKIPPED], "target", "skipped"),
        (results[Result.CANCELLED], "target", "cancelled"),
        (results[None], "target", "without a result yet"),
        (unchecked, "target", f"mounted, and {UNCHECKED}"),
        (missed, "objective", "missed"),
    ]
    why = halted(state)
    trouble = state.finished.trouble if state.finished else None
    parts = [trouble] if trouble else []
    parts += [f"halted: {why}"] if why else []
    parts += [_stopped(state.stops[0].signal)] if state.stops else []
    if _nothing_usable(state):
        parts += [
            f"{name} could not be used: {server.given_up.reason.removeprefix(f'{name}: ')}"
            for name, server in state.servers.items()
            if server.given_up is not None and server.given_up.refused  # silent ones halt the run
        ]
    parts += [each.damaged for each in state.servers.values() if each.damaged is not None]
    parts += state.left_open.unknown
    parts += [f"{counted(number, thing)} {what}" for number, thing, what in counts if number]
    if not parts and state.finished is not None and state.finished.exit_code == ExitCode.IN_DOUBT:
        return ("what was or might be open when the run ended has been released since",)
    return tuple(parts)


def end_words(code: int, why: Sequence[str]) -> str:
    """Return what an exit code means, in a sentence for a heading."""
    return NOTHING_MOUNTED if NOTHING_MOUNTED in why else exit_words(code)


def end_in_a_line(code: int, why: Sequence[str]) -> tuple[str, str]:
    """Return what an exit code means, shortly, and the reasons beside it; "": there are none."""
    rest = [each for each in why if each != NOTHING_MOUNTED]
    if not why or len(rest) < len(why):
        return end_words(code, why), "; ".join(rest)
    return short_words(code), "; ".join(_halt.sub(r"halted (\1): ", each) for each in rest)


_halt = re.compile(r"^halted: (\w+): ")


def _stopped(signal: str) -> str:
    return NOTHING_MOUNTED if signal == DECLINED else f"stopped by {signal}"


def is_unchecked(record: MountRecord, state: RunState) -> bool:
    """Return whether a target was only mounted although `--require-checks` asks for more."""
    return record.result in FIRM_RESULTS and not _is_good(record, state)


def _objectives(state: RunState) -> list[Objective]:
    of_targets = (target_objectives(record, state) for record in state.records.values())
    return [*common_objectives(state), *chain.from_iterable(of_targets)]


def is_damaged(state: RunState) -> bool:
    """Return whether records of the run are lost: what they told of cannot be known."""
    is_halted = state.halted is not None and state.halted.reason == "journal"
    return is_halted or any(server.damaged is not None for server in state.servers.values())
