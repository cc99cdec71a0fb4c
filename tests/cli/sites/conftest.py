"""A database, simulated servers, and a place from which the commands use both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.database.private_server import PrivateServer
from tests.cli.sites.site import Site
from tests.database.conftest import name, owner, server
from tests.processes import Servers, servers

__all__ = ["name", "owner", "server"]  # fixtures


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend: asyncio as it is, for the server is real."""
    return "asyncio"


@pytest.fixture
def site(server: PrivateServer, name: str, tmp_path: Path) -> Site:
    """Return a place of this test's own, with a key for tokens."""
    key = tmp_path / "token.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(32))
    return Site(tmp_path, address=server.url(name, "drill"))


@pytest.fixture
def quick() -> Iterator[Servers]:
    """Serve two servers, hq and dr, whose mounts take a moment."""
    with servers() as running:
        yield running


@pytest.fixture
def stalled() -> Iterator[Servers]:
    """Serve two servers that finish no mount until `go_on`."""
    with servers(stall_after=0) as running:
        yield running
