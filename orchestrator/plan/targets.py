"""One target entry of the plan becomes entries with every default applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.model import BackupServerName, Objectives, ServerName, Source, WaveName
from orchestrator.plan import scalars
from orchestrator.plan.check_sets import (
    Asked,
    DeclaredSets,
    require_declared,
    require_fitting,
)
from orchestrator.plan.document import Block
from orchestrator.plan.downloads import Downloads, resolve_downloads
from orchestrator.plan.inheritance import Inherited, inherit
from orchestrator.plan.inventory_file import InventoryFile, Row, read_inventory
from orchestrator.plan.naming import names_left_out
from orchestrator.plan.problems import Position, Problems, did_you_mean
from orchestrator.plan.quantities import shown
from orchestrator.plan.reading import read_section
from orchestrator.plan.schema import TargetFile
from orchestrator.plan.servers import Servers
from orchestrator.plan.settings import (
    Entry,
    Expectation,
    PointPolicy,
    PolicyName,
    Sample,
    SampleOrder,
    SelectorKind,
)

_Shape = tuple[tuple[str, str | tuple[str, ...]], ...]

_NAMES = ("vm", "label")
_SELECTORS = ("id", "vm", "job", "match", "query", "from_file")
_SEVERAL = ("job", "match", "query", "from_file")
_GOES_WITH: dict[str, tuple[tuple[str, ...], str]] = {
    "label": (("id", "vm"), "it names a single target"),
    "exclude": (_SEVERAL, "it thins out several machines"),
    "backup_server": (("vm", *_SEVERAL), "an id is one restore point already"),
    "all": (("vm",), "it decides what a name on several backup servers means"),
    "point": (("vm", *_SEVERAL), "the id names the restore point already"),
    "sample": (("vm", *_SEVERAL), "an id is one restore point already"),
}


class Placed(NamedTuple):
    """An entry, and where later problems with it, and with each of its downloads, belong."""

    entry: Entry
    problems: Problems
    position: Position
    downloads: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a target inherits, and what it may refer to."""

    wave: WaveName
    critical: bool
    inherited: Inherited
    objectives: Objectives
    servers: Servers
    declared: DeclaredSets
    may_write: bool
    """Whether the plan's mode allows to write into guests."""
    base: Path
    shown_base: Path
    files: dict[str, str]
    """Names and hashes of the inventory files read so far."""
    alike: dict[_Shape, dict[str, Any]] = field(default_factory=dict)
    """What the targets of one shape have in common, as the fields of their entries."""


def resolve_target(node: object, around: Surroundings, problems: Problems) -> Iterator[Placed]:
    """Yield the entries that the target `node` stands for; a file yields one for each row.

    Of the `vm` targets that differ only in their names, the first is read in full and the
    others take over what they have in common: a plan may have 50,000 of them.
    """
    shape = _shape(node)
    if shape is not None and isinstance(node, Block):
        common = around.alike.get(shape)
        if common is not None and _names_are_good(node):
            yield _placed(node, problems, value=str(node["vm"]), label=_label(node), **common)
            return
        known = bool(problems)
        for item in _read_in_full(node, around, problems):
            if not (known or problems):
                around.alike[shape] = _common(item.entry)
            yield item
        return
    yield from _read_in_full(node, around, problems)


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
        scalars.line(scalars.single(node["vm"]))
        if "label" in node:
            scalars.line(scalars.single(node["label"]))
    except ValueError:
        return False
    return True


def _label(node: Block) -> str | None:
    return str(node["label"]) if "label" in node else None


def _common(entry: Entry) -> dict[str, Any]:
    own = {"value", "label", "place"}
    return {f.name: getattr(entry, f.name) for f in fields(entry) if f.name not in own}


def _placed(
    node: Block, problems: Problems, *, downloads_at: tuple[Position, ...] = (), **entry: Any
) -> Placed:
    position = node.position
    made = Entry(place=f"{position[0]}:{position[1]}", **entry)
    return Placed(made, problems, position, downloads_at)


