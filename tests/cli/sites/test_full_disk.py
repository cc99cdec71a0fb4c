"""A database whose disk is really full, in the middle of a run of a real worker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from orchestrator.database.private_server import CannotStart, PrivateServer, private_server
from tests.cli.sites.site import MOST, Site, require_clean, until, until_running
from tests.database.small_disk import SmallDisk, small_disk
from tests.database.template import TEMPLATE, make_template
from tests.processes import Servers, ended, until_said

pytestmark = pytest.mark.process

TARGETS = 24
REFUSED_S = 8.0
"""For so long nothing is written; longer than a lease lives."""


@pytest.fixture
def full() -> Iterator[PrivateServer]:
    """Start a server of this test's own, with our schema; `PG_BINARIES` names another one."""
    chosen = os.environ.get("PG_BINARIES")
    with private_server(binaries=Path(chosen) if chosen else None) as running:
        make_template(running)
        yield running


@pytest.fixture
def site(full: PrivateServer, tmp_path: Path) -> Site:
    """Return a place of this test's own."""
    key = tmp_path / "token.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(32))
    return Site(tmp_path, address=full.url(TEMPLATE, "drill"))


def test_what_the_tables_have_no_room_for_is_written_later(
    full: PrivateServer, site: Site, stalled: Servers
) -> None:
    """PostgreSQL refuses each write that needs room; the worker repeats it until there is some."""
    with small_disk(full, "base", 96) as disk:
        run = site.submit(site.plan(stalled, targets=TARGETS))
        worker = site.start("work", "--site", "default", "--token-key", site.key, "--until-idle")
        until_running(site, MOST)
        disk.fill()
        stalled.go_on()
        said = until_said(worker, "No space left on device")
        before = len(stalled.truth().mounts)
        time.sleep(REFUSED_S)
        after = len(stalled.truth().mounts)
        disk.give_space()

        assert "database.away" in said
        assert before == after < TARGETS
        code, _, err = ended(worker)
        assert code == 0, err
        require_clean(stalled, TARGETS)
        assert site.status(run)["run"]["exit_code"] == 0


def test_a_database_that_ends_for_want_of_room_for_its_log_is_waited_for(
    full: PrivateServer, site: Site, stalled: Servers
) -> None:
    """PostgreSQL panics, cannot recover on the full disk, and ends; somebody starts it again."""
    with small_disk(full, "pg_wal", 64) as disk:
        run = site.submit(site.plan(stalled, targets=TARGETS))
        worker = site.start("work", "--site", "default", "--token-key", site.key, "--until-idle")
        until_running(site, MOST)
        disk.fill()
        until(lambda: panics(full))
        stalled.go_on()
        said = until_said(worker, "database.away")
        before = len(stalled.truth().mounts)
        time.sleep(REFUSED_S)
        after = len(stalled.truth().mounts)
        started_again(full, disk)

        assert "database.away" in said
        assert before == after == MOST
        code, _, err = ended(worker)
        assert code == 0, err
        require_clean(stalled, TARGETS)
        assert site.status(run)["run"]["exit_code"] == 0


def panics(server: PrivateServer) -> bool:
    """Use up a part of the log; return whether the server has panicked for want of the next."""
    with suppress(psycopg.OperationalError), psycopg.connect(server.url()) as connection:
        connection.execute("SELECT pg_switch_wal(), pg_logical_emit_message(true, 'full', 'x')")
    return "PANIC:  could not write to file" in (server.directory / "log").read_text()


def started_again(server: PrivateServer, disk: SmallDisk) -> None:
    """Give space back, and start the server if it has given up by itself."""
    disk.give_space()
    with suppress(CannotStart):  # it has recovered by itself meanwhile
        server.start()
    until(lambda: bool(answers(server)))


def answers(server: PrivateServer) -> bool:
    """Return whether a server answers."""
    try:
        psycopg.connect(server.url()).close()
    except psycopg.OperationalError:
        return False
    return True
