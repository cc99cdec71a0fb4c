"""The address of a database: what is refused before anything is connected."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.core.errors import AddressRefused
from orchestrator.database.address import is_address, read_address

SECRET = "s3cret-word"

VERIFIED = "postgresql://u@db.example.net/d?sslmode=verify-full"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PG"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{SECRET}@db.example.net/d?sslmode=verify-full",
        f"postgresql://db.example.net/d?password={SECRET}&sslmode=verify-full",
        f"postgresql://u:{SECRET}@localhost/d",
        f"postgres://u:{SECRET}@/d",
        f"postgresql://u@h/d?sslpassword={SECRET}",
        f"postgresql://u:{SECRET}%zz@h/d",
        f"postgresql://u:{SECRET}@h/d?nonsense=1",
        f"postgresql://u:{SECRET}@h:port/d",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_shown(text: str) -> None:
    """Not even where it cannot be read."""
    with pytest.raises(AddressRefused) as caught:
        read_address(text)

    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", None])
@pytest.mark.parametrize(
    "host",
    ["db.example.net", "192.0.2.7", "[2001:db8::1]", "localhost,db.example.net", "localhost.evil"],
)
def test_a_connection_that_verifies_no_server_is_refused(host: str, mode: str | None) -> None:
    """With the remedy."""
    text = f"postgresql://u@{host}/d" + (f"?sslmode={mode}" if mode else "")

    with pytest.raises(AddressRefused, match="sslmode=verify-full"):
        read_address(text)


@pytest.mark.parametrize(
    "text",
    [
        VERIFIED,
        "postgresql://u@db.example.net,other.example.net/d?sslmode=verify-full",
        "postgresql://u@localhost/d",
        "postgresql://u@127.0.0.1:5433/d?sslmode=disable",
        "postgresql://u@127.8.9.10/d",
        "postgresql://u@[::1]/d",
        "postgresql:///d",
        "postgresql://",
        "postgresql:///d?host=/var/run/postgresql",
        "postgresql://u@db.example.net/d?hostaddr=127.0.0.1",
    ],
)
def test_a_verified_or_local_connection_is_taken(text: str) -> None:
    """This machine needs no certificate."""
    read_address(text)


def test_the_address_that_counts_is_the_one_that_is_connected_to() -> None:
    """A name that sounds local does not make a distant address local."""
    with pytest.raises(AddressRefused):
        read_address("postgresql://u@localhost/d?hostaddr=192.0.2.7")


def test_the_environment_counts_as_libpq_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its password is used and never shown."""
    monkeypatch.setenv("PGHOST", "db.example.net")
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with pytest.raises(AddressRefused):
        read_address("postgresql://u@/d")
    monkeypatch.setenv("PGSSLMODE", "verify-full")

    address = read_address("postgresql://u@/d")

    assert str(address) == "d on db.example.net, port 5432"
    assert SECRET not in repr(address)


def test_a_service_counts_as_libpq_reads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its host must be verified, and its password is its own affair."""
    file = tmp_path / "services"
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    file.write_text(f"[drills]\nhost=db.example.net\ndbname=d\npassword={SECRET}\n")
    with pytest.raises(AddressRefused, match="sslmode=verify-full"):
        read_address("postgresql://?service=drills")
    file.write_text(f"{file.read_text()}sslmode=verify-full\n")

    address = read_address("postgresql://?service=drills")

    assert str(address) == "d on db.example.net, port 5432"
    assert SECRET not in repr(address)
    assert "PGSERVICE" not in os.environ


@pytest.mark.parametrize("text", ["state", "./postgresql", "host=db user=u", "", "http://h/d"])
def test_what_is_no_address_is_none(text: str) -> None:
    """A directory may be called anything."""
    assert not is_address(text)
    with pytest.raises(AddressRefused, match="postgresql://"):
        read_address(text)


def test_an_address_may_name_a_primary_and_its_standby() -> None:
    """Each is verified; one that is not is refused."""
    text = "postgresql://u@db1.example.net:5432,db2.example.net:5433/drills?target_session_attrs="

    found = read_address(f"{text}read-write&sslmode=verify-full")

    assert "target_session_attrs=read-write" in found.conninfo
    assert "host=db1.example.net,db2.example.net" in found.conninfo
    assert "port=5432,5433" in found.conninfo
    with pytest.raises(AddressRefused, match=r"db2\.example\.net"):
        read_address("postgresql://u@localhost:5432,db2.example.net:5433/drills")


def test_a_path_that_is_cut_is_noticed_unless_the_address_says_otherwise() -> None:
    """Also one on which nothing is sent."""
    assert "tcp_user_timeout=10000" in read_address(VERIFIED).conninfo
    assert "connect_timeout=30" in read_address(f"{VERIFIED}&connect_timeout=30").conninfo


WITHOUT = """
import sys
from importlib.machinery import PathFinder

found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "psycopg" else found(name, *rest)
"""

ASKED = """
from orchestrator.cli import command
try:
    command(sys.argv[1:], prog_name="bulk-restore", standalone_mode=False)
finally:
    print(sorted({"psycopg"} & sys.modules.keys()))
"""


def test_without_the_extra_the_message_names_it(tmp_path: Path) -> None:
    """Exit code 2, before anything else is looked at."""
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT + ASKED, "database", "check", "--state", VERIFIED],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 2
    assert "pip install 'bulk-restore-orchestrator[sites]'" in ran.stderr


@pytest.mark.parametrize(
    "arguments", [("status", "--state", "."), ("schema", "plan"), ("database", "token-key", "key")]
)
def test_a_command_without_a_database_imports_nothing_for_it(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Its start is a figure."""
    ran = subprocess.run(
        [sys.executable, "-c", "import sys\n" + ASKED, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr
