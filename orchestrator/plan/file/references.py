"""What may be wrong between the parts of a plan: circles of waves, VMs and files named twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from orchestrator.core.model import WaveName
from orchestrator.core.names import PathRules
from orchestrator.core.proof import Download
from orchestrator.plan.file.document import Block, Items, Text
from orchestrator.plan.file.downloads import directory_name
from orchestrator.plan.file.guest_paths import base_name, quoted
from orchestrator.plan.file.problems import Problems, did_you_mean
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.selectors import SELECTORS, SelectorKind
from orchestrator.plan.file.settings import Entry, PolicyName
from orchestrator.plan.file.targets import PlacedEntry


def check_order(
    waves: Mapping[WaveName, Block], nodes: Iterable[object], problems: Problems
) -> None:
    """Note every `after` that names no wave, or one twice, and every circle of waves.

    `waves` are the first of each name, `nodes` all that stand there.
    """
    order: dict[WaveName, list[WaveName]] = {name: [] for name in waves}
    for node in nodes:
        if not isinstance(node, Block):
            continue
        named = [name for name, first in waves.items() if first is node]
        found = _waits_for(node.get("after"), waves, problems)
        for name in named:
            order[name] = found
    while circle := _circle(order):
        # The sorter lists a circle against the direction of waiting.
        start = min(circle, key=list(waves).index)
        at = circle.index(start)
        path = " -> ".join([*circle[at:], *circle[:at], start])
        after = waves[start]["after"]
        problems.add(after.position, f"waves wait for each other in a circle: {path}")
        order[start] = []


def _waits_for(
    after: object, waves: Mapping[WaveName, Block], problems: Problems
) -> list[WaveName]:
    """Return the waves that an `after` names, after noting what is wrong with it."""
    found: dict[WaveName, Text] = {}
    for item in after if isinstance(after, Items) else ():
        if not isinstance(item, Text) or problems.known_at(item.position):
            continue
        name = WaveName(str(item))
        if name not in waves:
            advice = did_you_mean(str(item), waves, noun="waves")
            problems.add(item.position, f"there is no wave {shown(item)}: {advice}")
        elif name in found:
            problems.doubt(item.position, f"wave {shown(item)} is named twice here: keep one")
        else:
            found[name] = item
    return list(found)


def _circle(order: Mapping[WaveName, list[WaveName]]) -> list[WaveName]:
    """Return the waves of one circle, each before the one it waits for, or nothing."""
    try:
        TopologicalSorter(order).prepare()
    except CycleError as exc:
        return list(reversed(exc.args[1]))[:-1]
    return []


def check_twice(placed: Iterable[PlacedEntry]) -> None:
    """Note every VM, restore point or job that the plan itself selects twice.

    What only the inventory shows (a VM of two jobs) is found by the expansion.
    """
    machines: dict[str, list[PlacedEntry]] = {}
    names: dict[str, list[PlacedEntry]] = {}
    for item in placed:
        entry = item.entry
        first = _remember(item, machines.setdefault(_machine(entry), []))
        if first is not None:
            item.problems.add(
                item.position,
                f"{entry.kind} {shown(entry.value)} on server {shown(entry.server)} is selected "
                f"twice (first at {first.place}): keep one",
            )
            continue
        name = entry.label or (entry.value if entry.kind is SelectorKind.VM else None)
        if name is None:
            continue
        first = _remember(item, names.setdefault(f"{entry.wave}/{entry.server}/{name}", []))
        if first is not None:
            item.problems.add(
                item.position,
                f"another target of this wave is called {shown(name)} ({first.place}): "
                "give one of them a label",
            )


def _machine(entry: Entry) -> str:
    """Return what two entries have in common that select the same, as one text."""
    # A job may be in several waves: what it leaves out in one, it may mount in another.
    wave = entry.wave if SELECTORS[entry.kind].several else ""
    return f"{entry.server}/{wave}/{entry.source}/{entry.kind}/{entry.value}"


def _remember(item: PlacedEntry, seen: list[PlacedEntry]) -> Entry | None:
    """Add `item` to those `seen`; return the first that may be behind its backup server."""
    own = item.entry.backup_server
    entries = (each.entry for each in seen)
    first = next((x for x in entries if own is None or x.backup_server in {None, own}), None)
    seen.append(item)
    return first


# --- the same file twice -------------------------------------------------------------------


def check_same_files(placed: Iterable[PlacedEntry]) -> None:
    """Note every local file that two downloads would write, as far as the file shows it.

    Two that write unknown names into one directory are a problem if one may overwrite; else
    the second leaves what it finds alone, and says so.
    """
    first: dict[str, tuple[PlacedEntry, Download]] = {}
    for item in placed:
        _check_writes(item)
        for download, position in zip(item.entry.downloads, item.downloads, strict=False):
            local = _local_name(item.entry, download)
            if local is None:
                continue
            other, before = first.setdefault(local, (item, download))
            if before is download:
                continue
            if not local.endswith("/"):
                what = "writes the same file"
            elif download.overwrite or before.overwrite:
                what = "writes into the same directory, and one may overwrite the other's files"
            else:
                continue
            item.problems.add(position, f"{other.entry} {what}: give each a place of its own")


def _check_writes(item: PlacedEntry) -> None:
    """Note every file of a guest that one target would write twice, as far as the file shows it.

    A pattern may find a file that another download names: that is seen when the guest is mounted.
    """
    names, point = PathRules(item.entry.os_kind), item.entry.point
    several_points = point.policy is PolicyName.EVERY and point.count != 1
    first: dict[tuple[str, str | None], Download] = {}
    for download, position in zip(item.entry.downloads, item.downloads, strict=False):
        if not download.writes_into_guest:
            continue
        glob = None if download.glob is None else names.folded(download.glob)
        before = first.setdefault((names.path_key(download.path), glob), download)
        if before is not download:
            item.problems.add(
                position,
                f"{quoted(before.path)} is written into the guest twice: each file is written "
                "once, so keep one entry",
            )
        elif several_points:
            item.problems.add(
                position,
                f"policy 'every' would write {quoted(download.path)} into the guest from each of "
                "its restore points: choose one point, for each file is written once",
            )


def _local_name(entry: Entry, download: Download) -> str | None:
    """Return the file that a download writes, or its directory where its names are not known."""
    to = download.to
    if to is None:
        return None
    if entry.several:
        if not entry.of_file or entry.point.policy is PolicyName.EVERY:
            return to
        to = f"{to}{directory_name(entry.label or entry.value)}/"
    if not to.endswith("/") or download.glob is not None:
        return to
    return to + base_name(download.path)
