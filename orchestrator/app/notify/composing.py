"""The messages about a run, from its state and its end. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.core.events import RunHalted, WaveFinished
from orchestrator.core.exit_codes import exit_words, totals
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import MountState, Result
from orchestrator.core.run_state import RunState, good_results
from orchestrator.core.text import counted
from orchestrator.plan.file.settings import NotifyOn
from orchestrator.report.objective_values import Objective

NAMED = 20
"""Targets that one message names; the others are counted."""

OPEN = frozenset({MountState.LEFT, MountState.UNKNOWN})


class Notice(Struct, frozen=True, kw_only=True):
    """One message. `id` names it, so that a receiver recognises a repetition.

    `totals` count results by name; before the end they do not add up to `targets`.
    `text` is one sentence for people. `report` is the directory of the reports, at the end.
    """

    id: str
    event: NotifyOn
    at: datetime
    run: str
    plan: str
    mode: str
    reason: str | None
    version: str
    text: str
    good: bool = False
    totals: Mapping[str, int] = field(default_factory=dict)
    wave: str | None = None
    exit_code: int | None = None
    duration_s: float | None = None
    targets: tuple[MountRecord, ...] = ()
    """Those that it is about; their texts may be a server's and are not safe to show."""
    more_targets: int = 0
    objectives: tuple[Objective, ...] = ()
    """Recovery objectives that were missed."""
    report: str | None = None


class RunEnding(Struct, frozen=True, kw_only=True):
    """How a run ended, as in its report."""

    exit_code: int
    missed: tuple[Objective, ...]
    report: str
    trouble: str | None = None


def composed(event: object, state: RunState) -> Notice | None:
    """Return the message about an event of the run, if it is worth one."""
    match event:
        case RunHalted(detail=detail, at=at):
            text = f"{state.started.plan}: HALTED: {detail}; what is mounted is being unmounted"
            return _about(state, NotifyOn.HALTED, at, text, records=_not_good(state))
        case WaveFinished(wave=wave, at=at):
            records = [each for each in _not_good(state) if each.planned.wave == wave]
            if not records:
                return None
            text = f"{state.started.plan}: wave {wave} did not end well: {_counted(records)}"
            notice = _about(state, NotifyOn.WAVE_FAILED, at, text, records=records)
            return replace(notice, id=f"{notice.id}/{wave}", wave=wave)
        case _:
            return None


def composed_end(state: RunState, ending: RunEnding) -> Iterator[Notice]:
    """Yield the messages about the end of a run; the event `finished` comes first."""
    started, end = state.started, state.finished
    at = end.at if end is not None else state.last_at  # notes may follow the end
    code = ending.exit_code
    how = "ended well" if code == 0 else f"ended with exit code {code}"
    trouble = f"; {ending.trouble}" if ending.trouble else ""
    numbers = _totals(state)
    targets = numbers.pop("targets")
    counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in numbers.items() if n)
    text = (
        f"{started.plan}: {started.mode} {how}: {exit_words(code)}{trouble}. "
        f"{counted(targets, 'target')}" + (f": {counts}" if counts else "")
    )
    finished = _about(state, NotifyOn.FINISHED, at, text, records=_not_good(state))
    finished = replace(finished, good=code == 0, objectives=ending.missed)
    yield _at_the_end(finished, at, ending)
    if ending.missed:
        count = len(ending.missed)
        text = f"{started.plan}: {counted(count, 'recovery objective')} missed"
        missed = _about(state, NotifyOn.OBJECTIVE_MISSED, at, text)
        yield _at_the_end(replace(missed, objectives=ending.missed), at, ending)
    left = [record for record in state.records.values() if record.mount_state in OPEN]
    count = len(left) + len(state.strays)
    text = "; ".join(_what_is_left(state, count))
    if text:
        text = f"{started.plan}: {text}"
        leftover = _about(state, NotifyOn.LEFTOVER, at, text, records=left)
        yield _at_the_end(leftover, at, ending)


def _what_is_left(state: RunState, count: int) -> Iterator[str]:
    """Yield what may be open, and which command may still release it; nothing if nothing is."""
    if count:
        yield f"{counted(count, 'mount')} may still be open. {_what_can_be_done(state, count)}"
    unread = state.left_open.unknown
    yield from unread
    if unread and not count:
        command = f"bulk-restore unmount {state.started.run}"
        yield f"within 15 minutes this may release what is open: {command}"


def _what_can_be_done(state: RunState, left: int) -> str:
    """Return which of the mounts that are left a command may still release."""
    gone = state.out_of_reach
    command = f"bulk-restore unmount {state.started.run}"
    if not gone:
        return f"Within 15 minutes this may release {'it' if left == 1 else 'them'}: {command}"
    ended = "The session has ended" if left == gone == 1 else f"The session of {gone} has ended"
    ended += ": only a person can remove what is there, in the Veeam console"
    if gone >= left:
        return ended
    return f"Within 15 minutes this may release {left - gone}: {command}. {ended}"


def _about(
    state: RunState, event: NotifyOn, at: float, text: str, *, records: Iterable[MountRecord] = ()
) -> Notice:
    started, concerned = state.started, list(records)
    return Notice(
        id=f"{started.run}/{len(state.resumed)}/{event}",
        event=event,
        at=state.moment(at),
        run=started.run,
        plan=started.plan,
        mode=started.mode,
        reason=started.reason,
        version=started.version,
        text=text,
        totals=_totals(state),
        targets=tuple(concerned[:NAMED]),
        more_targets=max(0, len(concerned) - NAMED),
    )


def _at_the_end(notice: Notice, at: float, ending: RunEnding) -> Notice:
    """Return a message with what is known only at the end."""
    return replace(
        notice, exit_code=ending.exit_code, report=ending.report, duration_s=round(at, 3)
    )


def _not_good(state: RunState) -> list[MountRecord]:
    """Return the targets that have a result and not a good one; what may be open comes first."""
    good = good_results(require_checks=state.started.require_checks)
    bad = [
        record
        for record in state.records.values()
        if record.mount_state in OPEN or (record.result is not None and record.result not in good)
    ]
    rank = {Result.UNKNOWN: 1, Result.FAILED: 2}
    return sorted(
        bad,
        key=lambda record: (
            0 if record.mount_state in OPEN else rank.get(record.result or Result.UNKNOWN, 3)
        ),
    )


def _counted(records: Iterable[MountRecord]) -> str:
    counts = Counter(record.result.value if record.result else "open" for record in records)
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _totals(state: RunState) -> dict[str, int]:
    records = state.records.values()
    results = (record.result for record in records)
    mounts = (record.mount_state for record in records if record.result is not None)
    return totals(len(records), results, mounts, strays=len(state.strays))
