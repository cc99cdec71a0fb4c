"""The store that a `--state` names."""

from __future__ import annotations

from pathlib import Path

from orchestrator.core.ports.store import Store
from orchestrator.journal import State


def store_at(state: Path) -> Store:
    """Return where runs are recorded, to read them: a directory, which need not exist yet."""
    return State(state)
