"""How a target names its machines: every selector with what is to be known of it.

A further selector is a row here, a key of `schema.TargetFile` and a case in `matching`. One
that asks the server what no other asks is also a question in `inventory` and
`engine.inventory`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from msgspec import Struct


class SelectorKind(StrEnum):
    """How an entry names its machines; the rows of a `from_file` become VM entries."""

    ID = "id"
    VM = "vm"
    JOB = "job"
    MATCH = "match"
    QUERY = "query"


def _itself(value: str, backup_server: str) -> str:
    _ = backup_server
    return value


def _behind(value: str, backup_server: str) -> str:
    _ = value
    return backup_server


class Selector(Struct, frozen=True, kw_only=True):
    """One selector.

    `asked_as` is the kind of question that the server is asked, `text` makes what is asked of
    the selector's value and the entry's backup server (empty where it names none).
    """

    asked_as: SelectorKind
    several: bool = True
    """Whether it means any number of machines."""
    text: Callable[[str, str], str] = _itself


SELECTORS: Mapping[SelectorKind, Selector] = {
    SelectorKind.ID: Selector(asked_as=SelectorKind.ID, several=False),
    SelectorKind.VM: Selector(asked_as=SelectorKind.VM, several=False),
    SelectorKind.JOB: Selector(asked_as=SelectorKind.JOB),
    SelectorKind.MATCH: Selector(asked_as=SelectorKind.MATCH, text=_behind),
    SelectorKind.QUERY: Selector(asked_as=SelectorKind.QUERY),
}
FROM_FILE = "from_file"
"""The selector that reads a file; each of its rows is a target of its own."""
KEYS = (*map(str, SELECTORS), FROM_FILE)
"""The keys of a target that are selectors."""
KEYS_OF_SEVERAL = tuple(k for k in KEYS if k == FROM_FILE or SELECTORS[SelectorKind(k)].several)
