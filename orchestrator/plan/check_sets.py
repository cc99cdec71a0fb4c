"""The `checks` section, and the `checks` lists that ask for its sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.model import OsKind
from orchestrator.plan import scalars
from orchestrator.plan.document import Block, Items, Text
from orchestrator.plan.guest_paths import os_of, quoted
from orchestrator.plan.problems import Position, Problems, did_you_mean
from orchestrator.plan.quantities import shown
from orchestrator.plan.reading import known_keys, read_section
from orchestrator.plan.schema import CHECK_KINDS, OverridableFile, PathCheckFile, Section
from orchestrator.plan.servers import rooted
from orchestrator.proof import (
    BaselineCheck,
    Check,
    CheckSets,
    DirCheck,
    ExecCheck,
    PathCheck,
)

_CONTENT = ("sha256", "contains", "matches", "magic")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSets:
    """The check sets that could be read, and every name that the plan declares, if that is known.

    `demands` holds for each system the sets with a path that only it can have, and that path.
    """

    sets: CheckSets
    names: tuple[str, ...] | None
    demands: Mapping[OsKind, Mapping[str, str]]

    def foreign_to(self, os_kind: OsKind) -> Mapping[str, str]:
        """Return the sets that guests of `os_kind` cannot pass, each with a path that shows it."""
        return self.demands[OsKind.LINUX if os_kind is OsKind.WINDOWS else OsKind.WINDOWS]


NO_SETS = DeclaredSets(sets={}, names=(), demands={each: {} for each in OsKind})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Names of the check sets that are asked for.

    `places` are, for each, where the plan asked for it, or where it named another system
    after that (`moved`): if the set does not fit there, that is the place to say so.
    """

    names: tuple[str, ...] = ()
    places: tuple[Position, ...] = ()
    moved: bool = False


NOTHING_ASKED = Asked()


# --- the section ---------------------------------------------------------------------------


def resolve_check_sets(node: object, problems: Problems, base: Path) -> DeclaredSets:
    """Return the sets under `node`; programs with a relative path start at `base`."""
    if node is None:
        return NO_SETS
    if not isinstance(node, Block):
        read_section(Section, node, problems, noun="'checks' of the plan")
        return replace(NO_SETS, names=None)
    sets: CheckSets = {}
    demands: dict[OsKind, dict[str, str]] = {each: {} for each in OsKind}
    for name, items in node.fields():
        try:
            scalars.name(name)
        except ValueError as exc:
            if not problems.known_at(name.position):
                problems.add(name.position, str(exc))
        sets[str(name)] = tuple(_set(name, items, problems, base))
        for path in _paths(sets[str(name)]):
            demands[os_of(path)].setdefault(str(name), path)
    return DeclaredSets(sets=sets, names=tuple(sets), demands=demands)


def _paths(checks: Sequence[Check]) -> Iterator[str]:
    for check in checks:
        match check:
            case PathCheck():
                yield check.path
            case DirCheck():
                yield check.dir
            case BaselineCheck():
                yield check.baseline


def _set(name: Text, items: object, problems: Problems, base: Path) -> Iterator[Check]:
    if not isinstance(items, Items) or not items:
        if isinstance(items, Text | Block | Items) and not problems.known_at(items.position):
            problems.add(
                items.position,
                f"check set {shown(name)} is a list with one '- path: PATH' or more",
            )
        return
    for item in items:
        check = _check(item, problems, base)
        if check is not None:
            yield check


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
        owners = [each for each, other in CHECK_KINDS.items() if key in known_keys(other)]
        if owners and kind not in owners:
            problems.add(
                key.position, f"'{key}' does not go with '{kind}': it belongs to '{owners[0]}'"
            )
    file = read_section(model, node, problems, noun=f"a '{kind}' check")
    if file is None:
        return None
    said = file.said()
    try:
        return _BUILT[kind](node, said, base)
    except _Contradiction as exc:
        problems.add(exc.position, str(exc))
        return None