def _read_in_full(node: object, around: Surroundings, problems: Problems) -> Iterator[Placed]:
    """Yield the entries of a target, after noting everything that is wrong with it."""
    file = read_section(TargetFile, node, problems, noun="a target")
    if file is None or not isinstance(node, Block):
        return
    selector = _selector(file, node, problems)
    if selector is None or not _belongs_together(file, node, selector, problems):
        return
    if getattr(file, selector) is None:
        return
    one_point = selector == "vm"
    settings = inherit(
        around.inherited,
        file,
        node,
        around.servers,
        around.declared,
        problems,
        one_point=one_point,
    )
    downloads = resolve_downloads(
        file.download,
        node.get("download"),
        problems,
        base=around.base,
        may_write=around.may_write,
        several=_may_be_several(file, selector, settings.point),
    )
    expect = _expectation(file, node, selector, problems)
    sample = _sample(file, node, selector, problems)
    if selector == "from_file":
        yield from _rows(file, node, settings, expect, sample, downloads, around, problems)
        return
    _check_source(settings.source, node, selector, problems)
    if settings.server is None:
        if "server" not in node:
            _no_server(around.servers, node.position, problems)
        return
    target = f"{selector} {shown(getattr(file, selector))} ({node.position})"
    require_fitting(settings.asked, settings.os_kind, target, around.declared, problems)
    downloads.require_fitting(settings.os_kind, target, problems)
    yield _placed(
        node,
        problems,
        downloads_at=downloads.places,
        kind=SelectorKind(selector),
        value=getattr(file, selector),
        wave=around.wave,
        server=settings.server,
        os_kind=settings.os_kind,
        source=settings.source,
        label=file.label,
        critical=around.critical or bool(file.critical),
        point=PointPolicy(policy=PolicyName.ID, point=file.id) if file.id else settings.point,
        timeouts=settings.timeouts,
        retries=settings.retries,
        objectives=around.objectives,
        backup_server=BackupServerName(file.backup_server) if file.backup_server else None,
        all_backup_servers=bool(file.all),
        exclude=tuple(file.exclude or ()),
        expect=expect,
        sample=sample,
        checks=settings.asked.names,
        downloads=downloads.wanted,
        several=_may_be_several(file, selector, settings.point),
    )


def _check_source(source: Source, node: Block, selector: str, problems: Problems) -> None:
    """Refuse what the server cannot be asked for. Source: reference 3.2, query fields."""
    if selector == "job" and source is Source.BACKUP:
        problems.add(
            node.key("job").position,
            "'job' does not go with 'source: backup': the server cannot list backups by their "
            "job; use 'match' or 'query'",
        )


def _sample(file: TargetFile, node: Block, selector: str, problems: Problems) -> Sample | None:
    sample = file.sample
    if sample is None:
        return None
    if selector == "vm" and not file.all:
        problems.add(
            node.key("sample").position,
            "'sample' does not go with 'vm': a name is a single machine without 'all: true'",
        )
    order = sample.order or SampleOrder.RANDOM
    if order is SampleOrder.STALEST and sample.seed is not None:
        problems.add(node["sample"].key("seed").position, "'seed' belongs to 'order: random'")
    return Sample(
        count=sample.count,
        order=order,
        seed=sample.seed,
        place=str(node.position),
        subject=f"{selector} {getattr(file, selector)!r}",
    )


def _may_be_several(file: TargetFile, selector: str, point: PointPolicy) -> bool:
    """Return whether a target may stand for several machines, or several points of one."""
    if selector == "id":
        return False
    return selector != "vm" or bool(file.all) or point.policy is PolicyName.EVERY


def _selector(file: TargetFile, node: Block, problems: Problems) -> str | None:
    """Return the one selector of a target, or None after saying that it is not one."""
    found = [key for key, _ in node.fields() if key in _SELECTORS]
    if len(found) == 1:
        return str(found[0])
    unknown = [key for key, _ in node.fields() if key not in TargetFile.model_fields]
    if found:
        problems.add(
            found[1].position,
            f"{' and '.join(found)} exclude each other: a target has exactly one selector",
        )
    elif not unknown:
        # Otherwise the selector may be the key that was reported already.
        problems.add(
            node.position,
            f"this target selects nothing: it needs one of {', '.join(_SELECTORS)}",
        )
    return None


