"""The address of a database, as `--state` takes it: read, and refused before anything is connected.

libpq reads it, with its environment variables and service files; there is no parser of ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from ipaddress import ip_address

from msgspec import Struct

from orchestrator.core.errors import AddressRefused

SCHEMES = ("postgresql://", "postgres://")
"""Source: PostgreSQL, "Connection URIs"."""

NEEDED = ("psycopg",)
EXTRA = "bulk-restore-orchestrator[sites]"

SECRETS = frozenset(
    {
        *("password", "sslpassword", "oauth_client_secret"),
        *("scram_client_key", "scram_server_key"),
    }
)
"""Parameters that are secrets. Source: PostgreSQL, "Parameter Key Words"."""

DEFAULTS: Mapping[str, str] = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",  # milliseconds
    "gssencmode": "disable",  # it would take the place of TLS, and show no certificate
    "application_name": "bulk-restore",
}
"""What is set where the address sets nothing: a path that is cut is noticed within ten seconds."""


class Address(Struct, frozen=True, kw_only=True):
    """A database's address. It holds no secret; libpq finds those when it connects."""

    conninfo: str
    shown: str

    def __str__(self) -> str:
        """Return it as messages show it."""
        return self.shown


def is_address(text: str) -> bool:
    """Tell whether a value of `--state` names a database and not a directory."""
    return text.casefold().startswith(SCHEMES)


def read_address(text: str) -> Address:
    """Return the address in `text`. Connects to nothing.

    Raises:
        AddressRefused: psycopg is not installed, it cannot be read, it has a password in it, or
            the connection would not be encrypted to a verified server. Shows no part of a secret.
    """
    _require_extra()
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    unreadable = AddressRefused(
        "the address of the database cannot be read; it is written like "
        "postgresql://USER@HOST/DATABASE?sslmode=verify-full"
    )
    if not is_address(text):
        raise unreadable
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except ProgrammingError:  # its words may quote a password
        raise unreadable from None
    if SECRETS & given.keys():
        raise AddressRefused(
            "the address of the database has a password in it, which others can see in the list "
            "of processes; set PGPASSWORD, or use PGPASSFILE, a service file or a client "
            "certificate"
        )
    values = {**_defaults(given.get("service")), **given}
    _require_verified(values)
    return Address(
        conninfo=make_conninfo("", **{**DEFAULTS, **given}),
        shown=_shown(values),
    )


def _require_extra() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise AddressRefused(
            f"a database needs packages that are not installed ({', '.join(missing)}); "
            f"run: pip install '{EXTRA}'"
        )


def _defaults(service: str | None) -> dict[str, str]:
    """Return what libpq takes from its environment and from a service file, without secrets."""
    from psycopg.pq import Conninfo

    with _service(service):
        options = Conninfo.get_defaults()
    return {
        each.keyword.decode(): each.val.decode(errors="replace")
        for each in options
        if each.val is not None and each.keyword.decode() not in SECRETS
    }


@contextmanager
def _service(name: str | None) -> Iterator[None]:
    """Let libpq look up a service: its function for defaults takes no other argument."""
    before = os.environ.get("PGSERVICE")
    try:
        if name is not None:
            os.environ["PGSERVICE"] = name
        yield
    finally:
        if name is not None:
            os.environ.pop("PGSERVICE")
            if before is not None:
                os.environ["PGSERVICE"] = before


def _require_verified(values: Mapping[str, str]) -> None:
    mode = values.get("sslmode", "prefer")
    if mode == "verify-full":
        return
    places = (values.get("hostaddr") or values.get("host") or "").split(",")
    distant = [each for each in places if not _is_local(each)]
    if distant:
        raise AddressRefused(
            f"sslmode={mode} does not verify which server answers; for {distant[0]}, add "
            "sslmode=verify-full, and sslrootcert=FILE if its authority is your own"
        )


def _is_local(host: str) -> bool:
    """Tell whether a host is this machine: a local socket, or a loopback address."""
    if not host or host.startswith(("/", "@")) or host.casefold() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _shown(values: Mapping[str, str]) -> str:
    host = values.get("host") or values.get("hostaddr") or "a local socket"
    port = values.get("port") or "5432"
    name = values.get("dbname") or values.get("user") or "the user's own database"
    return f"{name} on {host}" if host.startswith(("/", "@")) else f"{name} on {host}, port {port}"
