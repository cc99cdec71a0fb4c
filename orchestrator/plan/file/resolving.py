"""A parsed tree becomes a RestorePlan: sections read, defaults merged, references checked.

Every section is read on its own, so that one mistake does not hide the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.core.model import Gate, Objectives, OnError, Ramp, WaveName
from orchestrator.plan.file.check_sets import DeclaredSets, resolve_check_sets
from orchestrator.plan.file.document import Block, Items, Text
from orchestrator.plan.file.inheritance import TargetDefaults, inherit, merge
from orchestrator.plan.file.left_out import LeftOut
from orchestrator.plan.file.named_files import NamedFiles
from orchestrator.plan.file.problems import Problems, did_you_mean
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.reading import items_of, meant, quiet_section, read_section
from orchestrator.plan.file.references import check_order, check_same_files, check_twice
from orchestrator.plan.file.scalars import absolute_path
from orchestrator.plan.file.schema import (
    DefaultsFile,
    GateFile,
    LimitsFile,
    NotificationFile,
    PlanFile,
    WaveFile,
)
from orchestrator.plan.file.servers import (
    Servers,
    absolute_reference,
    require_followable,
    resolve_servers,
)
from orchestrator.plan.file.settings import (
    Cleanup,
    Entry,
    Notification,
    RestorePlan,
    RunLimits,
    Wave,
)
from orchestrator.plan.file.targets import Surroundings, resolve_target

DEFAULT_WAVE = WaveName("default")


class Resolved(Struct, frozen=True, kw_only=True):
    """A plan, or None where there are problems; names and hashes of the inventory files it names.

    `left_out` are the machines of these files that it excludes.
    """

    plan: RestorePlan | None
    files: dict[str, str]
    left_out: tuple[LeftOut, ...]


def resolve(
    tree: Block,
    problems: Problems,
    *,
    base: Path,
    shown_base: Path,
    named: NamedFiles,
    only_servers: bool = False,
) -> Resolved:
    """Return the plan that `tree` describes, after noting everything that is wrong with it.

    Relative paths start at `base`; messages show them below `shown_base`; `named`
    reads them. With `only_servers` it needs no targets.
    """
    header = read_section(PlanFile, tree, problems, noun="the plan")
    servers = resolve_servers(tree.get("servers"), problems, base, named)
    declared = resolve_check_sets(tree.get("checks"), problems, base)
    stated = header.objectives if header else None
    objectives = Objectives(**stated.values("rto", "rpo")) if stated else Objectives()
    around = Surroundings(
        wave=DEFAULT_WAVE,
        critical=False,
        inherited=_defaults(tree, servers, declared, problems),
        objectives=objectives,
        servers=servers,
        declared=declared,
        may_write=_may_write(tree, problems),
        base=base,
        shown_base=shown_base,
        named=named,
    )
    waves = () if only_servers else tuple(_waves(tree, around, problems))
    gates = _gates(tree, problems)
    notifications = _notifications(tree.get("notifications"), problems, base, named)
    check_twice(around.placed)
    check_same_files(around.placed)
    if header is None or problems:
        return Resolved(plan=None, files=around.files, left_out=())
    plan = RestorePlan(
        **header.values("name", "description", "mode", "reason", "every"),
        servers=servers.settings,
        waves=waves,
        limits=_limits(header.limits),
        objectives=objectives,
        regression=stated.regression if stated else None,
        checks=declared.sets,
        cleanup=merge(Cleanup(), header.cleanup),
        notifications=notifications,
        gates=gates,
    )
    return Resolved(plan=plan, files=around.files, left_out=tuple(around.left_out))


def _limits(file: LimitsFile | None) -> RunLimits:
    """Return the limits of the whole run."""
    limits = merge(RunLimits(), file)
    if file is None or file.ramp is None:
        return limits
    return replace(limits, ramp=Ramp(mounts=file.ramp.from_, every=file.ramp.every))


def _may_write(tree: Block, problems: Problems) -> bool:
    """Return whether the mode allows writes into guests; an unknown one is a problem already."""
    mode = tree.get("mode")
    return mode == "recovery" or (isinstance(mode, Text) and problems.known_at(mode.position))


def _defaults(
    tree: Block, servers: Servers, declared: DeclaredSets, problems: Problems
) -> TargetDefaults:
    """Return what `defaults` gives; what is wrong with its own keys was reported already."""
    start = TargetDefaults(server=servers.only)
    node = tree.get("defaults")
    section = read_section(DefaultsFile, node, Problems(problems.source), noun="'defaults'")
    if section is None or not isinstance(node, Block):
        return start
    return inherit(start, section, node, servers, declared, problems)


def _waves(tree: Block, around: Surroundings, problems: Problems) -> Iterator[Wave]:
    """Yield the plan's waves, in the order of the file."""
    nodes, targets = tree.get("waves"), tree.get("targets")
    if nodes is not None and targets is not None:
        second = max(tree.key("waves").position, tree.key("targets").position)
        problems.add(
            second, "'targets' and 'waves' exclude each other: move the targets into a wave"
        )
    elif nodes is None and targets is None and not _are_misspelt(tree):
        problems.add(tree.position, "the plan mounts nothing: it needs 'targets' or 'waves'")
    if targets is not None:
        yield Wave(name=DEFAULT_WAVE, entries=_entries(targets, around, problems))
    listed = items_of(nodes, problems, "'waves' is a list with one '- name: NAME' or more")
    yield from _listed_waves(listed, around, problems)


