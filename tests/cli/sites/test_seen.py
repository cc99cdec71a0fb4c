"""What people see of a run over several machines while it does not go on as it should."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.database.private_server import PrivateServer, private_server
from tests.cli.sites.site import Site, until
from tests.database.template import TEMPLATE, make_template
from tests.processes import Servers, ended
from tests.views.screen import Drawn

pytestmark = pytest.mark.process


def watching(site: Site, *more: str) -> Drawn:
    """Start `watch` on a terminal."""
    return Drawn(site.arguments("watch", *more), rows=24, columns=100)


def test_the_live_view_says_that_a_site_has_no_worker(stalled: Servers, site: Site) -> None:
    """As `status` does: after a while no end is promised, and whoever reads lines is told too."""
    submitted = site.call("submit", site.plan(stalled, dr="moon"))
    run = submitted.stdout.splitlines()[0]
    here = site.work("--until-idle")
    until(lambda: " under way" in site.call("status").stdout)

    watch = watching(site, run)
    screen = watch.until("1 shard waits: no worker serves site moon")
    title = next(line for line in screen.lines if "process-drill" in line)
    status, listed = site.call("status", run).stdout, site.call("status").stdout
    held_up_by = site.status(run)["held_up_by"]
    targets = site.call("list", run).stdout
    report = site.call("report", run, "--report", site.directory / "interim")
    files = [Path(each) for each in report.stdout.splitlines()]
    interim = "".join(each.read_text() for each in files)
    site.call("stop", run)
    until(lambda: "stopping (" in site.call("status", run).stdout)
    stalled.go_on()
    there = site.work("--until-idle", site="moon")

    assert "time left: not known, a part of it stands still" in title
    assert "no worker serves site moon yet; start one" in submitted.stderr
    for text in (status, listed, targets):
        assert "1 shard waits: no worker serves site moon" in text
    assert " under way; 1 shard waits" in listed
    assert held_up_by == ["1 shard waits: no worker serves site moon"]
    assert report.returncode == 0, report.stderr
    assert "What became of the unknown targets" not in interim
    assert [ended(each)[0] for each in (here, there)] == [0, 0]
    _, _, code = watch.to_its_end()
    assert code == 0
    assert not any("shard waits" in line for line in watch.screen().lines)


@pytest.fixture
def alone() -> Iterator[PrivateServer]:
    """Start a database server of this test's own; `PG_BINARIES` names another one."""
    chosen = os.environ.get("PG_BINARIES")
    with private_server(binaries=Path(chosen) if chosen else None) as running:
        make_template(running)
        yield running


def test_a_database_that_is_away_is_said_and_leaves_no_part_of_an_older_picture(
    alone: PrivateServer, stalled: Servers, tmp_path: Path
) -> None:
    """Since when; the picture stays in its place, and goes on when the database is back."""
    site = Site(tmp_path, address=alone.url(TEMPLATE, "drill"))
    run = site.submit(site.plan(stalled, targets=2))
    watch = watching(site, run, "--wait")
    watch.until("shards wait: no worker serves site default")

    alone.stop(immediate=True)
    away = watch.until("the database is away since")
    alone.start()
    back = watch.until("shards wait: no worker serves site default")
    watch.process.kill()

    for screen in (away, back):
        shown = [*screen.scrolled, *screen.lines]
        assert sum("0/0 done  0 open" in line for line in shown) == 1  # nothing is planned yet
        assert not any("database.away" in line for line in shown)
    watch.to_its_end()


def test_a_run_that_waits_for_a_worker_is_not_called_dead(stalled: Servers, site: Site) -> None:
    """In the metrics that `serve` writes: nothing has gone wrong, and nobody need resume it."""
    run = site.submit(site.plan(stalled, targets=2))
    metrics = site.directory / "run.prom"
    assert site.address is not None
    serving = site.start("serve", run, "--state", site.address, "--metrics-file", str(metrics))

    def is_in(state: str) -> bool:
        assert serving.poll() is None
        return metrics.exists() and f'state="{state}"}} 1\n' in metrics.read_text()

    until(lambda: is_in("waiting"))
    stalled.go_on()
    worker = site.work("--until-idle")

    assert ended(worker)[0] == 0
    until(lambda: is_in("finished"))
    serving.send_signal(signal.SIGINT)
    assert ended(serving)[0] == 0
