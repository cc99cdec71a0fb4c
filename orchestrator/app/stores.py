"""The store that a `--state` names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.core.ports.store import Store
from orchestrator.journal import State

if TYPE_CHECKING:
    from orchestrator.database.address import Address

Place: TypeAlias = "Path | Address"
"""Where runs are recorded: in a directory of this machine, or in a database."""


def store_at(place: Place) -> Store:
    """Return where runs are recorded, to read them; a directory need not exist yet."""
    if isinstance(place, Path):
        return State(place)
    from orchestrator.database.store import DatabaseStore  # psycopg is imported with it

    return DatabaseStore(place)


def state_at(place: Place) -> State:
    """Return the state directory for a run that this process carries out by itself.

    Raises:
        TypeError: it is a database: a run there is submitted, and workers carry it out.
    """
    if not isinstance(place, Path):
        raise TypeError(f"{place} is a database, and no state directory")
    return State(place)
