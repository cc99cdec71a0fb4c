"""A primary that is lost, and a standby that does not answer, during a run of real workers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.app.planned_limits import limits_of
from orchestrator.database.private_server import OWNER, PrivateServer, private_server
from orchestrator.plan.file.loading import load_plan
from tests.cli.sites.site import MOST, Site, require_clean, until, until_running
from tests.database.standby import Standby, either, standby_of
from tests.database.template import TEMPLATE, make_template
from tests.invariants import assert_invariants
from tests.processes import Servers, ended

pytestmark = pytest.mark.process

TARGETS = 24
UNSURE_S = 12.0
"""Longer than a worker may be sure of its leases without an answer."""


@pytest.fixture
def primary() -> Iterator[PrivateServer]:
    """Start a server of this test's own, with our schema; `PG_BINARIES` names another one."""
    chosen = os.environ.get("PG_BINARIES")
    with private_server(binaries=Path(chosen) if chosen else None) as running:
        make_template(running)
        yield running


@pytest.fixture
def standby(primary: PrivateServer) -> Iterator[Standby]:
    """Start a synchronous standby of it."""
    with standby_of(primary) as running:
        yield running


@pytest.fixture
def site(primary: PrivateServer, standby: Standby, tmp_path: Path) -> Site:
    """Return a place whose address names both servers."""
    key = tmp_path / "token.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(32))
    return Site(tmp_path, address=either(primary, standby, TEMPLATE, "drill"))


def test_a_run_outlives_its_primary(
    primary: PrivateServer, standby: Standby, site: Site, stalled: Servers
) -> None:
    """It is lost with mounts open; the standby knows all that was acknowledged."""
    plan = site.plan(stalled, targets=TARGETS)
    waiting = site.start("submit", plan, "--wait")
    until(lambda: site.call("status", "last").returncode == 0)
    workers = [site.work("--until-idle", "--shards", "2") for _ in range(2)]
    until_running(site, MOST)

    primary.stop(immediate=True)
    stalled.go_on()
    standby.promote()

    code, out, err = ended(waiting)
    assert [ended(each)[0] for each in workers] == [0, 0]
    assert code == 0, (out, err)
    require_clean(stalled, TARGETS)
    assert_invariants(stalled.truth(), site.values(), limits_of(load_plan(plan).plan, None))
    verified = site.call("report", "--verify", site.report)
    assert verified.returncode == 0, verified.stderr


def test_nothing_is_posted_while_the_standby_does_not_answer(
    primary: PrivateServer, standby: Standby, site: Site, stalled: Servers
) -> None:
    """Not even when somebody cancels the wait: the commit succeeds then, and is in doubt."""
    run = site.submit(site.plan(stalled, targets=TARGETS))
    workers = [site.work("--until-idle", "--shards", "2") for _ in range(2)]
    until_running(site, MOST)
    standby.stop(immediate=True)
    stalled.go_on()  # slots are free as soon as a record says so

    until(lambda: cancelled_waits(primary) > 0)
    time.sleep(UNSURE_S)
    before = stalled.truth()
    until(lambda: cancelled_waits(primary) > 0)
    time.sleep(UNSURE_S)
    after = stalled.truth()

    assert len(before.mounts) == len(after.mounts) == MOST
    assert [each.closed_at for each in before.mounts] == [each.closed_at for each in after.mounts]
    assert [each.poll() for each in workers] == [None, None]
    standby.start()
    assert [ended(each)[0] for each in workers] == [0, 0]
    assert site.status(run)["run"]["exit_code"] == 0
    require_clean(stalled, TARGETS)


def test_the_check_says_whether_a_standby_confirms_commits(
    primary: PrivateServer, standby: Standby, site: Site
) -> None:
    """There; then not there any more, so that a commit would hang. Workers see no details."""
    there = checked(site)
    site.address = either(primary, standby, TEMPLATE, OWNER)
    seen = checked(site)
    standby.stop(immediate=True)
    try:
        hanging = checked(site)
    finally:
        standby.start()

    assert there["ready"] is True
    assert there["standby"]["status"] == "ok"
    assert there["standby"]["words"] == "synchronous: standby"
    assert seen["standby"]["words"] == "synchronous: standby, 1 seen"
    assert hanging["ready"] is False
    assert hanging["commits"]["status"] == "problem"
    assert hanging["standby"]["words"] == "synchronous: standby"


def checked(site: Site) -> dict[str, Any]:
    """Return what `database check --json` says."""
    done = site.call("database", "check", "--json", "--state", str(site.address))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cancelled_waits(primary: PrivateServer) -> int:
    """Cancel every commit that waits for the standby; return how many there were."""
    with psycopg.connect(primary.url(), autocommit=True) as connection:
        ((count,),) = connection.execute(
            "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity "
            "WHERE wait_event = 'SyncRep'"
        ).fetchall()
    return int(count)
