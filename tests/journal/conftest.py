"""The journal has a thread, a real file and other processes: real time for all of its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.journal import State


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend: asyncio as it is."""
    return "asyncio"


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Return a state directory that nobody has made yet."""
    return State(tmp_path / "state")
