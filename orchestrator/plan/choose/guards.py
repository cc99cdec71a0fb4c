"""What must hold for a whole plan once its servers have listed their points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from msgspec import Struct

from orchestrator.core.model import BackupServerName, MountKey, ServerName, Source
from orchestrator.plan.choose.inventory import Listing
from orchestrator.plan.choose.matching import Candidate
from orchestrator.plan.choose.selection import NoChoice, PointChoice
from orchestrator.plan.file.settings import Entry, Expectation


class MachineCount(Struct):
    """How many machines an `expect` guard has seen; complete once every server has answered."""

    expect: Expectation
    matched: int = 0
    is_complete: bool = True


def broken_guards(counts: Iterable[MachineCount]) -> Iterator[str]:
    """Yield a sentence for every selector that matches more or fewer machines than expected."""
    for count in counts:
        expect = count.expect
        matches = f"{expect.place}: {expect.subject} matches {count.matched} machines"
        if expect.max is not None and count.matched > expect.max:
            yield f"{matches}, expected at most {expect.max}"
        elif count.is_complete and expect.min is not None and count.matched < expect.min:
            yield f"{matches}, expected at least {expect.min}"


def selected_twice(candidates: Iterable[Candidate]) -> Iterator[str]:
    """Yield a sentence for every machine that two entries select, naming both places."""
    first: dict[tuple[ServerName, Source, BackupServerName, str], Entry] = {}
    reports: set[tuple[object, ...]] = set()
    for candidate in candidates:
        if not isinstance(candidate.choice, PointChoice):
            continue
        point, entry = candidate.choice.point, candidate.entry
        machine = (entry.server, entry.source, point.backup_server, point.vm)
        other = first.setdefault(machine, entry)
        if other is not entry and (machine, id(entry)) not in reports:
            reports.add((machine, id(entry)))
            yield (
                f"{entry.place}: vm {point.vm!r} behind {point.backup_server!r} on server "
                f"{entry.server!r} is selected twice: by {other} and by {entry}"
            )


def unknown_limits(
    server: ServerName, limited: Iterable[BackupServerName], listing: Listing
) -> Iterator[str]:
    """Yield a sentence for every limit whose backup server no restore point of the server names.

    Upper and lower case are the same. Nothing is said of a server that listed nothing at all, or
    refused to list a part.
    """
    if listing.refused:
        return
    points = {point.backup_server for point in listing.points}
    known = {name.casefold(): name for name in sorted(points | listing.backup_servers)}
    for name in limited if known else ():
        if name.casefold() not in known:
            near = get_close_matches(name.casefold(), known, n=1, cutoff=0.5)
            meant = f"; did you mean {known[near[0]]!r}?" if near else ""
            yield (
                f"servers.{server}.backup_servers: no restore point is behind {name!r}{meant} "
                f"(there is {', '.join(map(str, known.values()))})"
            )


def same_keys(named: Iterable[tuple[MountKey, Candidate]]) -> Iterator[str]:
    """Yield a sentence for every key that two different machines would share."""
    first: dict[MountKey, Candidate] = {}
    for key, candidate in named:
        other = first.setdefault(key, candidate)
        if other is not candidate and not _same_machine(other, candidate):
            yield (
                f"{candidate.entry.place}: two targets would be called {key!r}: by "
                f"{other.entry} and by {candidate.entry}; give one of them a label"
            )


def _same_machine(one: Candidate, other: Candidate) -> bool:
    """Return whether both chose a point of one machine, which is reported on its own."""
    if isinstance(one.choice, NoChoice) or isinstance(other.choice, NoChoice):
        return False
    a, b = one.choice.point, other.choice.point
    return (a.source, a.backup_server, a.vm) == (b.source, b.backup_server, b.vm)
