"""A real PgBouncer in transaction mode: it is told, and nothing of a run suffers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from orchestrator.database.private_server import PrivateServer
from tests.cli.sites.site import Site, require_clean, until
from tests.database.owner import Owner
from tests.database.pool import pooled, require_pgbouncer
from tests.processes import Servers, ended, kill, until_said

pytestmark = pytest.mark.process

TOLD = "a pool in between gives every transaction another connection"


@pytest.fixture
def beside(server: PrivateServer, site: Site) -> Iterator[Site]:
    """Return the place, whose way to the database goes through a pool of three connections."""
    require_pgbouncer()
    assert site.address is not None
    with pooled(server, site.address, "transaction") as address:
        yield replace(site, address=address)


def test_every_command_that_would_listen_tells_of_it(beside: Site, quick: Servers) -> None:
    """Each in its way: `check` as a problem, the others as a warning, and go on."""
    checked = beside.call("database", "check", "--state", str(beside.address))
    submitted = beside.call("submit", beside.plan(quick))
    worker = beside.start("work", "--site", "default", "--token-key", beside.key)

    said = until_said(worker, TOLD)
    kill(worker)

    assert (checked.returncode, submitted.returncode) == (74, 0)
    assert f"not heard: {TOLD}" in checked.stdout
    assert "notifications.not_heard" in submitted.stderr
    assert TOLD in submitted.stderr
    assert submitted.stdout.count("\n") == 1
    assert "notifications.not_heard" in said


def test_a_pool_that_keeps_a_connection_per_session_is_good(
    server: PrivateServer, site: Site, quick: Servers
) -> None:
    """Nothing is said of it."""
    require_pgbouncer()
    assert site.address is not None
    with pooled(server, site.address, "session", size=20) as address:
        there = replace(site, address=address)
        checked = there.call("database", "check", "--state", address)
        submitted = there.call("submit", there.plan(quick))

    assert checked.returncode == 0, checked.stdout
    said = [each for each in submitted.stderr.splitlines() if "no worker serves" not in each]
    assert (submitted.returncode, said) == (0, [])


def test_a_run_through_it_is_as_any_run(
    beside: Site, quick: Servers, owner: Owner, name: str
) -> None:
    """Two workers on three connections, and settings of the role that a pool keeps from us."""
    owner.configure(name, "plan_cache_mode = force_generic_plan")
    waiting = beside.start("submit", beside.plan(quick, targets=24), "--wait")
    until(lambda: beside.call("status", "last").returncode == 0)
    workers = [beside.work("--until-idle", "--shards", "2") for _ in range(2)]
    until(lambda: owner.rows("SELECT state FROM run") == [("ended",)])

    code, out, err = ended(waiting)

    assert [ended(each)[0] for each in workers] == [0, 0]
    assert code == 0, (out, err)
    require_clean(quick, 24)
    assert owner.one("SELECT coalesce(sum(takeovers), 0) FROM lease") == 0
    verified = beside.call("report", "--verify", beside.report)
    assert verified.returncode == 0, verified.stderr


def test_a_worker_that_is_killed_behind_it_is_succeeded(
    beside: Site, stalled: Servers, owner: Owner
) -> None:
    """Nothing of the dead one's connections is kept by the pool: no lock, no lease."""
    run = beside.submit(beside.plan(stalled, targets=6))
    first = beside.work()
    until(lambda: beside.call("status", run).stdout.count(": running; ") == 6)
    second = beside.work("--until-idle")

    kill(first)
    until(lambda: all(each["taken_over"] for each in beside.shards(run).values()))
    stalled.go_on()

    assert ended(second)[0] == 0
    assert beside.status(run)["run"]["exit_code"] == 0
    require_clean(stalled, 6)
