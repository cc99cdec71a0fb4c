"""A selector and what a server listed become candidates: machines, each with its point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar, assert_never

from orchestrator.core.model import BackupServerName, RestorePoint, RestorePointId
from orchestrator.plan.choose.fitting import rfc3339
from orchestrator.plan.choose.inventory import Inventory, Machine, question
from orchestrator.plan.choose.sampling import Draw, draw_sample, entry_place, lot, sample_note
from orchestrator.plan.choose.selection import NoChoice, PointChoice, choose
from orchestrator.plan.file.left_out import LeftOut, left_out_by
from orchestrator.plan.file.naming import names_left_out
from orchestrator.plan.file.selectors import SELECTORS, SelectorKind
from orchestrator.plan.file.settings import Entry, PolicyName

F = TypeVar("F", PointChoice, NoChoice)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One target to be, before keys are given: a chosen point, or the reason for none.

    `suffix` tells several points of one machine apart.
    """

    entry: Entry
    name: str
    backup_server: BackupServerName | None
    choice: PointChoice | NoChoice
    several: bool = False
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchResult:
    """What an entry means on its server; `machines` is None where the server did not say."""

    machines: int | None
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def match(
    entry: Entry, inventory: Inventory, *, now: datetime, draw: Draw, explain: bool = True
) -> MatchResult:
    """Return how many machines an entry matches, and its targets in a stable order.

    What was passed over is kept only to `explain`: it may be most of an inventory.
    """
    refusal = inventory.refusal(question(entry))
    if refusal is not None:
        return MatchResult(machines=None, candidates=(without_point(entry, refusal),))
    if entry.kind is SelectorKind.ID:
        return _match_id(entry, inventory)
    machines, left_out = _meant(entry, _machines(entry, inventory))
    if not machines:
        missing = _missing(entry, _nothing_matched(entry))
        return MatchResult(machines=0, candidates=missing, left_out=left_out)
    matched = len(machines)
    if entry.kind is SelectorKind.VM and matched > 1 and not entry.all_backup_servers:
        candidate = without_point(entry, _ambiguous(entry, machines))
        return MatchResult(machines=matched, candidates=(candidate,))
    notes: tuple[str, ...] = ()
    how = ""
    if entry.sample is not None and not entry.of_file and draw.sampling:
        machines, taken = draw_sample(
            machines,
            entry.sample,
            draw,
            place=entry_place(entry),
            name=lambda m: (entry.server, m.vm, m.backup_server),
        )
        notes = (sample_note(entry.sample, taken),)
        how = f"; in a sample of {taken.chosen} of {taken.of} machines ({taken.how})"
    candidates = tuple(
        candidate
        for machine in machines
        for candidate in _candidates(entry, machine, now=now, draw=draw, how=how, explain=explain)
    )
    return MatchResult(machines=matched, candidates=candidates, notes=notes, left_out=left_out)


def without_point(entry: Entry, why: str) -> Candidate:
    """Return the one target of an entry for which nothing could be chosen."""
    return Candidate(
        entry=entry,
        name=name_without_machine(entry),
        backup_server=entry.backup_server,
        choice=NoChoice(why=why),
    )


def name_without_machine(entry: Entry) -> str:
    """Return what the one target of an entry is called while its machines are not known."""
    name = f"{entry.kind}:{entry.value}" if SELECTORS[entry.kind].several else entry.value
    return name if entry.label is None else entry.label


# --- machines ------------------------------------------------------------------------------


def _machines(entry: Entry, inventory: Inventory) -> list[Machine]:
    match entry.kind:
        case SelectorKind.JOB:
            return inventory.machines_of_job(entry.source, entry.value)
        case SelectorKind.MATCH:
            return inventory.machines_like(entry.source, entry.value, entry.backup_server)
        case SelectorKind.QUERY:
            return inventory.machines_returned(entry.source, question(entry).value)
        case SelectorKind.VM:
            return inventory.machines(entry.source, entry.value)
        case SelectorKind.ID:
            return []  # no machine but one point, see `_match_id`
        case _:
            assert_never(entry.kind)


