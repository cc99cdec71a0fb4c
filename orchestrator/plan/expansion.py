"""A plan and what its servers listed become mount requests, each with a stable key.

Deterministic: the same plan and inventory give the same targets in the same order with the
same keys. A key is `wave/server/name`, the name being the target's label or else the
machine's; where one name stands for machines of several backup servers, `@backup-server`
follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from orchestrator.model import (
    BackupServerName,
    MountKey,
    MountRequest,
    RestorePointId,
    ServerName,
    Source,
    UnresolvedTarget,
    WaveName,
)
from orchestrator.plan.downloads import downloads_of
from orchestrator.plan.inventory import Inventory, Machine
from orchestrator.plan.selection import Choice, NoChoice, choose
from orchestrator.plan.settings import Entry, Expectation, RestorePlan, SelectorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What the plan means for the servers that were asked.

    `broken` are sentences about the whole plan (an `expect` guard, a VM selected twice): with
    any of them nothing may be mounted. `pending` are the entries of servers not yet asked.
    """

    requests: tuple[MountRequest, ...]
    unresolved: tuple[UnresolvedTarget, ...]
    broken: tuple[str, ...]
    pending: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """One target to be, before keys are given: a chosen point, or the reason for none."""

    entry: Entry
    name: str
    backup_server: BackupServerName | None
    found: Choice | NoChoice
    several: bool = False


@dataclass(slots=True)
class _Count:
    """How many machines an `expect` guard has seen; complete once every server was asked."""

    expect: Expectation
    matched: int = 0
    is_complete: bool = True


def expand(
    plan: RestorePlan, inventories: Mapping[ServerName, Inventory], *, now: datetime
) -> Expansion:
    """Return the targets of every server in `inventories`; ages are measured back from `now`.

    Servers can be expanded apart: their targets and keys do not depend on one another.
    """
    candidates: list[_Candidate] = []
    pending: list[Entry] = []
    counts: dict[int, _Count] = {}
    for entry in plan.entries():
        inventory = inventories.get(entry.server)
        matched = 0
        if inventory is None:
            pending.append(entry)
        else:
            matched, found = _match(entry, inventory, now)
            candidates.extend(found)
        if entry.expect is not None:
            # The rows of one inventory file share one guard, so it is known by identity.
            count = counts.setdefault(id(entry.expect), _Count(entry.expect))
            count.matched += matched
            count.is_complete = count.is_complete and inventory is not None
    guards = tuple(_broken_guards(counts.values()))
    twice = tuple(_selected_twice(candidates))
    named = list(_with_keys(candidates))
    return Expansion(
        requests=tuple(
            _request(key, candidate, candidate.found)
            for key, candidate in named
            if isinstance(candidate.found, Choice)
        ),
        unresolved=tuple(
            _unresolved(key, candidate.entry, candidate.name, candidate.found.why)
            for key, candidate in named
            if isinstance(candidate.found, NoChoice)
        ),
        broken=(*guards, *twice, *_same_keys(named)),
        pending=tuple(pending),
    )


def placeholders(
    plan: RestorePlan, server: ServerName, *, reason: str
) -> tuple[UnresolvedTarget, ...]:
    """Return one target for each entry of a server that could never be asked.

    An entry for a whole job stays one target, called `job:NAME`: which machines it has is not
    known.
    """
    candidates = [
        _Candidate(
            entry=entry,
            name=_name(entry),
            backup_server=entry.backup_server,
            found=NoChoice(why=reason),
        )
        for entry in plan.entries(server)
    ]
    return tuple(
        _unresolved(key, candidate.entry, candidate.name, reason)
        for key, candidate in _with_keys(candidates)
    )


def _name(entry: Entry) -> str:
    """Return what a target is called as long as no machine is known."""
    if entry.label is not None:
        return entry.label
    return f"job:{entry.value}" if entry.kind is SelectorKind.JOB else entry.value


# --- selectors ---------------------------------------------------------------------------


def _match(entry: Entry, inventory: Inventory, now: datetime) -> tuple[int, list[_Candidate]]:
    """Return how many machines an entry matches, and its targets in a stable order."""
    if entry.kind is SelectorKind.ID:
        return _match_id(entry, inventory)
    if entry.kind is SelectorKind.JOB:
        machines = inventory.machines_of_job(entry.source, entry.value)
    else:
        machines = inventory.machines(entry.source, entry.value)
    machines = [machine for machine in machines if _is_meant(entry, machine)]
    if not machines:
        return 0, _missing(entry, _nothing_matched(entry))
    if entry.kind is SelectorKind.VM and len(machines) > 1 and not entry.all_backup_servers:
        return len(machines), [_none(entry, _ambiguous(entry, machines))]
    return len(machines), [
        _Candidate(
            entry=entry,
            name=entry.label or machine.vm,
            backup_server=machine.backup_server,
            found=choose(machine.points, entry.point, now=now),
            several=entry.all_backup_servers,
        )
        for machine in machines
    ]


def _match_id(entry: Entry, inventory: Inventory) -> tuple[int, list[_Candidate]]:
    point = inventory.point(entry.source, RestorePointId(entry.value))
    if point is None:
        return 0, _missing(entry, "the server lists no such restore point, or not to this account")
    candidate = _Candidate(
        entry=entry,
        name=entry.label or point.vm,
        backup_server=point.backup_server,
        found=Choice(point=point, why="named by its id"),
    )
    return 1, [candidate]


