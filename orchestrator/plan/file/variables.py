"""Variables: `${name}`, `${name:-default}` and `$${` for a literal `${`.

They are replaced in scalars after parsing, so a value can never become structure; never in
keys, never inside a secret reference. A replaced text is not looked at again, and variables
cannot refer to one another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeGuard

from orchestrator.plan.file.document import Block, Items, Text, text_at
from orchestrator.plan.file.problems import START, Position, Problems, SourceText, did_you_mean
from orchestrator.plan.file.quantities import shown

NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*"

_name = re.compile(NAME_PATTERN, re.ASCII)
_token = re.compile(
    rf"\$\$\{{|\$\{{(?P<name>{NAME_PATTERN})(?::-(?P<default>[^}}]*))?\}}|(?P<stray>\$\{{)",
    re.ASCII,
)
_secret_keys = ("username", "password", "url")


def expand_text(text: str, lookup: Callable[[str, str | None], str]) -> str:
    """Return `text` with every variable replaced by what `lookup(name, default)` returns.

    Raises:
        ValueError: a `${` that is no variable, or what `lookup` raises.
    """

    def replace(match: re.Match[str]) -> str:
        if match["stray"]:
            raise ValueError(
                "'${' starts no variable here: write ${name}, ${name:-default}, "
                "or $${ for a literal '${'"
            )
        return lookup(match["name"], match["default"]) if match["name"] else "${"

    return _token.sub(replace, text)


class Overrides(dict[str, str]):
    """Values of variables from the command line, by name; `written` are the places in files."""

    def __init__(
        self,
        values: Mapping[str, str] = MappingProxyType({}),
        written: Mapping[str, tuple[SourceText, Position]] = MappingProxyType({}),
    ) -> None:
        """Take over both."""
        super().__init__(values)
        self.written = dict(written)

    def set(self, values: Mapping[str, str]) -> None:
        """Take over values that win over these, and where they are written, if that is known."""
        for name, value in values.items():
            self[name] = value
            self.written.pop(name, None)
        if isinstance(values, Overrides):
            self.written.update(values.written)


def used_with_default(tree: Block) -> frozenset[str]:
    """Return the names of the variables for which `tree` has a default."""
    tokens = (found for _, _, text in _scalars(tree) for found in _token.finditer(text))
    return frozenset(found["name"] for found in tokens if found["default"] is not None)


def substitute(
    tree: Block,
    overrides: Mapping[str, str],
    problems: Problems,
    *,
    with_default: Collection[str] = (),
) -> None:
    """Replace the variables in every scalar of `tree`, in place.

    `overrides` win over the plan's own values; one that the plan neither declares nor uses
    with a default, and that is not in `with_default`, is a problem.
    """
    declared = _declared(tree.get("variables"), problems)
    values = {**declared, **{n: v for n, v in overrides.items() if n in declared}}
    known = {*declared, *with_default}

    def lookup(name: str, default: str | None) -> str:
        if default is not None:
            known.add(name)
        if name in values:
            return values[name]
        if default is not None:
            return overrides.get(name, default)
        advice = did_you_mean(name, values, noun="variables")
        raise ValueError(f"there is no variable {shown(name)}: {advice}")

    for container, place, text in _scalars(tree):
        try:
            container[place] = text_at(expand_text(text, lookup), text.position)
        except ValueError as exc:
            problems.add(text.position, str(exc))
            container[place] = text_at("", text.position)  # reported: later stages skip it
    _refuse_unknown(overrides, known, problems)


def _refuse_unknown(
    overrides: Mapping[str, str], known: Collection[str], problems: Problems
) -> None:
    """Note every override that the plan has no use for, where it was written."""
    written = overrides.written if isinstance(overrides, Overrides) else {}
    files: dict[str, Problems] = {}
    for name in overrides:
        if name in known:
            continue
        advice = did_you_mean(name, sorted(known), noun="variables")
        if name in written:
            source, position = written[name]
            if source.name not in files:
                problems.include(files.setdefault(source.name, Problems(source)))
            message = f"the plan has no variable {shown(name)}: {advice}"
            files[source.name].add(position, message)
        else:
            problems.add(START, f"--set {shown(name)}: the plan has no such variable: {advice}")


def _declared(block: object, problems: Problems) -> dict[str, str]:
    """Return the plan's own variables; what is no variable is a problem."""
    if not isinstance(block, Block):
        if isinstance(block, Text | Items):
            problems.add_new(block.position, "variables: write a mapping of names to values")
        return {}
    values: dict[str, str] = {}
    for name, value in block.fields():
        values[str(name)] = ""
        if is_variable(name, value, problems):
            values[str(name)] = _literal(value, problems)
    return values


def is_variable(name: Text, value: object, problems: Problems) -> TypeGuard[Text]:
    """Return whether these are a variable's name and value; else it is noted what is wrong."""
    if _name.fullmatch(name) is None:
        problems.add(name.position, "a variable's name is letters, digits and '_', no digit first")
        return False
    if not isinstance(value, Text):
        position = getattr(value, "position", name.position)
        problems.add(position, "a variable's value is a single text, not a structure")
        return False
    return True


def _literal(value: Text, problems: Problems) -> str:
    def refuse(_name: str, _default: str | None) -> str:
        raise ValueError("variables cannot refer to one another: write the value out")

    try:
        return expand_text(value, refuse)
    except ValueError as exc:
        problems.add(value.position, str(exc))
        return ""


def _scalars(tree: Block) -> Iterator[tuple[Any, Any, Text]]:
    """Yield every scalar that holds a `${`, with its container, outside of secrets."""
    stack: list[Block | Items] = [tree]
    while stack:
        container = stack.pop()
        pairs: Iterable[tuple[Any, Any]] = (
            container.items() if isinstance(container, Block) else enumerate(container)
        )
        texts = []
        for place, value in pairs:
            if isinstance(value, Text):
                if "${" in value:
                    texts.append((place, value))
            elif not (container is tree and place == "variables") and not (
                isinstance(value, Block) and place in _secret_keys
            ):
                stack.append(value)
        for place, value in texts:
            yield container, place, value