def _meant(entry: Entry, machines: list[Machine]) -> tuple[list[Machine], tuple[LeftOut, ...]]:
    """Return the machines behind the entry's backup server that it does not exclude, and the rest.

    Of a glob's machines behind other backup servers nothing is known: only one was asked for.
    """
    behind = machines
    if entry.backup_server is not None:
        behind = [each for each in machines if each.backup_server == entry.backup_server]
    excluded = names_left_out(entry.exclude, {machine.vm for machine in behind})
    meant = [machine for machine in behind if machine.vm not in excluded]
    if len(meant) == len(machines):
        return meant, ()
    elsewhere = [
        f"{each.vm} (behind {each.backup_server})"
        for each in machines
        if each.backup_server != entry.backup_server and len(behind) < len(machines)
    ]
    named = partial(left_out_by, place=entry.place, subject=f"{entry.kind} {entry.value!r}")
    gone = [machine.vm for machine in behind if machine.vm in excluded]
    return meant, (*named("backup_server", elsewhere), *named("exclude", gone))


def _match_id(entry: Entry, inventory: Inventory) -> MatchResult:
    point = inventory.point(entry.source, RestorePointId(entry.value))
    if point is None:
        why = "the server lists no such restore point, or not to this account"
        return MatchResult(machines=0, candidates=_missing(entry, why))
    candidate = Candidate(
        entry=entry,
        name=entry.label or point.vm,
        backup_server=point.backup_server,
        choice=PointChoice(point=point, why="named by its id"),
    )
    return MatchResult(machines=1, candidates=(candidate,))


def _missing(entry: Entry, why: str) -> tuple[Candidate, ...]:
    """Return the target that reports an empty match, unless the plan allows one."""
    if entry.expect is not None and entry.expect.min == 0:
        return ()
    return (without_point(entry, why),)


def _nothing_matched(entry: Entry) -> str:
    what = f"{entry.kind} {entry.value!r}"
    behind = f" behind {entry.backup_server!r}" if entry.backup_server is not None else ""
    left = " after 'exclude'" if entry.exclude else ""
    return f"the server lists no restore point for {what}{behind}{left}"


def _ambiguous(entry: Entry, machines: Iterable[Machine]) -> str:
    names = ", ".join(f"{m.vm!r} behind {m.backup_server!r}" for m in machines)
    return f"the name is ambiguous ({names}): say which with 'backup_server', or 'all: true'"


# --- points ----------------------------------------------------------------------------------


def _candidates(
    entry: Entry, machine: Machine, *, now: datetime, draw: Draw, how: str, explain: bool
) -> Iterator[Candidate]:
    """Yield the targets of one machine; `how` it got among the others ends their reasons."""
    place = entry_place(entry)

    def lots(seed: int | None, point: RestorePointId) -> bytes:
        chosen = draw.seed if seed is None else seed
        return lot(chosen, place, machine.vm, machine.backup_server, point)

    choices = choose(machine.points, entry.point, now=now, lots=lots)
    nothing = Candidate(
        entry=entry,
        name=entry.label or machine.vm,
        backup_server=machine.backup_server,
        choice=_explained(choices, explain) if isinstance(choices, NoChoice) else NoChoice(why=""),
        several=entry.all_backup_servers,
    )
    if isinstance(choices, NoChoice):
        yield nothing
        return
    if entry.point.policy is PolicyName.RANDOM:
        seed = draw.seed if entry.point.seed is None else entry.point.seed
        how = f"; seed {seed}{how}"
    every = entry.point.policy is PolicyName.EVERY
    suffixes = _suffixes([choice.point for choice in choices]) if every else [""]
    for choice, suffix in zip(choices, suffixes, strict=True):
        with_how = replace(_explained(choice, explain), why=choice.why + how)
        yield replace(nothing, choice=with_how, suffix=suffix)


def _explained(choice: F, explain: bool) -> F:
    return choice if explain else replace(choice, passed=())


def _suffixes(points: list[RestorePoint]) -> list[str]:
    """Return what tells the points of one machine apart: their time, and ids within a second."""
    times = [rfc3339(point.created_at) for point in points]
    within = Counter(times)
    return [
        f"@{time}" if within[time] == 1 else f"@{time}-{point.id[:8]}"
        for time, point in zip(times, points, strict=True)
    ]
