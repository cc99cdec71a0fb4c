"""A plan and what its servers listed become mount requests, each with a stable key.

Deterministic: the same plan and inventory give the same targets in the same order with the
same keys. A key is `wave/server/name`, the name being the target's label or else the
machine's; where one name means machines of several backup servers, `@backup-server`
follows, and where several points of a machine are targets (`every`), `@` and the point's time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from msgspec import Struct, field

from orchestrator.core.model import (
    BackupServerName,
    MountKey,
    MountRequest,
    ServerName,
    UnresolvedTarget,
    WaveName,
    same_fields,
)
from orchestrator.core.text import counted, duration, printable
from orchestrator.plan.choose.guards import MachineCount, broken_guards, same_keys, selected_twice
from orchestrator.plan.choose.inventory import SHOWN_SET_ASIDE, Inventory
from orchestrator.plan.choose.matching import Candidate, match, without_point
from orchestrator.plan.choose.sampling import Draw, rows_left_out
from orchestrator.plan.choose.selection import NoChoice, PointChoice, PointPassedOver
from orchestrator.plan.file.downloads import downloads_of
from orchestrator.plan.file.left_out import LeftOut
from orchestrator.plan.file.selectors import SELECTORS, SelectorKind
from orchestrator.plan.file.settings import Entry, RestorePlan


class Expansion(Struct, frozen=True, kw_only=True):
    """What the plan means for the servers that were asked.

    `broken` are sentences about the whole plan (an `expect` guard, a VM selected twice): with
    any of them nothing may be mounted. `pending` are the entries of servers not yet asked.
    `matched` is how many machines each `expect` guard has counted, by its place in the plan.
    `passed` are the points of a target's machine that were not chosen; of the targets in
    `queried` they are the rest of what a query returned. `notes` say what samples took,
    and what servers listed that could not be read. `left_out` are the machines that `exclude` and
    `backup_server` took away. `elsewhere` is how many targets other parts of the plan take.
    """

    requests: tuple[MountRequest, ...]
    unresolved: tuple[UnresolvedTarget, ...]
    broken: tuple[str, ...] = ()
    pending: tuple[Entry, ...] = ()
    matched: Mapping[str, int] = field(default_factory=dict)
    passed: Mapping[MountKey, tuple[PointPassedOver, ...]] = field(default_factory=dict)
    queried: frozenset[MountKey] = frozenset()
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    elsewhere: int = 0


def expand(
    plan: RestorePlan,
    inventories: Mapping[ServerName, Inventory],
    *,
    now: datetime,
    draw: Draw | None = None,
    explain: bool = True,
) -> Expansion:
    """Return the targets of every server in `inventories`; ages are measured back from `now`.

    `now` is this machine's time: what a server's clock shows meanwhile is what counts for its
    points. A moment that the plan names counts as it is.
    Servers can be expanded apart: their targets and keys do not depend on one another.
    Without `explain`, nothing is kept of the points passed over.
    """
    draw = draw or Draw()
    left_out, noted = rows_left_out(plan, draw)
    notes = [*noted, *unread_notes(inventories)]
    candidates: list[Candidate] = []
    pending: list[Entry] = []
    left_out_machines: list[LeftOut] = []
    counts: dict[int, MachineCount] = {}
    for entry in plan.entries():
        inventory = inventories.get(entry.server)
        machines: int | None = None
        if id(entry) in left_out and entry.expect is None:
            continue
        if inventory is not None:
            its_now = inventory.clock(now)
            matched = match(entry, inventory, now=its_now, draw=draw, explain=explain)
            machines = matched.machines
            if id(entry) not in left_out:  # those count only for the guard
                candidates.extend(matched.candidates)
                notes.extend(matched.notes)
                left_out_machines.extend(matched.left_out)
        elif id(entry) not in left_out:
            pending.append(entry)
        _count(entry, machines, counts)
    named = tuple(_with_keys(candidates))
    requests = tuple(
        _request(key, candidate, candidate.choice)
        for key, candidate in named
        if isinstance(candidate.choice, PointChoice)
    )
    unresolved = tuple(
        _unresolved(key, candidate, candidate.choice.why)
        for key, candidate in named
        if isinstance(candidate.choice, NoChoice)
    )
    return Expansion(
        requests=requests,
        unresolved=unresolved,
        broken=(*broken_guards(counts.values()), *selected_twice(candidates), *same_keys(named)),
        pending=tuple(pending),
        matched={count.expect.place: count.matched for count in counts.values()},
        passed={key: each.choice.passed for key, each in named if each.choice.passed},
        queried=frozenset(key for key, candidate in named if _is_queried(candidate.entry)),
        notes=(*notes, *future_notes(requests, inventories, now)),
        left_out=tuple(left_out_machines),
    )


def _count(entry: Entry, machines: int | None, counts: dict[int, MachineCount]) -> None:
    """Count the machines of an entry for its guard; None: its server did not list."""
    if entry.expect is not None:
        # The rows of one inventory file share one guard, so it is known by identity.
        count = counts.setdefault(id(entry.expect), MachineCount(entry.expect))
        count.matched += machines or 0
        count.is_complete = count.is_complete and machines is not None


def _is_queried(entry: Entry) -> bool:
    return SELECTORS[entry.kind].asked_as is SelectorKind.QUERY


def unread_notes(inventories: Mapping[ServerName, Inventory]) -> list[str]:
    """Return for each server what it listed and could not be read."""
    return [
        f"{name}: {inventory.unread}"
        for name, inventory in inventories.items()
        if inventory.unread is not None
    ]


def future_notes(
    requests: Iterable[MountRequest], inventories: Mapping[ServerName, Inventory], now: datetime
) -> list[str]:
    """Return for each server which chosen points claim to be from the future."""
    points_of: dict[ServerName, list[str]] = {}
    for request in requests:
        inventory = inventories.get(request.server)
        if inventory is not None and inventory.is_future(request.point, now):
            ahead = request.point.created_at - inventory.clock(now)
            words = f"{printable(request.point.name, 100)}, {duration(ahead.total_seconds())} ahead"
            points_of.setdefault(request.server, []).append(words)
    return [
        f"{name}: {counted(len(points), 'restore point')} from the future by the server's own "
        f"clock ({'; '.join(points[:SHOWN_SET_ASIDE])}"
        f"{'; …' if len(points) > SHOWN_SET_ASIDE else ''}): age and RPO are not known"
        for name, points in points_of.items()
    ]


def placeholders(
    plan: RestorePlan, server: ServerName, *, reason: str, draw: Draw | None = None
) -> tuple[UnresolvedTarget, ...]:
    """Return one target for each entry of a server that could never be asked.

    An entry for several machines stays one target, called `job:NAME` or the like: which
    machines it has is not known.
    """
    left_out, _notes = rows_left_out(plan, draw or Draw())
    candidates = [
        without_point(entry, reason) for entry in plan.entries(server) if id(entry) not in left_out
    ]
    return tuple(_unresolved(key, candidate, reason) for key, candidate in _with_keys(candidates))


# --- keys ----------------------------------------------------------------------------------


def _with_keys(candidates: Iterable[Candidate]) -> Iterator[tuple[MountKey, Candidate]]:
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
        yield MountKey(key + candidate.suffix), candidate


def _base(candidate: Candidate) -> tuple[WaveName, ServerName, str]:
    return candidate.entry.wave, candidate.entry.server, candidate.name


def _request(key: MountKey, candidate: Candidate, choice: PointChoice) -> MountRequest:
    entry = candidate.entry
    return same_fields(
        MountRequest,
        entry,
        key=key,
        label=candidate.name + candidate.suffix,
        point=choice.point,
        policy=choice.why,
        downloads=downloads_of(entry, key),
        search=choice.search,
        incident_at=entry.point.incident_time,
    )


def _unresolved(key: MountKey, candidate: Candidate, reason: str) -> UnresolvedTarget:
    return same_fields(
        UnresolvedTarget, candidate.entry, key=key, label=candidate.name, reason=reason
    )
