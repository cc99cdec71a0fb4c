"""What people see of a run over several machines while it does not go on as it should."""

from __future__ import annotations

import pytest

from tests.cli.sites.site import Site, until
from tests.processes import Servers, ended
from tests.views.screen import Drawn

pytestmark = pytest.mark.process


def watching(site: Site, *more: str) -> Drawn:
    """Start `watch` on a terminal."""
    return Drawn(site.arguments("watch", *more), rows=24, columns=100)


def test_the_live_view_says_that_a_site_has_no_worker(stalled: Servers, site: Site) -> None:
    """As `status` does: after a while no end is promised, and whoever reads lines is told too."""
    run = site.submit(site.plan(stalled, dr="moon"))
    here = site.work("--until-idle")
    until(lambda: site.shards(run)["hq"]["state"] == "served")

    watch = watching(site, run)
    screen = watch.until("1 shard waits: no worker serves site moon")
    title = next(line for line in screen.lines if "process-drill" in line)
    status = site.call("status", run).stdout
    stalled.go_on()
    there = site.work("--until-idle", site="moon")

    assert "time left: not known, a part of it stands still" in title
    assert "1 shard waits: no worker serves site moon" in status
    assert [ended(each)[0] for each in (here, there)] == [0, 0]
    _, _, code = watch.to_its_end()
    assert code == 0
    assert not any("shard waits" in line for line in watch.screen().lines)
