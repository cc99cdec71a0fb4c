"""From what is known of a run to the messages about it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from orchestrator.events import RunHalted, WaveFinished
from orchestrator.lifecycle import FIRM_RESULTS, MountRecord
from orchestrator.model import MountState, Result, counted
from orchestrator.notifying.notice import Concerned, Missed, Notice
from orchestrator.plan.settings import NotifyOn
from orchestrator.runstate import RunState

NAMED = 20
"""Targets that one message names; the others are counted."""

OPEN = frozenset({MountState.LEFT, MountState.UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended, as its report says it; `meaning` is that of the exit code."""

    exit_code: int
    meaning: str
    missed: tuple[Missed, ...]
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
            return replace(notice, wave=wave)
        case _:
            return None


def composed_end(state: RunState, ending: Ending) -> Iterator[Notice]:
    """Yield the messages about the end of a run; the one that says `finished` is first."""
    started, end = state.started, state.finished
    at = end.at if end is not None else state.last_at  # notes may follow the end
    code = ending.exit_code
    how = "ended well" if code == 0 else f"ended with exit code {code}"
    trouble = f"; {ending.trouble}" if ending.trouble else ""
    totals = _totals(state)
    counts = ", ".join(
        f"{n} {name.replace('_', ' ')}" for name, n in totals.items() if n and name != "targets"
    )
    text = (
        f"{started.plan}: {started.mode} {how}: {ending.meaning}{trouble}. "
        f"{counted(totals['targets'], 'target')}" + (f": {counts}" if counts else "")
    )
    finished = _about(state, NotifyOn.FINISHED, at, text, records=_not_good(state))
    finished = replace(finished, good=code == 0, objectives=ending.missed)
    yield _at_the_end(finished, state, ending)
    if ending.missed:
        count = len(ending.missed)
        text = f"{started.plan}: {counted(count, 'recovery objective')} missed"
        missed = _about(state, NotifyOn.OBJECTIVE_MISSED, at, text)
        yield _at_the_end(replace(missed, objectives=ending.missed), state, ending)
    left = [record for record in state.records.values() if record.mount_state in OPEN]
    if left:
        text = (
            f"{started.plan}: {counted(len(left), 'mount')} may still be open. Within 15 minutes "
            f"this may release {'it' if len(left) == 1 else 'them'}: "
            f"bulk-restore unmount {started.run}"
        )
        leftover = _about(state, NotifyOn.LEFTOVER, at, text, records=left)
        yield _at_the_end(leftover, state, ending)


def is_worth_telling(state: RunState) -> bool:
    """Tell whether anything was begun: who says no to the question need not be told of it."""
    return not any(stop.signal == "declined" for stop in state.stops)


def _about(
    state: RunState,
    event: NotifyOn,
    at: float,
    text: str,
    *,
    records: Iterable[MountRecord] = (),
) -> Notice:
    started, found = state.started, list(records)
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
        targets=tuple(_concerned(record) for record in found[:NAMED]),
        more_targets=max(0, len(found) - NAMED),
    )


def _at_the_end(notice: Notice, state: RunState, ending: Ending) -> Notice:
    """Return a message with what is known only at the end."""
    seconds = state.finished.at if state.finished else state.last_at
    return replace(
        notice, exit_code=ending.exit_code, report=ending.report, duration_s=round(seconds, 3)
    )


def _not_good(state: RunState) -> list[MountRecord]:
    """Return the targets that have a result and not a good one; what may be open comes first."""
    found = [
        record
        for record in state.records.values()
        if record.mount_state in OPEN
        or (record.result is not None and record.result not in FIRM_RESULTS)
    ]
    rank = {Result.UNKNOWN: 1, Result.FAILED: 2}
    return sorted(
        found,
        key=lambda record: (
            0 if record.mount_state in OPEN else rank.get(record.result or Result.UNKNOWN, 3)
        ),
    )


def _counted(records: Iterable[MountRecord]) -> str:
    counts = Counter(record.result.value if record.result else "open" for record in records)
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _totals(state: RunState) -> dict[str, int]:
    records = state.records.values()
    results = Counter(record.result for record in records)
    totals = {"targets": len(records)}
    totals.update({result.value: results[result] for result in Result})
    mounts = Counter(record.mount_state for record in records if record.result is not None)
    totals["left"] = mounts[MountState.LEFT]
    totals["may_be_mounted"] = mounts[MountState.UNKNOWN]
    return totals


def _concerned(record: MountRecord) -> Concerned:
    planned = record.planned
    return Concerned(
        key=planned.key,
        server=planned.server,
        vm=planned.vm,
        result=record.result.value if record.result else None,
        mount=record.mount_state.value,
        message=record.message,
    )
