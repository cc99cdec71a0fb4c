"""The `checks` section, and the `checks` lists that ask for its sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.core.model import OsKind
from orchestrator.core.proof import Check, CheckSets
from orchestrator.plan.file.check_kinds import CHECK_KINDS, Contradiction, PathCheckFile, check_of
from orchestrator.plan.file.document import Block
from orchestrator.plan.file.guest_paths import os_of, quoted
from orchestrator.plan.file.problems import Position, Problems, did_you_mean
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.reading import check_name, items_of, keys_among, read_section
from orchestrator.plan.file.schema import OverridableFile
from orchestrator.plan.file.section import Section


class DeclaredSets(Struct, frozen=True, kw_only=True):
    """The check sets that could be read, and every name that the plan declares, if that is known.

    `demands` holds for each system the sets with a path that only it can have, and that path.
    """

    sets: CheckSets
    names: tuple[str, ...] | None
    demands: Mapping[OsKind, Mapping[str, str]]

    def foreign_to(self, os_kind: OsKind) -> Mapping[str, str]:
        """Return the sets that guests of `os_kind` cannot pass, each with a path that shows it."""
        return self.demands[OsKind.LINUX if os_kind is OsKind.WINDOWS else OsKind.WINDOWS]


NO_SETS = DeclaredSets(sets=CheckSets(), names=(), demands={each: {} for each in OsKind})


class CheckSetNames(Struct, frozen=True, kw_only=True):
    """Names of the check sets that are asked for.

    `places` are, for each, where the plan asked for it, or where it named another system
    after that (`moved`): if the set does not fit there, that is the place to say so.
    """

    names: tuple[str, ...] = ()
    places: tuple[Position, ...] = ()
    moved: bool = False


NOTHING_ASKED = CheckSetNames()


# --- the section ---------------------------------------------------------------------------


def resolve_check_sets(node: object, problems: Problems, base: Path) -> DeclaredSets:
    """Return the sets under `node`; programs with a relative path start at `base`."""
    if node is None:
        return NO_SETS
    if not isinstance(node, Block):
        read_section(Section, node, problems, noun="'checks' of the plan")
        return replace(NO_SETS, names=None)
    sets = CheckSets()
    demands: dict[OsKind, dict[str, str]] = {each: {} for each in OsKind}
    for name, items in node.fields():
        check_name(name, problems)
        words = f"check set {shown(name)} is a list with one '- path: PATH' or more"
        checks = (_check(item, problems, base) for item in items_of(items, problems, words))
        sets[str(name)] = tuple(check for check in checks if check is not None)
        for check in sets[str(name)]:
            path = getattr(check, check.kind, None)  # a program chooses its own
            if path is not None:
                demands[os_of(path)].setdefault(str(name), path)
    return DeclaredSets(sets=sets, names=tuple(sets), demands=demands)


def _check(node: object, problems: Problems, base: Path) -> Check | None:
    """Return one check, after noting everything that is wrong with it."""
    if not isinstance(node, Block):
        read_section(PathCheckFile, node, problems, noun="a check")
        return None
    kind = _kind(node, problems)
    if kind is None:
        return None
    model = CHECK_KINDS[kind]
    for key, _ in node.fields():
        owners = [each for each, other in CHECK_KINDS.items() if key in other.keys]
        if owners and kind not in owners:
            problems.add(
                key.position, f"'{key}' does not go with '{kind}': it belongs to '{owners[0]}'"
            )
    file = read_section(model, node, problems, noun=f"a '{kind}' check")
    if file is None:
        return None
    try:
        return check_of(file, node, base)
    except Contradiction as exc:
        problems.add(exc.position, str(exc))
        return None


def _kind(node: Block, problems: Problems) -> str | None:
    """Return the one key that says which kind of check this is, or None after saying why not."""
    kinds = keys_among(CHECK_KINDS, node, problems, "write one check for each")
    if len(kinds) == 1:
        return str(kinds[0])
    every = {key for model in CHECK_KINDS.values() for key in model.keys}
    unknown = [key for key, _ in node.fields() if key not in every]
    for key in unknown:
        advice = did_you_mean(key, [*CHECK_KINDS, *sorted(every)], noun="keys here")
        problems.add_new(key.position, f"unknown key {shown(key)}: {advice}")
    if not kinds and not unknown:
        problems.add(
            node.position, f"this check looks at nothing: it needs one of {', '.join(CHECK_KINDS)}"
        )
    return None


# --- the lists -----------------------------------------------------------------------------


def inherit_asked(
    above: CheckSetNames,
    section: OverridableFile,
    node: Block,
    declared: DeclaredSets,
    problems: Problems,
) -> CheckSetNames:
    """Return which sets hold for `section`: a list replaces the one above as a whole."""
    if section.checks is not None:
        items = {str(item): item.position for item in reversed(node["checks"])}
        names = tuple(dict.fromkeys(section.checks))
        for name in names:
            require_declared(name, items[name], declared, problems)
        return CheckSetNames(names=names, places=tuple(items[name] for name in names))
    if section.os is not None and above.names:
        return CheckSetNames(
            names=above.names, places=(node["os"].position,) * len(above.names), moved=True
        )
    return above


def require_declared(
    name: str, position: Position, declared: DeclaredSets, problems: Problems
) -> None:
    """See that there is a check set called `name`."""
    if declared.names is not None and name not in declared.names:
        advice = did_you_mean(name, declared.names, noun="check sets")
        problems.add(position, f"there is no check set {shown(name)}: {advice}")


def require_fitting(
    asked: CheckSetNames,
    os_kind: OsKind | None,
    target: str,
    declared: DeclaredSets,
    problems: Problems,
) -> None:
    """See that the guests of a target can have the paths that its sets look at.

    A list that is written where the system is known is wrong; one that a target of another
    system inherits is probably a mistake, and fails there. Noted once for each place, however
    many targets inherit from it; `target` is the first. None: the plan leaves the system open.
    """
    if os_kind is None:
        _require_one_system(asked, declared, problems)
        return
    foreign = declared.foreign_to(os_kind)
    if not foreign:
        return
    for name, place in zip(asked.names, asked.places, strict=True):
        if name in foreign and not problems.known_at(place):
            path = foreign[name]
            say = problems.doubt if asked.moved else problems.add
            say(
                place,
                f"check set {shown(name)} looks at {quoted(path)}, a path of {os_of(path)}, but "
                f"{target} is {os_kind}: correct its 'os', or ask it for other sets",
            )


def _require_one_system(asked: CheckSetNames, declared: DeclaredSets, problems: Problems) -> None:
    """See that each set can pass on a guest of some system."""
    windows, linux = declared.demands[OsKind.WINDOWS], declared.demands[OsKind.LINUX]
    for name, place in zip(asked.names, asked.places, strict=True):
        if name in windows and name in linux and not problems.known_at(place):
            problems.add(
                place,
                f"check set {shown(name)} looks at {quoted(linux[name])}, a path of Linux, and at "
                f"{quoted(windows[name])}, a path of Windows: make two sets of it",
            )
