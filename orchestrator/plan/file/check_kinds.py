"""The kinds of checks: what a plan writes for each, and the check that it asks for.

A further kind is a section here, a value in `proof`, its verdict in `checks`, and its place among
the others in `engine.content.checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

from orchestrator.core.proof import BaselineCheck, Check, DirCheck, ExecCheck, PathCheck
from orchestrator.core.text import plan_size
from orchestrator.plan.file import contents
from orchestrator.plan.file import scalars as kinds
from orchestrator.plan.file.document import Block
from orchestrator.plan.file.problems import Position
from orchestrator.plan.file.section import Section, default_of, needed, optional

_CONTENT = ("sha256", "contains", "matches", "magic")


class PathCheckFile(Section):
    """One file or directory must be there, and be what the other keys say."""

    path: contents.GuestPath = needed("A file or directory of the guest.")
    min_size: contents.Size | None = optional("At least so large: 5GiB.")
    max_size: contents.Size | None = optional("At most so large.")
    modified_within: kinds.PositiveDuration | None = optional(
        "Last changed at most so long before the restore point was made."
    )
    owner: kinds.Line | None = optional("Its owner, as the server names it.")
    sha256: contents.Sha256 | None = optional("The SHA-256 of its content.")
    contains: contents.SearchedText | None = optional("A text that must be in its content.")
    matches: contents.Expression | None = optional(
        "A regular expression (RE2: without look-around and back-references) that is found in a "
        "line of its content."
    )
    magic: contents.Magic | None = optional("The bytes it begins with, in hex: 4D 5A.")
    max_download: contents.Volume | None = optional(
        "A larger file is not looked into, and fails.",
        default_of(PathCheck, "max_download", plan_size),
    )


class DirCheckFile(Section, of=DirCheck):
    """The names in one directory."""

    dir: contents.GuestPath = needed("A directory of the guest.")
    glob: contents.NameGlob | None = optional("Which of its entries are counted.")
    min_count: kinds.Count | None = optional("At least so many.")
    max_count: kinds.Count | None = optional("At most so many.")
    modified_within: kinds.PositiveDuration | None = optional(
        "The newest changed at most so long before the restore point was made."
    )
    absent: contents.NameGlobs | None = optional(
        "Patterns of names of which none may be there, such as ransom notes."
    )


class BaselineCheckFile(Section):
    """Files and bytes of a directory, compared with the last run that verified the target."""

    baseline: contents.GuestPath = needed("A directory of the guest.")
    count: contents.Tolerance | None = optional(
        "By how much the number of files may differ.",
        default_of(BaselineCheck, "count", "{:.0%}".format),
    )
    size: contents.Tolerance | None = optional(
        "By how much their bytes in all may differ.",
        default_of(BaselineCheck, "size", "{:.0%}".format),
    )


class ExecCheckFile(Section, of=ExecCheck):
    """A program of your own judges the guest: it ends with 0 (good), 1 (bad) or 2 (warning)."""

    exec: contents.CommandLine = needed(
        "Program and arguments, started without a shell; a path is relative to the "
        "plan. They are journaled: no secret belongs here."
    )
    timeout: kinds.PositiveDuration | None = optional("How long it may take.")


CheckFile = PathCheckFile | DirCheckFile | BaselineCheckFile | ExecCheckFile
CHECK_KINDS: dict[str, type[CheckFile]] = {
    "path": PathCheckFile,
    "dir": DirCheckFile,
    "baseline": BaselineCheckFile,
    "exec": ExecCheckFile,
}
"""The section of each kind of check, by the key that makes it one."""


class Contradiction(Exception):
    """Keys of one check that cannot hold together."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(message)
        self.position = position


def check_of(file: CheckFile, node: Block, base: Path) -> Check:
    """Return the check that `file` asks for; a program with a relative path starts at `base`.

    Raises:
        Contradiction: its keys cannot hold together.
    """
    values = file.values()
    match file:
        case PathCheckFile():
            return _path_check(node, values)
        case DirCheckFile():
            return _dir_check(node, values)
        case BaselineCheckFile():
            return BaselineCheck(**values)
        case ExecCheckFile():
            return _exec_check(values, base)
        case _:
            assert_never(file)


def _path_check(node: Block, values: dict[str, Any]) -> PathCheck:
    check = PathCheck(**values)
    _require_order(node, values, "min_size", "max_size")
    if "max_download" in node and not any(key in node for key in _CONTENT):
        raise Contradiction(
            node.key("max_download").position,
            f"nothing is downloaded here: 'max_download' goes with {', '.join(_CONTENT)}",
        )
    least = check.min_size or 0
    if check.needs_content and least > check.max_download:
        limit = (
            "max_download"
            if "max_download" in node
            else f"max_download ({plan_size(check.max_download)})"
        )
        key = next(key for key in _CONTENT if key in node)
        raise Contradiction(
            node["min_size"].position,
            f"a file of this size is not downloaded, so '{key}' would always fail: raise {limit}",
        )
    return check


def _dir_check(node: Block, values: dict[str, Any]) -> DirCheck:
    _require_order(node, values, "min_count", "max_count")
    if "glob" in node and not {"min_count", "max_count", "modified_within"} & node.keys():
        raise Contradiction(
            node.key("glob").position,
            "'glob' alone demands nothing: add min_count, max_count or modified_within",
        )
    return DirCheck(**values)


def _exec_check(values: dict[str, Any], base: Path) -> ExecCheck:
    program, *arguments = values.pop("exec")
    if "/" in program:
        program = kinds.absolute_path(program, base)
    return ExecCheck(argv=(program, *arguments), **values)


def _require_order(node: Block, values: Mapping[str, Any], least: str, most: str) -> None:
    """See that a range holds something.

    Raises:
        Contradiction: it holds nothing.
    """
    if least in values and most in values and values[least] > values[most]:
        raise Contradiction(
            node[least].position, f"{least} ({node[least]}) is more than {most} ({node[most]})"
        )