def _are_misspelt(tree: Block) -> bool:
    """Return whether a key that was reported already was to be `targets` or `waves`."""
    fields = PlanFile.keys
    unknown = [key for key in tree if key not in fields]
    return any(meant(key, fields) in {"targets", "waves"} for key in unknown)


def _entries(node: object, around: Surroundings, problems: Problems) -> tuple[Entry, ...]:
    """Return the entries of a wave's targets, and keep their positions."""
    start = len(around.placed)
    for target in items_of(node, problems, "'targets' is a list with one '- vm: NAME' or more"):
        around.placed.extend(resolve_target(target, around, problems))
    return tuple(item.entry for item in around.placed[start:])


def _listed_waves(nodes: Items, around: Surroundings, problems: Problems) -> Iterator[Wave]:
    named: dict[WaveName, Block] = {}
    for node in nodes:
        name = node.get("name") if isinstance(node, Block) else None
        if isinstance(name, Text) and name:
            first = named.setdefault(WaveName(str(name)), node)
            if first is not node:
                problems.add(
                    name.position,
                    f"two waves are called {shown(name)} (first at {first['name'].position}): "
                    "rename one",
                )
    check_order(named, nodes, problems)
    for node in nodes:
        wave = _wave(node, around, problems)
        if wave is not None:
            yield wave


def _wave(node: object, around: Surroundings, problems: Problems) -> Wave | None:
    """Return one wave; its targets are looked at even if its own keys are wrong."""
    file = read_section(WaveFile, node, problems, noun="a wave")
    if not isinstance(node, Block):
        return None
    inherited = around.inherited
    settings = file or quiet_section(DefaultsFile, node, problems)
    if settings is not None:
        inherited = inherit(inherited, settings, node, around.servers, around.declared, problems)
    name = WaveName(file.name if file else str(node.get("name", "?")))
    on_error = _on_error(file, node, problems)
    of_wave = replace(
        around,
        wave=name,
        critical=on_error is OnError.HALT,
        inherited=inherited,
        objectives=merge(around.objectives, file.objectives if file else None),
        alike={},
    )
    entries = _entries(node.get("targets"), of_wave, problems)
    if file is None:
        return None
    return Wave(
        name=name,
        entries=entries,
        after=tuple(dict.fromkeys(WaveName(after) for after in file.after or ())),
        critical=on_error is OnError.HALT,
        on_error=on_error,
        mounts_limit=file.limits.mounts if file.limits else None,
        objectives=merge(Objectives(), file.objectives),
    )


def _on_error(file: WaveFile | None, node: Block, problems: Problems) -> OnError:
    """Return what a failure in the wave leads to; `critical: true` is the short form of halt."""
    if file is None:
        return OnError.CONTINUE
    if not file.critical:
        return file.on_error or OnError.CONTINUE
    if file.on_error not in {None, OnError.HALT}:
        problems.add(
            node["on_error"].position,
            f"a critical wave halts the run, so it cannot {file.on_error}: leave one out",
        )
    return OnError.HALT


def _gates(tree: Block, problems: Problems) -> tuple[Gate, ...]:
    """Return the gates of the plan; each is before a wave of it, and no two before the same."""
    nodes, waves = tree.get("gates"), tree.get("waves")
    words = "'gates' is a list with one '- before: WAVE' or more"
    known = [
        str(wave["name"])
        for wave in (waves if isinstance(waves, Items) else ())
        if isinstance(wave, Block) and isinstance(wave.get("name"), Text)
    ]
    gates: dict[WaveName, Gate] = {}
    seen: set[WaveName] = set()
    for node in items_of(nodes, problems, words):
        file = read_section(GateFile, node, problems, noun="a gate")
        before = node.get("before") if isinstance(node, Block) else None
        if not isinstance(before, Text) or problems.known_at(before.position):
            continue
        name = WaveName(str(before))
        if name not in known:
            advice = did_you_mean(name, dict.fromkeys(known), noun="waves")
            problems.add(before.position, f"there is no wave {shown(name)}: {advice}")
        elif name in seen:
            problems.add(before.position, f"two gates are before wave {shown(name)}: keep one")
        elif file is not None:
            gates[name] = Gate(**{**file.values(), "before": name})
        seen.add(name)
    return tuple(gates.values())


def _notifications(
    node: object, problems: Problems, base: Path, named: NamedFiles
) -> tuple[Notification, ...]:
    """Return who gets messages about the run; relative paths start at `base`."""
    if not isinstance(node, Items):
        if isinstance(node, Text | Block):
            problems.add_new(node.position, "'notifications' is a list of '- webhook: {...}'")
        return ()
    return tuple(filter(None, (_notification(item, problems, base, named) for item in node)))


def _notification(
    node: object, problems: Problems, base: Path, named: NamedFiles
) -> Notification | None:
    file = read_section(NotificationFile, node, problems, noun="a notification")
    if file is None or not isinstance(node, Block):
        return None
    if file.on is not None and not file.on:
        problems.add(
            node["on"].position, "no message would ever be sent: name an event, or leave out 'on'"
        )
    hook = file.webhook
    values = hook.values("kind")
    if file.on is not None:
        values["on"] = tuple(dict.fromkeys(file.on))
    if hook.ca_file is not None:
        values["ca_file"] = absolute_path(hook.ca_file, base)
    require_followable(hook.url, node["webhook"].position, problems, named)
    return Notification(url=absolute_reference(hook.url, base), **values)
