"""A parsed tree becomes a RestorePlan: sections read, defaults merged, references checked.

Every section is read on its own, so that one mistake does not hide the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.model import Objectives, OnError, ServerName, WaveName
from orchestrator.plan.check_sets import DeclaredSets, resolve_check_sets
from orchestrator.plan.document import Block, Items, Text
from orchestrator.plan.downloads import check_same_files
from orchestrator.plan.inheritance import Inherited, inherit, merge_objectives
from orchestrator.plan.notifications import resolve_notifications
from orchestrator.plan.problems import Problems
from orchestrator.plan.quantities import shown
from orchestrator.plan.reading import read_section
from orchestrator.plan.references import check_order, check_twice
from orchestrator.plan.schema import CleanupFile, DefaultsFile, LimitsFile, PlanFile, WaveFile
from orchestrator.plan.servers import Servers, resolve_servers
from orchestrator.plan.settings import Cleanup, Entry, RestorePlan, RunLimits, Wave
from orchestrator.plan.targets import Placed, Surroundings, resolve_target

DEFAULT_WAVE = WaveName("default")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What every wave needs while it is resolved."""

    problems: Problems
    base: Path
    shown_base: Path
    servers: Servers
    declared: DeclaredSets
    may_write: bool
    inherited: Inherited
    objectives: Objectives
    placed: list[Placed] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def targets(
        self,
        node: object,
        name: WaveName,
        *,
        critical: bool,
        inherited: Inherited,
        objectives: Objectives,
    ) -> tuple[Entry, ...]:
        """Return the entries of a wave's targets, and remember where they stand."""
        if not isinstance(node, Items) or not node:
            if isinstance(node, Text | Block | Items) and not self.problems.known_at(node.position):
                self.problems.add(
                    node.position, "'targets' is a list with one '- vm: NAME' or more"
                )
            return ()
        around = Surroundings(
            wave=name,
            critical=critical,
            inherited=inherited,
            objectives=objectives,
            servers=self.servers,
            declared=self.declared,
            may_write=self.may_write,
            base=self.base,
            shown_base=self.shown_base,
            files=self.files,
        )
        start = len(self.placed)
        for target in node:
            self.placed.extend(resolve_target(target, around, self.problems))
        return tuple(item.entry for item in self.placed[start:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A plan, or None where there are problems; and the inventory files it named."""

    plan: RestorePlan | None
    files: dict[str, str]


def resolve(tree: Block, problems: Problems, *, base: Path, shown_base: Path) -> Resolved:
    """Return the plan that `tree` describes, after noting everything that is wrong with it.

    Relative paths start at `base`; messages show them below `shown_base`.
    """
    header = read_section(PlanFile, tree, problems, noun="the plan")
    servers = resolve_servers(tree.get("servers"), problems, base)
    declared = resolve_check_sets(tree.get("checks"), problems, base)
    objectives = merge_objectives(Objectives(), header.objectives if header else None)
    context = _Context(
        problems=problems,
        base=base,
        shown_base=shown_base,
        servers=servers,
        declared=declared,
        may_write=_may_write(tree, problems),
        inherited=_defaults(tree, servers, declared, problems),
        objectives=objectives,
    )
    waves = tuple(_waves(tree, context))
    notifications = resolve_notifications(tree.get("notifications"), problems, base)
    check_twice(context.placed)
    check_same_files(context.placed)
    if header is None or problems:
        return Resolved(plan=None, files=context.files)
    plan = RestorePlan(
        name=header.name,
        description=header.description,
        mode=header.mode or "drill",
        reason=header.reason,
        servers=servers.settings,
        waves=waves,
        limits=_limits(header.limits),
        objectives=objectives,
        checks=declared.sets,
        cleanup=_cleanup(header.cleanup),
        notifications=notifications,
    )
    return Resolved(plan=plan, files=context.files)


def _may_write(tree: Block, problems: Problems) -> bool:
    """Return whether the plan's mode allows to write into guests; one nobody knows is no no."""
    mode = tree.get("mode")
    return mode == "recovery" or (isinstance(mode, Text) and problems.known_at(mode.position))


def _cleanup(file: CleanupFile | None) -> Cleanup:
    """Return what happens to mounts; where the plan says nothing they are removed."""
    return Cleanup(**file.said()) if file else Cleanup()


def _defaults(
    tree: Block, servers: Servers, declared: DeclaredSets, problems: Problems
) -> Inherited:
    """Return what `defaults` gives; what is wrong with its own keys was reported already."""
    start = Inherited(server=servers.only)
    node = tree.get("defaults")
    section = read_section(DefaultsFile, node, Problems(problems.source), noun="'defaults'")
    if section is None or not isinstance(node, Block):
        return start
    return inherit(start, section, node, servers, declared, problems)


def _limits(file: LimitsFile | None) -> RunLimits:
    """Return the run's limits with the built-in ones where the plan says nothing."""
    return RunLimits(**file.said()) if file else RunLimits()


def _waves(tree: Block, context: _Context) -> Iterator[Wave]:
    """Yield the plan's waves, in the order of the file."""
    problems = context.problems
    nodes, targets = tree.get("waves"), tree.get("targets")
    if nodes is not None and targets is not None:
        second = max(tree.key("waves").position, tree.key("targets").position)
        problems.add(
            second, "'targets' and 'waves' exclude each other: move the targets into a wave"
        )
    elif nodes is None and targets is None:
        problems.add(tree.position, "the plan mounts nothing: it needs 'targets' or 'waves'")
    if targets is not None:
        entries = context.targets(
            targets,
            DEFAULT_WAVE,
            critical=False,
            inherited=context.inherited,
            objectives=context.objectives,
        )
        yield Wave(name=DEFAULT_WAVE, entries=entries)
    if isinstance(nodes, Items) and nodes:
        yield from _listed_waves(nodes, context)
    elif nodes is not None and not problems.known_at(nodes.position):
        problems.add(nodes.position, "'waves' is a list with one '- name: NAME' or more")


def _listed_waves(nodes: Items, context: _Context) -> Iterator[Wave]:
    named: dict[WaveName, Block] = {}
    for node in nodes:
        name = node.get("name") if isinstance(node, Block) else None
        if isinstance(name, Text) and name:
            first = named.setdefault(WaveName(str(name)), node)
            if first is not node:
                context.problems.add(
                    name.position,
                    f"two waves are called {shown(name)} (first at {first['name'].position}): "
                    "rename one",
                )
    check_order(named, context.problems)
    for node in nodes:
        wave = _wave(node, context)
        if wave is not None:
            yield wave


def _wave(node: object, context: _Context) -> Wave | None:
    """Return one wave; its targets are looked at even if its own keys are wrong."""
    problems = context.problems
    file = read_section(WaveFile, node, problems, noun="a wave")
    if not isinstance(node, Block):
        return None
    inherited = context.inherited
    if file is not None:
        inherited = inherit(inherited, file, node, context.servers, context.declared, problems)
    elif isinstance(node.get("server"), Text):
        # Only the server matters now: no target shall complain that it has none.
        inherited = replace(inherited, server=ServerName(str(node["server"])))
    name = WaveName(file.name if file else str(node.get("name", "?")))
    on_error = _on_error(file, node, problems)
    entries = context.targets(
        node.get("targets"),
        name,
        critical=on_error is OnError.HALT,
        inherited=inherited,
        objectives=merge_objectives(context.objectives, file.objectives if file else None),
    )
    if file is None:
        return None
    return Wave(
        name=name,
        entries=entries,
        after=tuple(dict.fromkeys(WaveName(after) for after in file.after or ())),
        critical=on_error is OnError.HALT,
        on_error=on_error,
        mounts_limit=file.limits.mounts if file.limits else None,
        objectives=merge_objectives(Objectives(), file.objectives),
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
