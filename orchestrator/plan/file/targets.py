"""One target entry of the plan becomes entries with every default applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.core.model import BackupServerName, Objectives, Order, ServerName, WaveName
from orchestrator.plan.file import scalars
from orchestrator.plan.file.check_sets import (
    CheckSetNames,
    DeclaredSets,
    require_declared,
    require_fitting,
)
from orchestrator.plan.file.document import Block, Items
from orchestrator.plan.file.downloads import Downloads, resolve_downloads
from orchestrator.plan.file.inheritance import TargetDefaults, inherit
from orchestrator.plan.file.inventory_file import InventoryFile, Row, read_inventory
from orchestrator.plan.file.left_out import LeftOut, left_out_by
from orchestrator.plan.file.named_files import ON_DISK, NamedFiles
from orchestrator.plan.file.naming import names_left_out
from orchestrator.plan.file.problems import START, Position, Problem, Problems, did_you_mean
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.reading import read_section
from orchestrator.plan.file.schema import TargetFile
from orchestrator.plan.file.selectors import FROM_FILE, SelectorKind
from orchestrator.plan.file.servers import Servers
from orchestrator.plan.file.settings import (
    Entry,
    Expectation,
    PointPolicy,
    PolicyName,
    Sample,
    SampleOrder,
)
from orchestrator.plan.file.target_keys import (
    belongs_together,
    check_bounds,
    check_globs,
    check_source,
    selector_of,
)

_Shape = tuple[tuple[str, str | tuple[str, ...]], ...]

_NAMES = frozenset({"vm", "label"})
_INHERITED = {*TargetDefaults.__struct_fields__} & {*Entry.__struct_fields__}

MAX_SHAPES = 1000
"""Targets that differ in more than their names, and are remembered for those like them."""

_Wrong = tuple[int, str]
"""A problem of a target: the index of its place, and the message."""


class _CommonFields(NamedTuple):
    """What targets have in common that differ in their names only: fields and problems."""

    entries: list[dict[str, Any]]
    wrong: tuple[_Wrong, ...]


class PlacedEntry(NamedTuple):
    """An entry, and where later problems with it, and with each of its downloads, belong."""

    entry: Entry
    problems: Problems
    position: Position
    downloads: tuple[Position, ...] = ()


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a target inherits, and what it may refer to; `placed` and `files` grow meanwhile."""

    wave: WaveName
    critical: bool
    inherited: TargetDefaults
    objectives: Objectives
    servers: Servers
    declared: DeclaredSets
    may_write: bool
    """Whether the plan's mode allows to write into guests."""
    base: Path
    shown_base: Path
    named: NamedFiles = ON_DISK
    placed: list[PlacedEntry] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Names and hashes of the inventory files read so far."""
    left_out: list[LeftOut] = field(default_factory=list)
    """Whom `exclude` took out of them."""
    alike: dict[_Shape, _CommonFields] = field(default_factory=dict)
    """What the targets of one shape have in common."""


def resolve_target(node: object, around: Surroundings, problems: Problems) -> Iterator[PlacedEntry]:
    """Yield the entries that the target `node` means; a file yields one for each row.

    Of the `vm` targets that differ only in their names, the first is read in full and the
    others take over what they have in common, problems too: a plan may have 50,000 of them.
    """
    shape = _shape(node)
    if shape is None or not isinstance(node, Block):
        yield from _read_in_full(node, around, problems)
        return
    alike = around.alike.get(shape)
    if alike is None or not _names_are_good(node):
        known = any(problems.known_at(place) for place in (node.position, *_places(node)))
        before = len(problems)
        placed = list(_read_in_full(node, around, problems))
        yield from placed
        wrong = _wrong_with(node, problems.since(before))
        if not known and wrong is not None and len(around.alike) < MAX_SHAPES:
            around.alike[shape] = _CommonFields([_common(each.entry) for each in placed], wrong)
        return
    places = _places(node) if alike.wrong else []
    for index, message in alike.wrong:
        problems.add(places[index], message)
    (line, column), label = node.position, str(node["label"]) if "label" in node else None
    for common in alike.entries:
        entry = Entry(value=str(node["vm"]), label=label, place=f"{line}:{column}", **common)
        yield PlacedEntry(entry, problems, node.position)


def _places(node: Block) -> list[Position]:
    """Return the positions of all keys and values but the names, the same for every target alike.

    That of the first key is left out: it is that of the whole target, too.
    """
    places = []
    for key, value in node.fields():
        if key not in _NAMES:
            places += [key.position, value.position]
            places += [item.position for item in value] if isinstance(value, Items) else ()
    return [START if place == node.position else place for place in places]


def _wrong_with(node: Block, found: Sequence[Problem]) -> tuple[_Wrong, ...] | None:
    """Return the problems of a target by their places, or None if another's would read otherwise.

    The messages of another could hold its names or its position.
    """
    places = _places(node)
    own = (str(node.position), *(str(node[name]) for name in _NAMES if name in node))
    wrong = []
    for problem in found:
        if problem.position not in places or problem.secret_from is not None:
            return None
        if any(text in problem.message for text in own):
            return None
        wrong.append((places.index(problem.position), problem.message))
    return tuple(wrong)


def _shape(node: object) -> _Shape | None:
    """Return all keys and values of a plain `vm` target but its names, or None for others."""
    if not isinstance(node, Block) or "vm" not in node:
        return None
    rest = []
    for pair in node.items():
        if pair[0] not in _NAMES:
            if isinstance(pair[1], str):
                rest.append(pair)
            elif pair[0] == "checks" and all(isinstance(item, str) for item in pair[1]):
                rest.append((pair[0], tuple(pair[1])))
            else:
                return None
    return tuple(rest)


def _names_are_good(node: Block) -> bool:
    try:
        for name in node.keys() & _NAMES:
            scalars.line(scalars.single(node[name]))
    except ValueError:
        return False
    return True


def _common(entry: Entry) -> dict[str, Any]:
    own = {"value", "label", "place"}
    return {name: getattr(entry, name) for name in entry.__struct_fields__ if name not in own}


class _Target(Struct, frozen=True, kw_only=True):
    """A target with one selector, and what holds for all its entries."""

    file: TargetFile
    node: Block
    selector: str
    settings: TargetDefaults
    downloads: Downloads
    expect: Expectation | None
    sample: Sample | None
    several: bool

    def entry(self, around: Surroundings, **own: Any) -> Entry:
        """Return an entry with the fields in `own`, and all others as the target has them."""
        file = self.file
        fields_of_all: dict[str, Any] = {
            **{name: getattr(self.settings, name) for name in _INHERITED},
            "wave": around.wave,
            "label": file.label,
            "critical": around.critical or bool(file.critical),
            "objectives": around.objectives,
            "backup_server": BackupServerName(file.backup_server) if file.backup_server else None,
            "expect": self.expect,
            "sample": self.sample,
            "checks": self.settings.asked.names,
            "downloads": self.downloads.wanted,
            "several": self.several,
        }
        return Entry(**(fields_of_all | own))


def _read_in_full(node: object, around: Surroundings, problems: Problems) -> Iterator[PlacedEntry]:
    """Yield the entries of a target, after noting everything that is wrong with it."""
    target = _target(node, around, problems)
    if target is None:
        return
    if target.selector == FROM_FILE:
        yield from _rows(target, around, problems)
        return
    file, node, settings = target.file, target.node, target.settings
    check_source(settings.source, node, target.selector, problems)
    if settings.server is None:
        if "server" not in node:
            _no_server(around.servers, node.position, problems)
        return
    value = getattr(file, target.selector)
    words = f"{target.selector} {shown(value)} ({node.position})"
    require_fitting(settings.asked, settings.os.fixed, words, around.declared, problems)
    target.downloads.require_fitting(settings.os.fixed, words, problems)
    entry = target.entry(
        around,
        kind=SelectorKind(target.selector),
        value=value,
        place=str(node.position),
        point=PointPolicy(policy=PolicyName.ID, point=file.id) if file.id else settings.point,
        all_backup_servers=bool(file.all),
        exclude=tuple(file.exclude or ()),
    )
    yield PlacedEntry(entry, problems, node.position, target.downloads.places)


def _target(node: object, around: Surroundings, problems: Problems) -> _Target | None:
    """Return what a target says and inherits, or None after saying why it is none."""
    file = read_section(TargetFile, node, problems, noun="a target")
    if file is None or not isinstance(node, Block):
        return None
    check_globs(node, problems)
    check_bounds(file, node, problems)
    selector = selector_of(file, node, problems)
    fits = selector is not None and belongs_together(file, node, selector, problems)
    settings = inherit(
        around.inherited,
        file,
        node,
        around.servers,
        around.declared,
        problems,
        one_point=selector in {SelectorKind.VM, None},
    )
    if selector is None or not fits or getattr(file, selector) is None:
        return None
    several = _may_be_several(file, selector, settings.point)
    downloads = resolve_downloads(
        file.download,
        node.get("download"),
        problems,
        base=around.base,
        may_write=around.may_write,
        several=several,
    )
    settings = replace(settings, point=_searched(settings.point, downloads, node, problems))
    return _Target(
        file=file,
        node=node,
        selector=selector,
        settings=settings,
        downloads=downloads,
        expect=_expectation(file, node, selector, problems),
        sample=_sample(file, node, selector, problems),
        several=several,
    )


def _searched(
    point: PointPolicy, downloads: Downloads, node: Block, problems: Problems
) -> PointPolicy:
    """Return the policy with the search that is made: no bisection where files are copied.

    They are to come from the newest good point, and halving looks at older ones before that is
    known.
    """
    if point.search is not Order.BISECT or not downloads.wanted:
        return point
    problems.doubt(
        node.key("download").position,
        "'search: bisect' goes one by one here, because files are downloaded: it may take a mount "
        "for every restore point",
    )
    return replace(point, search=Order.LINEAR)


def _sample(file: TargetFile, node: Block, selector: str, problems: Problems) -> Sample | None:
    sample = file.sample
    if sample is None:
        return None
    if selector == "vm" and not file.all:
        problems.add(
            node.key("sample").position,
            "'sample' does not go with 'vm': a name is a single machine without 'all: true'",
        )
    if sample.order is SampleOrder.STALEST and sample.seed is not None:
        problems.add(node["sample"].key("seed").position, "'seed' belongs to 'order: random'")
    return Sample(
        **sample.values(),
        place=str(node.position),
        subject=f"{selector} {getattr(file, selector)!r}",
    )


def _may_be_several(file: TargetFile, selector: str, point: PointPolicy) -> bool:
    """Return whether a target may mean several machines, or several points of one."""
    if selector == "id":
        return False
    return selector != "vm" or bool(file.all) or point.policy is PolicyName.EVERY


def _expectation(
    file: TargetFile, node: Block, selector: str, problems: Problems
) -> Expectation | None:
    expect = file.expect
    if expect is None:
        return None
    return Expectation(
        **expect.values(),
        place=str(node.position),
        subject=f"{selector} {getattr(file, selector)!r}",
    )


def _no_server(servers: Servers, position: Position, problems: Problems) -> None:
    if servers.names:
        problems.add(
            position,
            f"this target names no server, and there are {len(servers.names)}: write "
            f"'server: {servers.names[0]}' here or under 'defaults'",
        )


def _rows(target: _Target, around: Surroundings, problems: Problems) -> Iterator[PlacedEntry]:
    path = str(target.file.from_file)
    try:
        inventory = read_inventory(around.base / path, str(around.shown_base / path), around.named)
    except ValueError as exc:
        problems.add(target.node[FROM_FILE].position, f"{shown(path)}: {exc}")
        return
    around.files[inventory.name] = inventory.sha256
    left_out = names_left_out(target.file.exclude or (), [row.vm for row in inventory.rows])
    excluded = [row.vm for row in inventory.rows if row.vm in left_out]
    place, subject = str(target.node.position), f"{FROM_FILE} {path!r}"
    around.left_out.extend(left_out_by("exclude", excluded, place=place, subject=subject))
    for row in inventory.rows:
        if row.vm in left_out:
            continue
        entry = _row(row, inventory, target, around, problems)
        if entry is not None:
            places = (row.position,) * len(entry.downloads)
            yield PlacedEntry(entry, inventory.problems, row.position, places)
    problems.include(inventory.problems)


def _row_words(row: Row, inventory: InventoryFile) -> str:
    return f"vm {shown(row.vm)} ({inventory.name}:{row.position.line})"


def _asked_in(
    row: Row,
    inventory: InventoryFile,
    settings: TargetDefaults,
    around: Surroundings,
    problems: Problems,
) -> tuple[str, ...]:
    """Return the check sets that a row asks for, after seeing that they exist and fit."""
    asked, declared = settings.asked, around.declared
    if row.checks is not None:
        for name in row.checks:
            require_declared(name, row.checks_position, declared, inventory.problems)
        asked = CheckSetNames(names=row.checks, places=(row.checks_position,) * len(row.checks))
    elif row.os is not None:
        asked = CheckSetNames(
            names=asked.names, places=(row.position,) * len(asked.names), moved=True
        )
    its_own = row.checks is not None or row.os is not None
    require_fitting(
        asked,
        (row.os or settings.os).fixed,
        _row_words(row, inventory),
        declared,
        inventory.problems if its_own else problems,
    )
    return asked.names


def _row(
    row: Row, inventory: InventoryFile, target: _Target, around: Surroundings, problems: Problems
) -> Entry | None:
    settings = target.settings
    server = ServerName(row.server) if row.server else settings.server
    if server is None:
        _no_server(around.servers, row.position, inventory.problems)
        return None
    if row.server and server not in around.servers.names:
        advice = did_you_mean(server, around.servers.names, noun="servers")
        inventory.problems.add(row.position, f"there is no server {shown(server)}: {advice}")
        return None
    os = row.os or settings.os
    checks = _asked_in(row, inventory, settings, around, problems)
    target.downloads.require_fitting(os.fixed, _row_words(row, inventory), problems)
    return target.entry(
        around,
        kind=SelectorKind.VM,
        value=row.vm,
        server=server,
        place=f"{inventory.name}:{row.position.line}",
        os_kind=os.kind,
        os_source=os.source,
        label=row.label,
        point=_before(settings.point, row.before) if row.before is not None else settings.point,
        checks=checks,
        of_file=True,
    )


def _before(above: PointPolicy, time: datetime) -> PointPolicy:
    """Return `before` for a row's own time; what else holds for the file's points stays."""
    return PointPolicy(
        policy=PolicyName.BEFORE,
        time=time,
        incident_time=above.incident_time,
        exclude_points=above.exclude_points,
        fallback=above.fallback,
    )