def _kind(node: Block, problems: Problems) -> str | None:
    """Return the one key that says which kind of check this is, or None after saying why not."""
    found = [key for key, _ in node.fields() if key in CHECK_KINDS]
    if len(found) == 1:
        return str(found[0])
    if found:
        problems.add(
            found[1].position,
            f"{' and '.join(found)} exclude each other: write one check for each",
        )
        return None
    every = {key for model in CHECK_KINDS.values() for key in known_keys(model)}
    unknown = [key for key, _ in node.fields() if key not in every]
    for key in unknown:
        if not problems.known_at(key.position):
            advice = did_you_mean(key, [*CHECK_KINDS, *sorted(every)], noun="keys here")
            problems.add(key.position, f"unknown key {shown(key)}: {advice}")
    if not unknown:
        problems.add(
            node.position, f"this check looks at nothing: it needs one of {', '.join(CHECK_KINDS)}"
        )
    return None


class _Contradiction(Exception):
    """Keys of one check that cannot hold together."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(message)
        self.position = position


def _path_check(node: Block, said: dict[str, Any], base: Path) -> PathCheck:
    _ = base
    check = PathCheck(**said)
    _require_order(node, said, "min_size", "max_size")
    if "max_download" in node and not any(key in node for key in _CONTENT):
        raise _Contradiction(
            node.key("max_download").position,
            f"nothing is downloaded here: 'max_download' goes with {', '.join(_CONTENT)}",
        )
    least = check.min_size or 0
    if check.needs_content and least > check.max_download:
        limit = "max_download" if "max_download" in node else "max_download (1MiB)"
        key = next(key for key in _CONTENT if key in node)
        raise _Contradiction(
            node["min_size"].position,
            f"a file of this size is not downloaded, so '{key}' would always fail: raise {limit}",
        )
    return check


def _dir_check(node: Block, said: dict[str, Any], base: Path) -> DirCheck:
    _ = base
    _require_order(node, said, "min_count", "max_count")
    if "glob" in node and not {"min_count", "max_count", "modified_within"} & node.keys():
        raise _Contradiction(
            node.key("glob").position,
            "'glob' alone demands nothing: add min_count, max_count or modified_within",
        )
    return DirCheck(**said)


def _baseline_check(node: Block, said: dict[str, Any], base: Path) -> BaselineCheck:
    _ = node, base
    return BaselineCheck(**said)


def _exec_check(node: Block, said: dict[str, Any], base: Path) -> ExecCheck:
    _ = node
    program, *arguments = said.pop("exec")
    if "/" in program:
        program = rooted(program, base)
    return ExecCheck(argv=(program, *arguments), **said)


_BUILT: dict[str, Callable[[Block, dict[str, Any], Path], Check]] = {
    "path": _path_check,
    "dir": _dir_check,
    "baseline": _baseline_check,
    "exec": _exec_check,
}


def _require_order(node: Block, said: Mapping[str, Any], least: str, most: str) -> None:
    """See that a range holds something.

    Raises:
        _Contradiction: it holds nothing.
    """
    if least in said and most in said and said[least] > said[most]:
        raise _Contradiction(
            node[least].position, f"{least} ({node[least]}) is more than {most} ({node[most]})"
        )


# --- the lists -----------------------------------------------------------------------------


def inherit_asked(
    above: Asked, section: OverridableFile, node: Block, declared: DeclaredSets, problems: Problems
) -> Asked:
    """Return which sets hold where `section` stands: a list replaces the one above as a whole."""
    if section.checks is not None:
        items = {str(item): item.position for item in reversed(node["checks"])}
        names = tuple(dict.fromkeys(section.checks))
        for name in names:
            require_declared(name, items[name], declared, problems)
        return Asked(names=names, places=tuple(items[name] for name in names))
    if section.os is not None and above.names:
        return Asked(
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
    asked: Asked, os_kind: OsKind, target: str, declared: DeclaredSets, problems: Problems
) -> None:
    """See that the guests of a target can have the paths that its sets look at.

    A list that is written where the system is known is wrong; one that a target of another
    system inherits is hardly meant, and will fail there. Said once for each place, however
    many targets inherit from it; `target` is the first.
    """
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
