"""Real servers and a place of its own for each test that starts the command as a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Place, Servers, servers


@pytest.fixture
def slow() -> Iterator[Servers]:
    """Serve two servers whose mounts take long enough for something to break meanwhile."""
    with servers(seconds=(1.0, 2.0)) as running:
        yield running


@pytest.fixture
def quick() -> Iterator[Servers]:
    """Serve two servers whose mounts take a moment."""
    with servers() as running:
        yield running


@pytest.fixture
def stalled() -> Iterator[Servers]:
    """Serve two servers that finish no mount until `go_on`."""
    with servers(stall_after=0) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return this test's own journal and report directory."""
    return Place(tmp_path, is_cold=True)
