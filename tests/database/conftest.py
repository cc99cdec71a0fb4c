"""One PostgreSQL per process of the tests, and a database of its own for each test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from orchestrator.database.address import read_address
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer, private_server
from tests.database import workers
from tests.database.owner import Owner
from tests.database.template import database_of, make_template
from tests.database.workers import Worker

NUMBERS = count(1)


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend: asyncio as it is, for the server is real."""
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[PrivateServer]:
    """Start a PostgreSQL with a template of our schema; `PG_BINARIES` names another one."""
    chosen = os.environ.get("PG_BINARIES")
    with private_server(binaries=Path(chosen) if chosen else None) as running:
        make_template(running)
        yield running


@pytest.fixture
def name(server: PrivateServer) -> Iterator[str]:
    """Make a database with our schema; return its name."""
    found = f"test_{next(NUMBERS)}"
    with database_of(server, found):
        yield found


@pytest.fixture
def owner(server: PrivateServer, name: str) -> Iterator[Owner]:
    """Return a hand in the database that no rule holds."""
    with Owner(server.url(name)) as hand:
        yield hand


@pytest.fixture
async def database(server: PrivateServer, name: str) -> AsyncIterator[PostgreSQL]:
    """Return the database, for a login that may submit and work."""
    found = PostgreSQL(read_address(server.url(name, "drill")))
    yield found
    await found.aclose()


@pytest.fixture
async def submitted(database: PostgreSQL) -> PostgreSQL:
    """Return a database in which the run of `workers` was submitted."""
    await database.submit(workers.submission())
    return database


@pytest.fixture
async def anna(submitted: PostgreSQL) -> Worker:
    """Return a worker that has entered and serves site east."""
    return await workers.entered(submitted, "anna")


@pytest.fixture
async def bert(submitted: PostgreSQL) -> Worker:
    """Return another one."""
    return await workers.entered(submitted, "bert")
