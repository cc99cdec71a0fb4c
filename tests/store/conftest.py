"""What every store must do: each test here is made with each kind of store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.recorder import DirectoryRecorder, Recorder

KINDS = {"directory": DirectoryRecorder}
"""The kinds of stores: the place that each may use for itself makes an empty one."""


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend: asyncio as it is, for stores have threads, files and connections."""
    return "asyncio"


@pytest.fixture(params=KINDS)
def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Recorder:
    """Return an empty store, with what records in it."""
    return KINDS[request.param](tmp_path / "state")