def _belongs_together(file: TargetFile, node: Block, selector: str, problems: Problems) -> bool:
    """Return whether every key of the target goes with its selector."""
    good = True
    for key, _ in node.fields():
        selectors, why = _GOES_WITH.get(key, ((selector,), ""))
        if selector not in selectors:
            problems.add(key.position, f"'{key}' does not go with '{selector}': {why}")
            good = False
    if file.all and file.backup_server is not None:
        problems.add(
            node.key("all").position, "'all' and 'backup_server' exclude each other: keep one"
        )
        good = False
    return good


def _expectation(
    file: TargetFile, node: Block, selector: str, problems: Problems
) -> Expectation | None:
    expect = file.expect
    if expect is None:
        return None
    position = node["expect"].position
    if expect.min is None and expect.max is None:
        problems.add(position, "write 'min', 'max' or both")
    elif expect.min is not None and expect.max is not None and expect.min > expect.max:
        problems.add(position, f"min ({expect.min}) is more than max ({expect.max})")
    return Expectation(
        min=expect.min,
        max=expect.max,
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


def _rows(
    file: TargetFile,
    node: Block,
    settings: Inherited,
    expect: Expectation | None,
    sample: Sample | None,
    downloads: Downloads,
    around: Surroundings,
    problems: Problems,
) -> Iterator[Placed]:
    path = str(file.from_file)
    try:
        inventory = read_inventory(around.base / path, str(around.shown_base / path))
    except ValueError as exc:
        problems.add(node["from_file"].position, f"{shown(path)}: {exc}")
        return
    around.files[inventory.name] = inventory.sha256
    left_out = names_left_out(file.exclude or (), [row.vm for row in inventory.rows])
    for row in inventory.rows:
        if row.vm in left_out:
            continue
        entry = _row(row, inventory, file, settings, expect, sample, around)
        if entry is not None:
            checks = _asked_in(row, inventory, settings, around, problems)
            downloads.require_fitting(entry.os_kind, _row_words(row, inventory), problems)
            whole = replace(entry, checks=checks, downloads=downloads.wanted, several=True)
            places = (row.position,) * len(downloads.wanted)
            yield Placed(whole, inventory.problems, row.position, places)
    problems.include(inventory.problems)


def _row_words(row: Row, inventory: InventoryFile) -> str:
    return f"vm {shown(row.vm)} ({inventory.name}:{row.position.line})"


def _asked_in(
    row: Row,
    inventory: InventoryFile,
    settings: Inherited,
    around: Surroundings,
    problems: Problems,
) -> tuple[str, ...]:
    """Return the check sets that a row asks for, after seeing that they exist and fit."""
    asked, declared = settings.asked, around.declared
    if row.checks is not None:
        for name in row.checks:
            require_declared(name, row.checks_position, declared, inventory.problems)
        asked = Asked(names=row.checks, places=(row.checks_position,) * len(row.checks))
    elif row.os_kind is not None:
        asked = Asked(names=asked.names, places=(row.position,) * len(asked.names), moved=True)
    its_own = row.checks is not None or row.os_kind is not None
    require_fitting(
        asked,
        row.os_kind or settings.os_kind,
        _row_words(row, inventory),
        declared,
        inventory.problems if its_own else problems,
    )
    return asked.names


def _row(
    row: Row,
    inventory: InventoryFile,
    file: TargetFile,
    settings: Inherited,
    expect: Expectation | None,
    sample: Sample | None,
    around: Surroundings,
) -> Entry | None:
    server = ServerName(row.server) if row.server else settings.server
    if server is None:
        _no_server(around.servers, row.position, inventory.problems)
        return None
    if row.server and server not in around.servers.names:
        advice = did_you_mean(server, around.servers.names, noun="servers")
        inventory.problems.add(row.position, f"there is no server {shown(server)}: {advice}")
        return None
    point = settings.point
    if row.before is not None:
        point = _before(settings.point, row.before)
    return Entry(
        kind=SelectorKind.VM,
        value=row.vm,
        wave=around.wave,
        server=server,
        place=f"{inventory.name}:{row.position.line}",
        os_kind=row.os_kind or settings.os_kind,
        source=settings.source,
        label=row.label,
        critical=around.critical or bool(file.critical),
        point=point,
        timeouts=settings.timeouts,
        retries=settings.retries,
        objectives=around.objectives,
        backup_server=BackupServerName(file.backup_server) if file.backup_server else None,
        expect=expect,
        sample=sample,
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
