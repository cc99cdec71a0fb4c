"""Which keys of a target go with its selector."""

from __future__ import annotations

from orchestrator.core.model import Source
from orchestrator.plan.file.document import Block
from orchestrator.plan.file.problems import Problems
from orchestrator.plan.file.reading import keys_among
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
    unknown = [key for key, _ in node.fields() if key not in TargetFile.model_fields]
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


def check_source(source: Source, node: Block, selector: str, problems: Problems) -> None:
    """Refuse what the server cannot be asked for. Source: reference 3.2, query fields."""
    if selector == "job" and source is Source.BACKUP:
        problems.add(
            node.key("job").position,
            "'job' does not go with 'source: backup': the server cannot list backups by their "
            "job; use 'match' or 'query'",
        )
