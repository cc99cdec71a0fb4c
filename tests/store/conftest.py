"""What every store must do: each test here is made with each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.database.private_server import PrivateServer
from tests.database.conftest import name, owner, server
from tests.database.owner import Owner
from tests.store.database_recorder import DatabaseRecorder
from tests.store.recorder import DirectoryRecorder, Recorder

__all__ = ["name", "owner", "server"]  # fixtures


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend: asyncio as it is, for stores have threads, files and connections."""
    return "asyncio"


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryRecorder:
    """Return an empty state directory, with what records runs in it."""
    return DirectoryRecorder(tmp_path / "state")


@pytest.fixture
def database(server: PrivateServer, name: str, owner: Owner) -> Iterator[DatabaseRecorder]:
    """Return an empty database, with what records runs in it."""
    recorder = DatabaseRecorder(lambda login: server.url(name, login), owner)
    yield recorder
    recorder.close()


@pytest.fixture(params=["directory", "database"])
def recorder(request: pytest.FixtureRequest) -> Recorder:
    """Return an empty store of each kind, with what records runs in it."""
    found: Recorder = request.getfixturevalue(request.param)
    return found