def _missing(entry: Entry, why: str) -> list[_Candidate]:
    """Return the target that stands for an empty match, unless the plan calls that fine."""
    if entry.expect is not None and entry.expect.min == 0:
        return []
    return [_none(entry, why)]


def _is_meant(entry: Entry, machine: Machine) -> bool:
    if entry.backup_server is not None and machine.backup_server != entry.backup_server:
        return False
    return not any(fnmatchcase(machine.vm, glob) for glob in entry.exclude)


def _none(entry: Entry, why: str) -> _Candidate:
    return _Candidate(
        entry=entry, name=_name(entry), backup_server=entry.backup_server, found=NoChoice(why=why)
    )


def _nothing_matched(entry: Entry) -> str:
    what = f"{entry.kind} {entry.value!r}"
    behind = f" behind {entry.backup_server!r}" if entry.backup_server is not None else ""
    left = " after 'exclude'" if entry.exclude else ""
    return f"the server lists no restore point for {what}{behind}{left}"


def _ambiguous(entry: Entry, machines: Iterable[Machine]) -> str:
    found = ", ".join(f"{m.vm!r} behind {m.backup_server!r}" for m in machines)
    return f"the name is ambiguous ({found}): say which with 'backup_server', or 'all: true'"


# --- what must hold for the whole plan -----------------------------------------------------


def _broken_guards(counts: Iterable[_Count]) -> Iterator[str]:
    for count in counts:
        expect = count.expect
        matches = f"{expect.place}: {expect.subject} matches {count.matched} machines"
        if expect.max is not None and count.matched > expect.max:
            yield f"{matches}, expected at most {expect.max}"
        elif count.is_complete and expect.min is not None and count.matched < expect.min:
            yield f"{matches}, expected at least {expect.min}"


def _selected_twice(candidates: Iterable[_Candidate]) -> Iterator[str]:
    """Yield a sentence for every machine that two entries select, naming both places."""
    first: dict[tuple[ServerName, Source, BackupServerName, str], Entry] = {}
    for candidate in candidates:
        if not isinstance(candidate.found, Choice):
            continue
        point, entry = candidate.found.point, candidate.entry
        other = first.setdefault((entry.server, entry.source, point.backup_server, point.vm), entry)
        if other is not entry:
            yield (
                f"{entry.place}: vm {point.vm!r} behind {point.backup_server!r} on server "
                f"{entry.server!r} is selected twice: by {other} and by {entry}"
            )


def _same_keys(named: Iterable[tuple[MountKey, _Candidate]]) -> Iterator[str]:
    """Yield a sentence for every key that two different machines would share."""
    first: dict[MountKey, _Candidate] = {}
    for key, candidate in named:
        other = first.setdefault(key, candidate)
        if other is not candidate and not _same_machine(other, candidate):
            yield (
                f"{candidate.entry.place}: two targets would be called {key!r}: by "
                f"{other.entry} and by {candidate.entry}; give one of them a label"
            )


def _same_machine(one: _Candidate, other: _Candidate) -> bool:
    """Return whether both chose a point of one machine, which is reported on its own."""
    if isinstance(one.found, NoChoice) or isinstance(other.found, NoChoice):
        return False
    a, b = one.found.point, other.found.point
    return (a.source, a.backup_server, a.vm) == (b.source, b.backup_server, b.vm)


# --- keys ----------------------------------------------------------------------------------


def _with_keys(candidates: Iterable[_Candidate]) -> Iterator[tuple[MountKey, _Candidate]]:
    """Yield every candidate with its key, the backup server added where names meet."""
    candidates = tuple(candidates)
    behind: dict[tuple[WaveName, ServerName, str], set[BackupServerName]] = {}
    for candidate in candidates:
        if candidate.backup_server is not None:
            behind.setdefault(_base(candidate), set()).add(candidate.backup_server)
    for candidate in candidates:
        base = _base(candidate)
        key = "/".join(base)
        shared = candidate.several or len(behind.get(base, ())) > 1
        if shared and candidate.backup_server is not None:
            key += f"@{candidate.backup_server}"
        yield MountKey(key), candidate


def _base(candidate: _Candidate) -> tuple[WaveName, ServerName, str]:
    return candidate.entry.wave, candidate.entry.server, candidate.name


def _request(key: MountKey, candidate: _Candidate, choice: Choice) -> MountRequest:
    entry = candidate.entry
    return MountRequest(
        key=key,
        wave=entry.wave,
        server=entry.server,
        label=candidate.name,
        point=choice.point,
        os_kind=entry.os_kind,
        critical=entry.critical,
        timeouts=entry.timeouts,
        retries=entry.retries,
        objectives=entry.objectives,
        policy=choice.why,
        place=entry.place,
        checks=entry.checks,
        downloads=downloads_of(entry, key),
    )


def _unresolved(key: MountKey, entry: Entry, name: str, reason: str) -> UnresolvedTarget:
    return UnresolvedTarget(
        key=key,
        wave=entry.wave,
        server=entry.server,
        label=name,
        reason=reason,
        critical=entry.critical,
        os_kind=entry.os_kind,
        source=entry.source,
        place=entry.place,
    )
