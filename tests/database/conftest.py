"""One PostgreSQL per process of the tests, and a database of its own for each test.

What asks for nothing but the port is tested with the simulated database, too: it must do the same.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.sites import LEASE_LIFE_S
from orchestrator.database.address import read_address
from orchestrator.database.postgresql import PostgreSQL
from orchestrator.database.private_server import PrivateServer, private_server
from tests.database import workers
from tests.database.owner import Owner
from tests.database.template import database_of, make_template
from tests.database.workers import Worker
from tests.simulation.sites.database import Connections, SimulatedDatabase

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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make each test with every kind of database, unless it looks into PostgreSQL itself."""
    wanted = set(metafunc.fixturenames)
    if "kind" in wanted:
        looks_inside = wanted & {"server", "name", "owner"}
        metafunc.parametrize(
            "kind", ["postgresql"] if looks_inside else ["postgresql", "simulated"]
        )


@dataclass(slots=True)
class Clock:
    """The clock of a simulated database."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return its seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the simulated database."""
    return Clock()


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str) -> str | None:
    """Return where the database is, for a login that may submit and work; None: simulated."""
    if kind == "simulated":
        return None
    server: PrivateServer = request.getfixturevalue("server")
    return server.url(request.getfixturevalue("name"), "drill")


@pytest.fixture
async def database(url: str | None, clock: Clock) -> AsyncIterator[SitesDatabase]:
    """Return the database, for a login that may submit and work."""
    found: SitesDatabase = Connections(SimulatedDatabase(clock))
    if url is not None:
        found = PostgreSQL(read_address(url))
    yield found
    await found.aclose()


@pytest.fixture
def expire(request: pytest.FixtureRequest, kind: str, clock: Clock) -> Callable[[], None]:
    """Return what lets all leases be expired."""
    if kind == "postgresql":
        found: Callable[[], None] = request.getfixturevalue("owner").expire
        return found

    def expire_all() -> None:
        clock.now += LEASE_LIFE_S + 0.001

    return expire_all


@pytest.fixture
def fail_over(
    request: pytest.FixtureRequest, url: str | None, database: SitesDatabase
) -> Callable[[], None]:
    """Return what lets a standby of the database take its place."""
    if url is not None:
        owner = request.getfixturevalue("owner")
        return lambda: owner.rows("UPDATE run SET timeline = timeline - 1")
    assert isinstance(database, Connections)
    standby = database.database

    def take_over() -> None:
        standby.fail_over(0)

    return take_over


@pytest.fixture
def settle(request: pytest.FixtureRequest, url: str | None, clock: Clock) -> Callable[[], None]:
    """Return what lets the first moments after a failover be over."""
    if url is not None:
        owner = request.getfixturevalue("owner")
        return lambda: owner.rows("UPDATE run SET failed_over_at = failed_over_at - lease_life()")

    def settled() -> None:
        clock.now += LEASE_LIFE_S + 0.001

    return settled


@pytest.fixture
async def submitted(database: SitesDatabase) -> SitesDatabase:
    """Return a database in which the run of `workers` was submitted."""
    await database.submit(workers.submission())
    return database


@pytest.fixture
async def anna(submitted: SitesDatabase) -> Worker:
    """Return a worker that has entered and serves site east."""
    return await workers.entered(submitted, "anna")


@pytest.fixture
async def bert(submitted: SitesDatabase) -> Worker:
    """Return another one."""
    return await workers.entered(submitted, "bert")
