"""`bulk-restore database`: what is printed, and the exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import command
from orchestrator.core.exit_codes import ExitCode
from orchestrator.database.address import Address, read_address
from orchestrator.database.examination import Fact, Status, examine
from orchestrator.database.hearing import notifications_are_heard
from orchestrator.database.installation import init
from orchestrator.database.private_server import PrivateServer
from tests.database.owner import Owner
from tests.database.patience import until_overdue
from tests.database.proxy import Proxy, proxied

pytestmark = [pytest.mark.anyio, pytest.mark.process]

FACTS = {
    *("server", "tables", "functions", "rights", "writable", "clock"),
    *("round_trip", "commits", "standby", "durability", "notify"),
}


def bulk_restore(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def called(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(command, arguments)


def test_init_and_check_say_what_there_is(server: PrivateServer, name: str) -> None:
    """In lines for people, and as JSON."""
    url = server.url(name)

    made = bulk_restore("database", "init", "--state", url)
    checked = bulk_restore("database", "check", "--state", url)
    read = bulk_restore("database", "check", "--json", "--state", url)

    assert (made.returncode, made.stderr) == (0, "")
    assert "up to date, version 1" in made.stdout
    assert checked.returncode == 0, checked
    assert checked.stdout.splitlines()[-1] == "ready"
    found = json.loads(read.stdout)
    assert found.pop("ready") is True
    assert set(found) == FACTS
    assert found["notify"]["value"] is True
    assert found["commits"]["value"] > 0


def test_a_database_without_our_tables_is_exit_74(server: PrivateServer) -> None:
    """With the command that makes them."""
    ran = bulk_restore("database", "check", "--state", server.url())

    assert ran.returncode == ExitCode.LOCAL_IO
    assert "bulk-restore database init" in ran.stderr
    assert "state directory" not in ran.stderr


def test_a_database_that_cannot_be_reached_is_exit_74() -> None:
    """The same, without waiting."""
    ran = bulk_restore("database", "init", "--state", "postgresql:///d?host=/nowhere")

    assert ran.returncode == ExitCode.LOCAL_IO
    assert "bulk-restore database init" in ran.stderr


@pytest.mark.parametrize("subcommand", ["init", "check"])
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://u:s3cret@db.example.net/d", "PGPASSWORD"),
        ("postgresql://u@db.example.net/d", "verify-full"),
        ("directory", "postgresql://"),
    ],
)
def test_an_address_that_is_refused_is_exit_2(subcommand: str, address: str, words: str) -> None:
    """Nothing is connected, and no password is shown."""
    ran = called("database", subcommand, "--state", address)

    assert ran.exit_code == ExitCode.USAGE
    assert words in ran.output
    assert "s3cret" not in ran.output


def test_commands_that_take_a_directory_refuse_an_address(tmp_path: Path) -> None:
    """No directory of that name is made, and its password is not shown."""
    ran = subprocess.run(
        [sys.executable, "-m", "orchestrator", "status", "--state", "postgresql://u:s3cret@h/d"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert ran.returncode == ExitCode.USAGE
    assert "s3cret" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_token_key_is_private_and_never_written_over(tmp_path: Path) -> None:
    """32 random bytes."""
    file, other = tmp_path / "token.key", tmp_path / "other.key"
    before = os.umask(0)

    made = called("database", "token-key", str(file))
    os.umask(before)
    again = called("database", "token-key", str(file))
    called("database", "token-key", str(other))

    assert made.exit_code == 0
    assert again.exit_code == ExitCode.USAGE
    assert "not changed" in again.output
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_bytes()) == 32
    assert file.read_bytes() != other.read_bytes()


def test_a_token_key_that_cannot_be_written_is_exit_74(tmp_path: Path) -> None:
    """Its directory is not there."""
    ran = called("database", "token-key", str(tmp_path / "nowhere" / "token.key"))

    assert ran.exit_code == ExitCode.LOCAL_IO


@pytest.fixture
async def address(server: PrivateServer, name: str) -> Address:
    """Return the address of a database of ours, as a reader."""
    return read_address(server.url(name, "reader"))


async def test_a_reader_may_check(address: Address) -> None:
    """And is told which roles it has."""
    found = by_name(await examine(address))

    assert found["rights"].value == {"login": "reader", "roles": ["bulk_restore_reader"]}
    assert found["standby"].status is Status.WARNING
    assert {each.status for name, each in found.items() if name != "standby"} == {Status.OK}


@pytest.mark.parametrize(
    "older",
    [
        "UPDATE meta SET code = 'an older one'",
        "DROP VIEW about; CREATE VIEW about AS SELECT version, lease_life FROM meta; "
        "GRANT SELECT ON about TO bulk_restore_reader",
    ],
    ids=["another program", "one that did not show it"],
)
async def test_functions_of_another_program_are_told(
    older: LiteralString, owner: Owner, address: Address, server: PrivateServer, name: str
) -> None:
    """Runs go on with them, and `init` brings those of this program."""
    owner.rows(older)
    if "meta SET" not in older:
        owner.rows("UPDATE meta SET code = 'an older one'")

    before = by_name(await examine(address))
    await init(read_address(server.url(name)))
    after = by_name(await examine(address))

    assert before["functions"].status is Status.WARNING
    assert "database init" in before["functions"].words
    assert after["functions"].status is Status.OK


@pytest.fixture
async def pool(server: PrivateServer, name: str) -> AsyncIterator[tuple[Proxy, Address]]:
    """Put something between us and the server that swallows notifications."""
    with TemporaryDirectory(dir="/tmp") as directory:
        async with proxied(server, Path(directory), server.url(name)) as (proxy, address):
            proxy.swallows_notifications = True
            yield proxy, address


async def test_a_pool_that_swallows_notifications_is_told(pool: tuple[Proxy, Address]) -> None:
    """It does so in silence."""
    found = by_name(await examine(pool[1]))

    assert found["notify"].status is Status.PROBLEM
    assert "pool" in found["notify"].words


async def test_whoever_listens_finds_out_that_nothing_is_heard(
    pool: tuple[Proxy, Address], address: Address
) -> None:
    """`submit` and `work` warn then."""
    assert not await notifications_are_heard(pool[1], 0.5)
    assert await notifications_are_heard(address)


async def test_a_read_only_database_is_told(server: PrivateServer, address: Address) -> None:
    """Workers would wait."""
    server.be_read_only(True)
    try:
        for _ in until_overdue():
            if by_name(await examine(address))["writable"].status is not Status.OK:
                break
    finally:
        server.be_read_only(False)


async def test_a_standby_that_is_not_there_is_told_and_not_waited_for(
    server: PrivateServer, address: Address
) -> None:
    """Every commit would hang."""
    server.set("synchronous_standby_names", "nobody")
    found: dict[str, Fact] = {}
    try:
        for _ in until_overdue():
            found = by_name(await examine(address))
            if found["standby"].status is Status.OK:
                break
    finally:
        server.set("synchronous_standby_names", "")

    assert found["commits"].status is Status.PROBLEM
    assert "standby" in found["commits"].words


async def test_a_server_that_forgets_is_told(server: PrivateServer, address: Address) -> None:
    """Its crash would lose what it acknowledged."""
    server.set("full_page_writes", "off")
    try:
        for _ in until_overdue():
            if by_name(await examine(address))["durability"].status is not Status.OK:
                break
    finally:
        server.set("full_page_writes", "on")


async def test_what_a_run_of_the_checks_leaves(address: Address, owner: Owner) -> None:
    """Nothing."""
    before = owner.rows("SELECT relname, n_tup_ins FROM pg_stat_user_tables ORDER BY relname")

    await examine(address)

    assert before == owner.rows(
        "SELECT relname, n_tup_ins FROM pg_stat_user_tables ORDER BY relname"
    )
    assert owner.one("SELECT count(*) FROM worker") == 0


def by_name(facts: list[Fact]) -> dict[str, Fact]:
    """Return facts by their names, of which there are always the same."""
    found = {each.name: each for each in facts}
    assert set(found) == FACTS
    return found
