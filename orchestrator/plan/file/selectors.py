"""How a target names its machines.

A further selector is a value here, a key of `schema.TargetFile` and a case in `matching`. One
that asks the server what no other asks is also a question in `inventory` and
`engine.inventory`.
"""

from __future__ import annotations

from enum import StrEnum


class SelectorKind(StrEnum):
    """How an entry names its machines; the rows of a `from_file` become VM entries."""

    ID = "id"
    VM = "vm"
    JOB = "job"
    MATCH = "match"
    QUERY = "query"

    @property
    def several(self) -> bool:
        """Whether it means any number of machines."""
        return self not in {SelectorKind.ID, SelectorKind.VM}


FROM_FILE = "from_file"
"""The selector that reads a file; each of its rows is a target of its own."""
KEYS = (*map(str, SelectorKind), FROM_FILE)
"""The keys of a target that are selectors."""
KEYS_OF_SEVERAL = (*(str(kind) for kind in SelectorKind if kind.several), FROM_FILE)
