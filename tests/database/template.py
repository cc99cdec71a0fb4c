"""Databases with our schema, copied from one that is made once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import psycopg

from orchestrator.database.address import read_address
from orchestrator.database.installation import init
from orchestrator.database.private_server import PrivateServer

TEMPLATE = "sites"

LOGINS = """
CREATE ROLE reader LOGIN IN ROLE bulk_restore_reader;
CREATE ROLE operator LOGIN IN ROLE bulk_restore_operator;
CREATE ROLE east LOGIN IN ROLE bulk_restore_worker;
CREATE ROLE west LOGIN IN ROLE bulk_restore_worker;
CREATE ROLE drill LOGIN IN ROLE bulk_restore_operator, bulk_restore_worker;
CREATE ROLE stranger LOGIN;
"""


def make_template(server: PrivateServer) -> None:
    """Make the database that others are copied from, and logins for all of them. Only once."""
    server.make_database(TEMPLATE)
    anyio.run(init, read_address(server.url(TEMPLATE)))
    _execute(server, LOGINS)


@contextmanager
def database_of(server: PrivateServer, name: str) -> Iterator[None]:
    """Make a database called `name`, and remove it at the end."""
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: PrivateServer, statements: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(statements.encode())
