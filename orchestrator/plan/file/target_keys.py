"""Which keys of a target go with its selector."""

from __future__ import annotations

from orchestrator.core.model import Source
from orchestrator.plan.file.document import Block, Items, Text
from orchestrator.plan.file.naming import has_open_bracket
from orchestrator.plan.file.problems import Problems
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.reading import keys_among, unread_keys
from orchestrator.plan.file.schema import TargetFile
from orchestrator.plan.file.selectors import KEYS, KEYS_OF_SEVERAL

_GOES_WITH: dict[str, tuple[tuple[str, ...], str]] = {
    "label": (("id", "vm"), "it names a single target"),
    "exclude": (KEYS_OF_SEVERAL, "it thins out several machines"),
    "backup_server": (("vm", *KEYS_OF_SEVERAL), "an id is one restore point already"),
    "all": (("vm",), "it decides what a name on several backup servers means"),
    "point": (("vm", *KEYS_OF_SEVERAL), "the id names the restore point already"),
    "sample": (("vm", *KEYS_OF_SEVERAL), "an id is one restore point already"),
}


def selector_of(file: TargetFile, node: Block, problems: Problems) -> str | None:
    """Return the one selector of a target, or None after saying that it is not one."""
    selectors = keys_among(KEYS, node, problems, "a target has exactly one selector")
    if len(selectors) == 1:
        return str(selectors[0])
    unknown = [key for key, _ in node.fields() if key not in TargetFile.keys]
    if not selectors and not unknown:
        # Otherwise the selector may be the key that was reported already.
        problems.add(
            node.position, f"this target selects nothing: it needs one of {', '.join(KEYS)}"
        )
    return None


def belongs_together(file: TargetFile, node: Block, selector: str, problems: Problems) -> bool:
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


def check_bounds(file: TargetFile, node: Block, problems: Problems) -> None:
    """Note an `expect` that expects nothing, or what cannot be."""
    expect = file.expect
    if expect is None or unread_keys(expect, node["expect"]):
        return
    position = node["expect"].position
    if expect.min is None and expect.max is None:
        problems.add(position, "write 'min', 'max' or both")
    elif expect.min is not None and expect.max is not None and expect.min > expect.max:
        problems.add(position, f"min ({expect.min}) is more than max ({expect.max})")


def check_globs(node: Block, problems: Problems) -> None:
    """Warn of a bracket that is not closed: it means itself, which is hardly meant."""
    excluded = node.get("exclude")
    for glob in (node.get("match"), *(excluded if isinstance(excluded, Items) else ())):
        if isinstance(glob, Text) and has_open_bracket(glob):
            problems.doubt(
                glob.position,
                f"{shown(glob)} has a '[' without a ']', so it means that character: write [[] if "
                "that is meant, else close it",
            )


def check_source(source: Source, node: Block, selector: str, problems: Problems) -> None:
    """Refuse what the server cannot be asked for. Source: reference 3.2, query fields."""
    if selector == "job" and source is Source.BACKUP:
        problems.add(
            node.key("job").position,
            "'job' does not go with 'source: backup': the server cannot list backups by their "
            "job; use 'match' or 'query'",
        )
